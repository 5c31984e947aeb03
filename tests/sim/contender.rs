//! What a pod does, with the guest's own code: it stages, it consolidates, it drops an instance. It
//! treats errors as the host does, and writes into the ledger what it is told.

use super::beginnings::LOOKS_LIKE_AN_ENTRY;
use super::world::{Process, SimDir, SimSystem, State};
use consolidation_guest::durable::Durability;
use consolidation_guest::error::{Error, ErrorCode};
use consolidation_guest::fs::{Content, Dir, FsError, FsErrorKind};
use consolidation_guest::layout::{BEFORE_PATH, EntryId, MEMORY, RecordName, Token};
use consolidation_guest::lock::{AcquireOptions, Held, ReleaseReport};
use consolidation_guest::memory::Change;
use consolidation_guest::memory::format::MAX_RECORD_BYTES;
use consolidation_guest::staging::Limits;
use consolidation_guest::workspace::Workspace;

type Rules = Workspace<SimDir, SimSystem>;
type Lock = Held<SimDir, SimSystem>;

/// How a run is to go.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    pub(super) lease_seconds: Option<u32>,
    pub(super) limits: Limits,
    /// How many milliseconds the consolidator takes, and how often the lease is renewed meanwhile.
    pub(super) work_ms: u32,
    pub(super) renewals: u32,
    /// The consolidator fails.
    pub(super) fails: bool,
    /// It stops reading after the first two entries, and answers for no more than those.
    pub(super) stops_early: bool,
    /// The instance is dropped under the lock.
    pub(super) drops: bool,
    pub(super) durability: Durability,
    /// The entries are deleted in calls of so many; 0: in the release.
    pub(super) chunk: u32,
    /// Which of [`RECORDS`] it changes.
    pub(super) changes: [bool; RECORDS.len()],
    /// Instead of all this it undoes the last run that changed records.
    pub(super) undoes: bool,
    /// What fails is tried once more under the same lock, by a consolidator that reads everything again.
    pub(super) goes_on: bool,
}

/// The records that runs change: two of one kind and one of another.
pub(super) const RECORDS: [(&str, &str); 3] = [("fact", "a"), ("fact", "b"), ("rule", "c")];

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// So many entries were consumed.
    Consolidated(usize),
    /// The consolidator failed, or the lock was lost.
    Kept,
    /// The instance was dropped, or trapped.
    Dropped,
}

/// Stages payloads of this size.
pub(super) fn stage(
    process: &Process,
    count: usize,
    size: usize,
    durability: Durability,
) -> Result<(), Error> {
    let payloads: Vec<String> =
        process.with(|state| (0..count).map(|_| state.ledger.new_payload(size)).collect());
    let durable = durability == Durability::Full;
    if !durable {
        process.with(|state| state.ledger.careless());
    }
    let Some(staged) = process.instance(|| process.workspace().stage(&payloads, None, durability)) else {
        return Ok(());
    };
    let (ids, durable, result) = match staged {
        Ok(ids) => (ids, durable, Ok(())),
        // They are there, and whether they survive a power loss is what could not be made certain.
        Err(error) => (error.staged.clone(), false, Err(error)),
    };
    process.with(|state| state.ledger.acknowledged(ids.into_iter().zip(&payloads), durable));
    result
}

/// A whole run: acquires, consolidates, releases.
pub(super) fn consolidate(process: &Process, how: &How) -> Result<Ran, Error> {
    let token = process.token();
    let options = AcquireOptions {
        pod_name: format!("pod-{}", process.actor()),
        lease_seconds: how.lease_seconds,
        token: Some(token),
        durability: how.durability,
        coexist: false,
    };
    if how.durability == Durability::None {
        process.with(|state| state.ledger.careless());
    }
    let rules = process.workspace();
    let (held, took_over) = match process.instance(|| rules.acquire(&options)) {
        Some(Ok(acquired)) => acquired,
        Some(Err(error)) => {
            process.with(|state| {
                state.ledger.counts.refused += usize::from(error.code == ErrorCode::InUse);
            });
            // A plain refusal leaves nothing.
            if error.code != ErrorCode::InUse {
                abandon(process, token);
            }
            return Err(error);
        }
        None => {
            abandon(process, token);
            return Ok(Ran::Dropped);
        }
    };
    process.with(|state| {
        state.ledger.counts.took_over += usize::from(took_over.is_some());
        state.ledger.holds(process.id(), token, how.lease_seconds, &state.disk, state.clock);
    });
    let ran = under_lock(process, &rules, held, token, how);
    if let Err(error) = &ran {
        process.with(|state| {
            state.ledger.run_failed(process.id());
            state.ledger.counts.lock_lost += usize::from(error.code == ErrorCode::LockLost);
        });
        // The handle is gone and nobody can try again with it.
        abandon(process, token);
    }
    ran
}

fn under_lock(
    process: &Process,
    rules: &Rules,
    mut held: Lock,
    token: Token,
    how: &How,
) -> Result<Ran, Error> {
    let over = || process.with(|state| state.ledger.holds_no_longer(token));
    let dropped = || {
        process.with(|state| state.ledger.run_failed(process.id()));
        abandon(process, token);
        Ok(Ran::Dropped)
    };
    if how.undoes {
        let undone = process.instance(|| undo(process, rules, held, token, how));
        over();
        return undone.unwrap_or_else(dropped);
    }
    let Some(consumed) = process.instance(|| consolidator(process, rules, &mut held, token, how)) else {
        over();
        return dropped();
    };
    if how.drops {
        over();
        drop(held);
        return dropped();
    }
    let mut failed: Vec<EntryId> = Vec::new();
    let failed_in = |report: ReleaseReport| report.failed.into_iter().map(|(id, _)| id);
    let released = process.instance(|| match &consumed {
        Ok(Some(ids)) => {
            for _ in 0..ids.len().checked_div(how.chunk as usize).unwrap_or(0) {
                match held.clean_up(how.chunk) {
                    Ok(report) => failed.extend(failed_in(report)),
                    // What it has deleted is not known. The release that follows takes down what is ours.
                    Err(_) => {
                        failed.clone_from(ids);
                        break;
                    }
                }
            }
            if how.goes_on {
                match (held.clean_up(u32::MAX), proposal(process, how.changes)) {
                    (Ok(report), _) => failed.extend(failed_in(report)),
                    // If it is too late for other changes, the earlier ones are in force.
                    (Err(error), Ok(changes)) if error.code != ErrorCode::LockLost => {
                        let _ = give(process, &mut held, changes);
                    }
                    _ => {}
                }
            }
            held.release_with_cleanup()
        }
        Ok(None) => held.release_only(Some("it fails")),
        Err(error) => held.release_only(Some(&error.message)),
    });
    over();
    let Some(released) = released else { return dropped() };
    match (consumed, released) {
        (Ok(Some(ids)), Ok(report)) => {
            failed.extend(failed_in(report));
            process.with(|state| {
                let State { ledger, disk, .. } = state;
                ledger.run_ended(process.id(), &ids, &failed, disk);
            });
            Ok(Ran::Consolidated(ids.len()))
        }
        (Ok(None), Ok(_)) => Ok(Ran::Kept),
        (Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}

/// Gives changes to the run.
fn give(process: &Process, held: &mut Lock, changes: Vec<Change>) -> Result<(), Error> {
    held.take_changes(changes.clone())?;
    process.with(|state| state.ledger.records.proposes(process.id(), &changes));
    Ok(())
}

/// Undoes the last run that has changed records.
fn undo(process: &Process, rules: &Rules, mut held: Lock, token: Token, how: &How) -> Result<Ran, Error> {
    let Some(run) = process.with(|state| state.ledger.records.last_run()) else {
        return held.release_only(None).map(|_| Ran::Kept);
    };
    match held.undo(run) {
        Ok(_) => {
            held.release_with_cleanup()?;
            process.with(|state| {
                let State { ledger, disk, .. } = state;
                ledger.run_ended(process.id(), &[], &[], disk);
            });
            Ok(Ran::Consolidated(0))
        }
        Err(error) => {
            if how.goes_on && consolidator(process, rules, &mut held, token, how).is_ok() {
                held.release_with_cleanup()?;
            } else {
                let _ = held.release_only(Some(&error.message));
            }
            Err(error)
        }
    }
}

/// What a consolidator would make of the records, each of which it has read.
fn proposal(process: &Process, which: [bool; RECORDS.len()]) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for ((kind, slug), _) in RECORDS.into_iter().zip(which).filter(|(_, is_changed)| *is_changed) {
        let name = RecordName::parse(kind, slug).expect("a name");
        let path = name.path();
        let read = || {
            let dir = process.root().open_dir(MEMORY)?.open_dir(kind)?;
            match dir.read_file(&name.file_name(), MAX_RECORD_BYTES)? {
                Content::Whole(content) => Ok(content),
                Content::TooLarge(_) | Content::NotAFile(_) => Err(FsError::new(FsErrorKind::Io)),
            }
        };
        let before = match read() {
            Ok(content) => String::from_utf8(content).ok(),
            Err(error) if error.kind == FsErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("read", path, &error)),
        };
        let after = process.with(|state| Some(state.ledger.records.new_text(&path)));
        changes.push(Change { name, before, after });
    }
    Ok(changes)
}

/// Reads the entries and deals with them; none: it fails at that.
fn consolidator(
    process: &Process,
    rules: &Rules,
    held: &mut Lock,
    token: Token,
    how: &How,
) -> Result<Option<Vec<EntryId>>, Error> {
    let mut snapshot = rules.take_snapshot(how.limits)?;
    rules.record_snapshot(held, &mut snapshot)?;
    loop {
        let batch = snapshot.next_batch(2, 1 << 20);
        for entry in &batch.entries {
            process.with(|state| {
                let State { ledger, disk, clock, .. } = state;
                ledger.handed(process.id(), entry.id, &entry.json, disk, *clock);
            });
        }
        if batch.done || how.stops_early {
            break;
        }
    }
    let changes = proposal(process, how.changes)?;
    process.work(how.work_ms);
    for _ in 0..how.renewals {
        let begun = process.with(|state| state.disk.stamp(state.clock));
        held.refresh()?;
        process.with(|state| state.ledger.refreshed(token, begun, state.clock));
        process.work(how.work_ms);
    }
    if how.fails {
        return Ok(None);
    }
    process.with(|state| state.ledger.dealt_with(process.id(), snapshot.read_ids()));
    rules.record_snapshot(held, &mut snapshot)?;
    if !changes.is_empty() {
        give(process, held, changes)?;
    }
    Ok(Some(snapshot.read_ids().to_vec()))
}

/// Clears what an instance left that is gone. A process that can't do that ends.
pub(super) fn abandon(process: &Process, token: Token) {
    for _ in 0..3 {
        if let Some(Ok(_)) = process.instance(|| process.workspace().abandon(token)) {
            return;
        }
    }
    process.exit()
}

/// Everybody else is gone, or is done. Acquires within this time, consumes what there is, and if it has to,
/// a day later once more; then nothing may be left.
pub(super) fn newcomer(process: &Process, patience_seconds: u32) {
    let mut waited = 0;
    let pause = (patience_seconds / 7).max(1);
    // It changes all records, if anybody has: of what it reads it makes something new.
    let changes = [process.with(|state| state.ledger.records.in_use()); RECORDS.len()];
    let how = How { changes, ..How::default() };
    let wrong = |why: String| process.with(|state| state.ledger.violated(why));
    loop {
        match consolidate(process, &how) {
            Ok(Ran::Consolidated(_)) => break,
            Ok(ran) => return wrong(format!("a newcomer's run is {ran:?}")),
            Err(error) if error.code == ErrorCode::InUse && waited < patience_seconds => {
                process.work(pause * 1_000);
                waited += pause;
            }
            Err(error) => return wrong(format!("after {waited} s a newcomer is refused: {error}")),
        }
    }
    // A temporary file is its writer's for a day.
    if process.with(|state| state.disk.paths().iter().any(|path| path.ends_with(".tmp"))) {
        process.with(|state| state.pass_seconds(25 * 60 * 60));
        for what in ["stage", "run"] {
            let result = match what {
                "stage" => stage(process, 1, 10, Durability::None).err(),
                _ => consolidate(process, &How::default()).err(),
            };
            if let Some(error) = result {
                return wrong(format!("a newcomer can't {what}: {error}"));
            }
        }
    }
    process.with(|state| {
        let State { ledger, disk, .. } = &mut *state;
        ledger.check_all_consumed(disk);
        let mut left: Vec<String> = state.disk.paths().into_iter().filter(|path| !may_stay(path)).collect();
        let torn = |path: &String| state.ledger.torn && path.ends_with(".json");
        left.retain(|path| !torn(path));
        if !left.is_empty() {
            state.ledger.violated(format!("left behind: {left:?}"));
        }
    });
}

fn may_stay(path: &str) -> bool {
    // What is in there is looked at elsewhere.
    if [MEMORY, BEFORE_PATH].iter().any(|dir| path.starts_with(&format!("{dir}/"))) {
        return true;
    }
    match path.strip_prefix("runs/") {
        Some(name) => matches!(name, "" | ".unfinished/") || EntryId::from_file_name(name).is_some(),
        None => matches!(path, "_staging/" | "_staging/.owners/" | LOOKS_LIKE_AN_ENTRY),
    }
}
