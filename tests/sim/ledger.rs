//! What was promised to whom. Invariant: it sees every change of the directory and every answer of the
//! rules at the moment of it, and keeps the first violation.
//!
//! What is checked:
//!
//! - one holder: of the live processes that were told that they hold the lock, there is one, not counting
//!   those whose lease had run out while others could not probe them;
//! - nothing lost: a staged id that was acknowledged stays until a run has consumed it, also after a power
//!   loss if it was staged with full durability;
//! - nothing half: what has the name of an entry is whole, at every moment and after a power loss;
//! - exactly the consumed: only what a consolidator has dealt with is committed, only what is committed is
//!   removed, and with full durability not before the commit is on the platter;
//! - at most once after the commit: no entry is committed by two runs, and none is handed out after it was
//!   committed; also after a power loss, if its run was durable and has reported success;
//! - the outcome of a committed run says so at the end;
//! - and what [`super::records`] says of memory records.

use super::disk::Disk;
use super::records::Records;
use super::schedule::{Fate, Op};
use consolidation_guest::entry;
use consolidation_guest::fs::{FsErrorKind, Time};
use consolidation_guest::layout::{
    EntryId, OWNERS_PATH, Progress, RUNS, RunId, STAGING, Token, UNFINISHED_PATH,
};
use consolidation_guest::outcome::{Ending, Outcome};
use std::collections::{BTreeMap, BTreeSet};

/// A process that was told that it holds the lock.
#[derive(Clone, Debug)]
struct Hold {
    process: usize,
    token: Token,
    lease_seconds: Option<u32>,
    /// When the lease was renewed last, by the clock of the disk.
    renewed: Time,
    /// Its lease has run out at some moment.
    late: bool,
}

impl Hold {
    fn notice(&mut self, now: Time, others: bool) {
        // Whoever can probe a process does not care for its lease.
        self.late |= others && self.lease_seconds.is_some_and(|lease| self.renewed.plus_seconds(lease) < now);
    }
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) steps: usize,
    pub(super) acquired: usize,
    pub(super) refused: usize,
    pub(super) took_over: usize,
    pub(super) late_owners: usize,
    pub(super) lock_lost: usize,
    pub(super) staged: usize,
    pub(super) commits: usize,
    pub(super) consumed: usize,
    pub(super) changed: usize,
    pub(super) undone: usize,
    pub(super) kills: usize,
    pub(super) traps: usize,
    pub(super) faults: usize,
    pub(super) pauses: usize,
    pub(super) power_losses: usize,
    pub(super) handed_twice: usize,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Counts) {
        self.steps += other.steps;
        self.acquired += other.acquired;
        self.refused += other.refused;
        self.took_over += other.took_over;
        self.late_owners += other.late_owners;
        self.lock_lost += other.lock_lost;
        self.staged += other.staged;
        self.commits += other.commits;
        self.consumed += other.consumed;
        self.changed += other.changed;
        self.undone += other.undone;
        self.kills += other.kills;
        self.traps += other.traps;
        self.faults += other.faults;
        self.pauses += other.pauses;
        self.power_losses += other.power_losses;
        self.handed_twice += other.handed_twice;
    }
}

/// See the head of the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    violation: Option<String>,
    holds: Vec<Hold>,
    /// The contents of all files that were ever to be staged.
    contents: BTreeSet<Vec<u8>>,
    /// What was acknowledged, with its content, and whether it survives a power loss.
    staged: BTreeMap<EntryId, (Vec<u8>, bool)>,
    /// What the consolidator of a process that holds the lock has dealt with.
    dealt_with: BTreeMap<usize, BTreeSet<EntryId>>,
    /// What a consolidator has dealt with.
    consumed: BTreeSet<EntryId>,
    /// What was committed, and by which run.
    committed: BTreeMap<EntryId, RunId>,
    sealed: BTreeSet<RunId>,
    excused: BTreeSet<usize>,
    /// What a durable run has reported as consumed.
    reported: BTreeSet<EntryId>,
    handed: BTreeSet<EntryId>,
    /// Something was staged, or a run was made, without durability.
    careless: bool,
    /// Synchronising a directory was answered with "that can't be done here".
    no_dir_sync: bool,
    /// And the power was lost since: there may be entries that are half, and outcomes that are old.
    pub(super) torn: bool,
    /// The file system has said of something that it is not there, and it was.
    pub(super) lied_to: bool,
    payloads: u64,
    pub(super) records: Records,
    /// Where there are processes, or were.
    namespaces: BTreeSet<u32>,
    pub(super) counts: Counts,
}

/// The entry of which this is the path.
fn entry_at(path: &str) -> Option<EntryId> {
    EntryId::from_file_name(path.strip_prefix(STAGING)?.strip_prefix('/')?)
}

fn path_of(id: EntryId) -> String {
    format!("{STAGING}/{}", id.file_name())
}

impl Ledger {
    /// Something is wrong.
    pub(super) fn violated(&mut self, why: String) {
        self.violation.get_or_insert(why);
    }

    /// What went wrong first.
    pub(super) fn violation(&self) -> Option<String> {
        self.violation.clone()
    }

    pub(super) fn met(&mut self, op: Op, fate: Fate) {
        let counts = &mut self.counts;
        counts.steps += usize::from(!matches!(fate, Fate::Pause(_)));
        if let Fate::Refuse(kind) | Fate::After(kind) = fate {
            self.lied_to |= kind == FsErrorKind::NotFound;
            self.no_dir_sync |=
                op == Op::SyncNames && matches!(kind, FsErrorKind::Invalid | FsErrorKind::Unsupported);
        }
        match fate {
            Fate::Pass => {}
            Fate::Refuse(_) | Fate::After(_) | Fate::Short(_) => counts.faults += 1,
            Fate::Kill | Fate::KillWithin(_) => counts.kills += 1,
            Fate::Trap => counts.traps += 1,
            Fate::PowerLoss => counts.power_losses += 1,
            Fate::Pause(_) => counts.pauses += 1,
        }
    }

    /// A payload that no other is like.
    pub(super) fn new_payload(&mut self, size: usize) -> String {
        self.payloads += 1;
        let number = self.payloads;
        let payload = format!(
            r#"{{"source":{{"segment_id":"s{number}","range":[0,{number}]}},"requests":[{{"intent":"{}","summary":"s"}}]}}"#,
            "x".repeat(size)
        );
        let file = entry::to_file(&payload, None);
        self.contents.insert(file.expect("a payload").into_bytes());
        payload
    }

    /// A `stage` has returned these ids for these payloads.
    pub(super) fn acknowledged<'a>(
        &mut self,
        ids: impl IntoIterator<Item = (EntryId, &'a String)>,
        durable: bool,
    ) {
        for (id, payload) in ids {
            let file = entry::to_file(payload, None);
            let content = file.expect("a payload").into_bytes();
            self.counts.staged += 1;
            if self.staged.insert(id, (content, durable)).is_some() {
                self.violated(format!("{id} was given to two payloads"));
            }
        }
    }

    /// Something without durability begins.
    pub(super) fn careless(&mut self) {
        self.careless = true;
    }

    /// Something about records may be wrong. One who is lied to can't know what to do with them.
    fn found(&mut self, checked: Result<(), String>) {
        if let Err(why) = checked
            && !self.lied_to
        {
            self.violated(why);
        }
    }

    /// A name is there, or its file has changed.
    pub(super) fn appeared(&mut self, path: &str, content: Option<&[u8]>) {
        self.found(self.records.appeared(path, content));
        let Some(id) = entry_at(path) else { return };
        let content = content.unwrap_or_default();
        if !self.contents.contains(content) {
            self.violated(format!(
                "{path} is half: {:?}",
                String::from_utf8_lossy(content).chars().take(60).collect::<String>()
            ));
        } else if let Some((staged, _)) = self.staged.get(&id)
            && staged != content
        {
            self.violated(format!("{path} has the content of another"));
        }
    }

    /// Something is renamed over a name.
    pub(super) fn overwritten(&mut self, path: &str) {
        if entry_at(path).is_some() {
            self.violated(format!("{path} is overwritten"));
        }
    }

    /// A name is gone.
    pub(super) fn vanished(&mut self, path: &str, disk: &Disk) {
        self.found(self.records.vanished(path, disk));
        let Some(id) = entry_at(path) else { return };
        let Some(run) = self.committed.get(&id).copied() else {
            // A commit without durability may have come back with the power.
            if self.torn && self.consumed.contains(&id) {
                return;
            }
            self.violated(format!("{path} is removed, and no run that consumed it is committed"));
            return;
        };
        let unfinished = format!("{UNFINISHED_PATH}/{}", Progress::Committed.name(run));
        let durable = [unfinished, outcome_path(run)].iter().any(|path| disk.is_durable(path));
        if !durable && !self.careless && !self.no_dir_sync {
            self.violated(format!("{path} is removed before the commit of run {run} is durable"));
        }
        let durable = !self.careless && !self.no_dir_sync;
        self.found(self.records.check_made(run, durable, disk));
    }

    /// A process has renamed a file among the unfinished runs.
    pub(super) fn progressed(&mut self, path: &str, by: usize, disk: &Disk) {
        let name = path.strip_prefix(UNFINISHED_PATH).and_then(|name| name.strip_prefix('/'));
        match name.and_then(Progress::parse) {
            Some((run, Progress::Sealed)) => {
                self.sealed.insert(run);
            }
            Some((run, Progress::Committed)) => {
                self.counts.commits += 1;
                if self.sealed.contains(&run) {
                    self.violated(format!("run {run} is committed after it was sealed"));
                }
                let outcome = disk.content(path).map(Outcome::parse);
                let Some(Ok(outcome @ Outcome { outcome: Ending::Consolidated | Ending::Undone, .. })) =
                    outcome
                else {
                    self.violated(format!("run {run} is committed with {outcome:?}"));
                    return;
                };
                self.counts.changed += usize::from(!outcome.changes.is_empty());
                self.counts.undone += usize::from(outcome.outcome == Ending::Undone);
                let checked = self.records.committed(run, by, &outcome, disk);
                self.found(checked);
                let Outcome { entry_ids, .. } = outcome;
                for id in entry_ids {
                    if !self.dealt_with.get(&by).is_some_and(|ids| ids.contains(&id)) {
                        self.violated(format!(
                            "{id} is committed, and its consolidator did not deal with it"
                        ));
                    }
                    if let Some(other) = self.committed.insert(id, run)
                        && other != run
                        && !self.lied_to
                    {
                        self.violated(format!("{id} is committed by the runs {other} and {run}"));
                    }
                }
            }
            Some((_, Progress::Open)) | None => {}
        }
    }

    /// Whatever this process thinks that it holds does not count.
    pub(super) fn excuse(&mut self, process: usize) {
        self.excused.insert(process);
    }

    /// A process starts.
    pub(super) fn starts(&mut self, namespace: u32) {
        self.namespaces.insert(namespace);
    }

    /// `acquire` has returned.
    pub(super) fn holds(
        &mut self,
        process: usize,
        token: Token,
        lease_seconds: Option<u32>,
        disk: &Disk,
        now: Time,
    ) {
        self.counts.acquired += 1;
        let others = self.namespaces.len() > 1;
        for hold in &mut self.holds {
            let was_late = hold.late;
            hold.notice(now, others);
            self.counts.late_owners += usize::from(hold.late && !was_late);
        }
        // The flag was written some time before, and it is the flag that others look at.
        let token_text = token.to_string();
        let flag = disk
            .paths()
            .into_iter()
            .find(|path| path.starts_with(OWNERS_PATH) && path.ends_with(&token_text))
            .and_then(|path| disk.modified(&path));
        let renewed = flag.unwrap_or(Time::from_nanos(0));
        let mut hold = Hold { process, token, lease_seconds, renewed, late: false };
        hold.notice(now, others);
        hold.late |= self.excused.contains(&process);
        // It may be late from the beginning: stopped between raising its flag and taking the lock.
        if let Some(other) = self.holds.iter().find(|other| !other.late && !hold.late) {
            let other = other.process;
            self.violated(format!("process {process} holds the lock, and process {other} holds it too"));
        }
        self.holds.push(hold);
    }

    /// The lease was renewed by a call that began then.
    pub(super) fn refreshed(&mut self, token: Token, begun: Time, now: Time) {
        let others = self.namespaces.len() > 1;
        if let Some(hold) = self.holds.iter_mut().find(|hold| hold.token == token) {
            hold.notice(now, others);
            hold.renewed = begun;
        }
    }

    /// A process no longer thinks that it holds the lock.
    pub(super) fn holds_no_longer(&mut self, token: Token) {
        self.holds.retain(|hold| hold.token != token);
    }

    /// A process removes the lock, which it does in the release of its own.
    pub(super) fn gives_up(&mut self, process: usize) {
        self.holds.retain(|hold| hold.process != process);
    }

    /// A process is dead.
    pub(super) fn died(&mut self, process: usize) {
        self.holds.retain(|hold| hold.process != process);
        self.run_failed(process);
    }

    /// The consolidator of this process is given an entry.
    pub(super) fn handed(&mut self, process: usize, id: EntryId, line: &str, disk: &Disk, now: Time) {
        let is_line_of = |content: &Vec<u8>| entry::to_line(content, id).is_ok_and(|(own, _)| own == line);
        let whole = match self.staged.get(&id) {
            Some((content, _)) => is_line_of(content),
            None => match disk.content(&path_of(id)).and_then(|content| self.contents.get(content)) {
                Some(content) => is_line_of(content),
                // It is gone by now: a late owner has consumed it too.
                None => self.contents.iter().any(is_line_of),
            },
        };
        if !whole {
            self.violated(format!("the consolidator is given {line}"));
        }
        // One that was stopped for too long may have read it before.
        let others = self.namespaces.len() > 1;
        let hold = self.holds.iter_mut().find(|hold| hold.process == process);
        let is_late = hold.is_some_and(|hold| {
            hold.notice(now, others);
            hold.late
        });
        if let Some(run) = self.committed.get(&id)
            && !self.lied_to
            && !is_late
        {
            let why = format!("{id} is handed out after run {run} was committed with it");
            self.violated(why);
        }
        if !self.handed.insert(id) {
            self.counts.handed_twice += 1;
        }
    }

    /// The consolidator of this process has dealt with entries: they may be committed.
    pub(super) fn dealt_with(&mut self, process: usize, ids: &[EntryId]) {
        self.consumed.extend(ids);
        self.dealt_with.insert(process, ids.iter().copied().collect());
    }

    /// The run of this process has ended. What it says that it has consumed, and what it could not remove.
    pub(super) fn run_ended(
        &mut self,
        process: usize,
        consumed: &[EntryId],
        failed: &[EntryId],
        disk: &Disk,
    ) {
        self.dealt_with.remove(&process);
        self.counts.consumed += consumed.len();
        for id in consumed {
            if !self.committed.contains_key(id) {
                self.violated(format!("{id} is reported as consumed and was not committed"));
            }
            if disk.content(&path_of(*id)).is_some() && !failed.contains(id) && !self.lied_to {
                self.violated(format!("{id} is reported as removed and is there"));
            }
        }
        if !self.careless && !self.no_dir_sync {
            self.reported.extend(consumed);
        }
        let durable = !self.careless && !self.no_dir_sync;
        let checked = self.records.run_ended(process, durable, disk);
        self.found(checked);
    }

    /// The run of this process has ended without a report.
    pub(super) fn run_failed(&mut self, process: usize) {
        self.dealt_with.remove(&process);
        self.records.over(process);
    }

    /// Looks at the whole disk.
    pub(super) fn check(&mut self, disk: &Disk) {
        self.check_records(false, disk);
        let paths = disk.paths();
        let files = paths.iter().filter(|path| disk.content(path).is_some());
        let present: BTreeSet<EntryId> = files.filter_map(|path| entry_at(path)).collect();
        for id in &present {
            if !self.torn || self.staged.contains_key(id) {
                let path = path_of(*id);
                self.appeared(&path, disk.content(&path));
            }
        }
        let lost = self.staged.keys().find(|id| !present.contains(id) && !self.consumed.contains(id));
        if let Some(id) = lost {
            let why = format!("{id} was staged and is lost");
            self.violated(why);
        }
    }

    fn check_records(&mut self, quiet: bool, disk: &Disk) {
        if let Err(why) = self.records.check(quiet, self.lied_to, disk) {
            self.violated(why);
        }
    }

    /// As [`Self::check`], after the power has failed.
    pub(super) fn check_after_power_loss(&mut self, disk: &Disk) {
        self.torn |= self.careless || self.no_dir_sync;
        let runs: BTreeSet<RunId> = outcomes_on(disk).into_iter().map(|(run, _)| run).collect();
        let checked = self.records.after_power_loss(self.torn, &runs, disk);
        self.found(checked);
        // What was staged without durability was given no promise.
        self.staged.retain(|_, (_, durable)| *durable);
        if self.no_dir_sync {
            self.staged.clear();
            self.reported.clear();
        }
        self.check(disk);
        // A commit that nobody was told of may be lost. Then its entries come again.
        let committed = committed_on(disk);
        let lost = self.reported.iter().find(|id| !committed.contains_key(id));
        if let Some(id) = lost {
            let why = format!("the commit of {id} is lost");
            self.violated(why);
        }
        // Without durability the deletes may be lost, and the commit not.
        self.committed = if self.torn { BTreeMap::new() } else { committed };
    }

    /// At the end, when everybody is gone and a newcomer has consumed what there was.
    pub(super) fn check_all_consumed(&mut self, disk: &Disk) {
        self.check_records(true, disk);
        if let Some(id) = self.staged.keys().find(|id| !self.consumed.contains(id)) {
            let why = format!("{id} was staged and never handed out");
            self.violated(why);
        }
        let noted = committed_on(disk);
        if let Some((id, run)) = self.committed.iter().find(|(id, run)| noted.get(id) != Some(run))
            && !self.lied_to
            && !self.torn
        {
            let outcome = disk.content(&outcome_path(*run)).map(String::from_utf8_lossy);
            let why = format!("{id} was committed by run {run}, whose outcome is {outcome:?}");
            self.violated(why);
        }
    }
}

fn outcome_path(run: RunId) -> String {
    format!("{RUNS}/{}", run.file_name())
}

/// The committed runs on a disk.
fn outcomes_on(disk: &Disk) -> Vec<(RunId, Outcome)> {
    let mut committed = Vec::new();
    for path in disk.paths() {
        let unfinished = path.strip_prefix(UNFINISHED_PATH).and_then(|name| name.strip_prefix('/'));
        let run = match unfinished.and_then(Progress::parse) {
            Some((run, Progress::Committed)) => Some(run),
            Some(_) => None,
            None => path.strip_prefix(RUNS).and_then(|name| RunId::from_file_name(name.strip_prefix('/')?)),
        };
        let outcome = disk.content(&path).and_then(|content| Outcome::parse(content).ok());
        if let (Some(run), Some(outcome)) = (run, outcome)
            && matches!(outcome.outcome, Ending::Consolidated | Ending::Undone)
        {
            committed.push((run, outcome));
        }
    }
    committed
}

/// The entries of the committed runs on a disk.
fn committed_on(disk: &Disk) -> BTreeMap<EntryId, RunId> {
    let of = |(run, outcome): (RunId, Outcome)| outcome.entry_ids.into_iter().map(move |id| (id, run));
    outcomes_on(disk).into_iter().flat_map(of).collect()
}
