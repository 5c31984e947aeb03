//! What is left over or out of order in a workspace. Invariant: it is named here and mended only by the
//! means of the protocol: who mends holds the lock.

use crate::error::{Error, ErrorCode, Failure, Result};
use crate::fs::{Dir, FsError, FsErrorKind, Kind, Listed};
use crate::journal::kept_edit;
use crate::layout::{
    ASIDE, ASIDE_PATH, ATTEMPTS_PATH, BEFORE, BEFORE_PATH, EntryId, FlagName, LOCK_PATH, NewContent, OWNERS,
    OWNERS_PATH, PUBLISH_SUFFIX, Progress, QUARANTINE_PATH, RUNS, RunId, STAGING, UNFINISHED,
    UNFINISHED_PATH, attempts_path, before_path, owners_path, quarantine_path, runs_path, staging_path,
    unfinished_path,
};
use crate::lock::{AcquireOptions, Status, not_a_file};
use crate::memory::Found;
use crate::order;
use crate::prelude::*;
use crate::quarantine::{Disorder, attempts_disorder, quarantine_disorder};
use crate::runs::{Old, Recovered, unreadable_outcomes};
use crate::staging::old_temporaries;
use crate::system::System;
use crate::workspace::{Workspace, open_existing};

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// The lock of a dead owner.
    StaleLock,
    /// A lock file that is no record, or something else in its place.
    UnreadableLock,
    /// A lock that was put aside by a process that stopped then. It counts as if it were in its place.
    LockAside,
    /// The flag of a dead owner, or a copy of one that nobody will use any more.
    DeadFlag,
    /// A temporary file that a killed writer left.
    Temporary,
    /// What was noted of a failed consolidation of an entry that is gone: its attempts, or the reason of its
    /// quarantine.
    OrphanNote,
    /// A run that was not ended, by an owner that is gone.
    UnfinishedRun,
    /// The outcome of a run that is older than it is kept.
    OldOutcome,
    /// The outcome of a run that can't be read.
    UnreadableOutcome,
    /// A file that looks like an entry and is none.
    UnusableEntry,
    /// A memory record that can't be read.
    UnreadableRecord,
    /// A memory record that says something which is hardly meant so: a kind that is not its directory's, a
    /// status that is none.
    DoubtfulRecord,
    /// What somebody wrote into a record that a run, committed by then, has changed.
    KeptEdit,
    /// Something that does not belong where it is.
    Foreign,
}

impl FindingKind {
    /// Is it nobody's any more, so that who holds the lock may remove it?
    fn is_left_over(self) -> bool {
        match self {
            FindingKind::StaleLock
            | FindingKind::UnreadableLock
            | FindingKind::LockAside
            | FindingKind::DeadFlag
            | FindingKind::Temporary
            | FindingKind::OrphanNote
            | FindingKind::UnfinishedRun
            | FindingKind::OldOutcome => true,
            FindingKind::UnreadableOutcome
            | FindingKind::UnusableEntry
            | FindingKind::UnreadableRecord
            | FindingKind::DoubtfulRecord
            | FindingKind::KeptEdit
            | FindingKind::Foreign => false,
        }
    }
}

/// Something that is left over or out of order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Where, from the root.
    pub path: String,
    /// What is to be known of it, and what helps if it is not mended here.
    pub detail: String,
    /// It can be mended here.
    pub mendable: bool,
    /// It was mended.
    pub mended: bool,
}

/// Findings as they come up.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, kind: FindingKind, path: impl Into<String>, detail: impl Into<String>) {
        self.push(kind, path.into(), detail.into());
    }

    /// What was looked at, if it could be: where something else stands in its place, that is what is found.
    fn in_place<T>(&mut self, looked_at: Result<T>) -> Result<Option<T>> {
        match looked_at {
            Err(error) if error.code == ErrorCode::WrongFileType => {
                let Failure { path, message, .. } = error.into_failure();
                self.push(FindingKind::Foreign, path.unwrap_or_default(), message);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    #[inline(never)]
    fn push(&mut self, kind: FindingKind, path: String, detail: String) {
        let mendable = kind.is_left_over();
        self.0.push(Finding { kind, path, detail, mendable, mended: false });
    }
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// What is left over or out of order, sorted by kind and path. Changes nothing.
    ///
    /// # Errors
    /// I/O errors of looking at it.
    pub fn examine(&self) -> Result<Vec<Finding>> {
        let mut findings = Findings::default();
        let status = findings.in_place(self.lock_status())?.unwrap_or(Status::Free);
        match &status {
            Status::Free | Status::Held(_) | Status::Unknown(_) => {}
            Status::Stale(holder) => {
                let detail =
                    format!("pid {} (pod {:?}): {}", holder.owner.pid, holder.owner.pod_name, holder.reason);
                findings.add(FindingKind::StaleLock, LOCK_PATH, detail);
            }
            Status::Unreadable(reason, _) => {
                findings.add(FindingKind::UnreadableLock, LOCK_PATH, reason.as_str());
            }
            Status::Blocked(path, reason) => findings.add(FindingKind::Foreign, *path, reason.as_str()),
        }
        // What a holder that lives has not ended is its work.
        let held = matches!(status, Status::Held(_) | Status::Unknown(_));
        if let Some(staging) = findings.in_place(self.staging())?.flatten() {
            match staging.stat(ASIDE).map(|stat| stat.kind) {
                Ok(Kind::File) => {
                    let detail = "a process that put the lock aside stopped then; it is removed, or put back if its owner lives";
                    findings.add(FindingKind::LockAside, ASIDE_PATH, detail);
                }
                Ok(kind) if !matches!(status, Status::Blocked(ASIDE_PATH, _)) => {
                    findings.add(FindingKind::Foreign, ASIDE_PATH, not_a_file(kind));
                }
                _ => {}
            }
            let entries = self.examine_staging(&staging, &mut findings);
            findings.in_place(entries)?;
            self.examine_notes(&staging, held, &mut findings)?;
            let owners = open_existing(&staging, OWNERS, OWNERS_PATH);
            if let Some(owners) = findings.in_place(owners)?.flatten() {
                self.examine_owners(&owners, &mut findings)?;
            }
        }
        let runs = self.examine_runs(held, &mut findings);
        findings.in_place(runs)?;
        let memory = self.examine_memory(&mut findings);
        findings.in_place(memory)?;
        self.drop_what_has_ended(&mut findings)?;
        let Findings(mut findings) = findings;
        order::sort(&mut findings);
        // What stands in the way is met by everybody who comes there.
        findings.dedup_by(|one, other| {
            one.kind == FindingKind::Foreign && one.kind == other.kind && one.path == other.path
        });
        Ok(findings)
    }

    /// A run that began after the look at the lock, or a process that ended after the listing that shows its flag,
    /// looks like one that left something. Both clear up before they are gone, and none of these names is used
    /// twice: what is still there after a second look at the lock was left.
    fn drop_what_has_ended(&self, findings: &mut Findings) -> Result<()> {
        let is_work = |kind| matches!(kind, FindingKind::OrphanNote | FindingKind::UnfinishedRun);
        let is_brief = |kind| is_work(kind) || matches!(kind, FindingKind::DeadFlag | FindingKind::LockAside);
        if !findings.0.iter().any(|finding| is_brief(finding.kind)) {
            return Ok(());
        }
        // First: what its holder left is gone by the time at which the lock is free.
        let status = findings.in_place(self.lock_status())?;
        let held = matches!(status, Some(Status::Held(_) | Status::Unknown(_)));
        findings.0.retain(|finding| {
            let kind = finding.kind;
            !is_brief(kind) || !(held && is_work(kind)) && stands(&*self.root, &finding.path)
        });
        Ok(())
    }

    /// Takes the lock, removes what is left over, and says of everything that was found whether it is
    /// mended now.
    ///
    /// # Errors
    /// As [`Self::acquire`]; nothing is mended then, but what the protocol itself has removed on the way.
    pub fn mend(&self, options: &AcquireOptions) -> Result<Vec<Finding>> {
        let mut before = self.examine()?;
        let (held, _) = self.acquire(options)?;
        let swept = held.sweep();
        // Why a run could not be ended is only known here.
        let unended =
            |run: &Recovered| Some((unfinished_path(&Progress::Committed.name(run.run)), run.note.clone()?));
        let unended: Vec<_> = held.recovered().iter().filter_map(unended).collect();
        // What remains tells what was mended, whatever went wrong on the way.
        let released = held.release_only(None);
        let after = self.examine()?;
        swept?;
        released?;
        for finding in &mut before {
            finding.mended = !after.iter().any(|left| left.kind == finding.kind && left.path == finding.path);
            let note = unended.iter().find(|(path, _)| *path == finding.path);
            if let (false, Some((_, note))) = (finding.mended, note) {
                finding.detail = format!("{}; {note}", finding.detail);
            }
        }
        // Ending a run may have put what somebody wrote aside just now.
        let is_new = |finding: &Finding| {
            finding.kind == FindingKind::KeptEdit && !before.iter().any(|known| known.path == finding.path)
        };
        let new: Vec<Finding> = after.into_iter().filter(is_new).collect();
        before.extend(new);
        order::sort(&mut before);
        Ok(before)
    }

    fn examine_staging(&self, staging: &D, findings: &mut Findings) -> Result<()> {
        let summary = self.check_entries()?;
        for file in &summary.unusable {
            let detail = format!("{}; mend it or move it away", file.reason);
            findings.add(FindingKind::UnusableEntry, staging_path(&file.name), detail);
        }
        let unnamed = summary.unusable_count.saturating_sub(summary.unusable.len() as u64);
        if unnamed > 0 {
            findings.add(FindingKind::UnusableEntry, STAGING, format!("and {unnamed} more files"));
        }
        for name in old_temporaries(staging, self.system.now())? {
            findings.add(FindingKind::Temporary, staging_path(&name), "a killed writer left it");
        }
        Ok(())
    }

    /// The attempts and the quarantine. The entries in it are where they should be, and no finding.
    fn examine_notes(&self, staging: &D, held: bool, findings: &mut Findings) -> Result<()> {
        let now = self.system.now();
        type Path = fn(&str) -> String;
        let places: [(_, _, Path, _, _); 2] = [
            (
                attempts_disorder(staging, now),
                ATTEMPTS_PATH,
                attempts_path,
                "the entry whose failed attempts it counts is gone",
                "it counts no attempts; move it away",
            ),
            (
                quarantine_disorder(staging, now),
                QUARANTINE_PATH,
                quarantine_path,
                "the entry whose quarantine it explains is not there",
                "it is no entry in the quarantine; move it away",
            ),
        ];
        for (found, place, path, orphan, foreign) in places {
            let Disorder { orphans, temporaries, foreign: names } = match found {
                Ok(None) => continue,
                Ok(Some((_, disorder))) => disorder,
                Err(error) if error.code == ErrorCode::WrongFileType => {
                    findings.add(FindingKind::Foreign, place, error.into_failure().message);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for name in orphans.iter().filter(|_| !held) {
                findings.add(FindingKind::OrphanNote, path(name), orphan);
            }
            for name in &temporaries {
                findings.add(FindingKind::Temporary, path(name), "a killed writer left it");
            }
            for name in &names {
                findings.add(FindingKind::Foreign, path(name), foreign);
            }
        }
        Ok(())
    }

    fn examine_owners(&self, owners: &D, findings: &mut Findings) -> Result<()> {
        let mut flags = Vec::new();
        let listed = owners.list(&mut |listed| match listed {
            Listed::Named(name, kind) => {
                let flag = FlagName::parse(name.strip_suffix(PUBLISH_SUFFIX).unwrap_or(name));
                match flag.filter(|_| kind != Kind::Directory) {
                    Some(flag) => flags.push((flag, name.to_owned())),
                    None => findings.add(
                        FindingKind::Foreign,
                        owners_path(name),
                        "it is no owner flag; move it away",
                    ),
                }
            }
            Listed::NotUtf8 => {
                findings.add(FindingKind::Foreign, owners_path("?"), "its name is not UTF-8; move it away")
            }
        });
        listed.map_err(|error| Error::io("list", OWNERS_PATH, &error))?;
        for (flag, name) in flags {
            if let Some(reason) = self.dead_flag(owners, &flag, name.ends_with(PUBLISH_SUFFIX))? {
                findings.add(FindingKind::DeadFlag, owners_path(&name), reason);
            }
        }
        Ok(())
    }

    /// No run changes a record that can't be read, and none says so unless it wants to. Nor does one say that
    /// what people wrote there is read in another way than they meant.
    fn examine_memory(&self, findings: &mut Findings) -> Result<()> {
        let mut successors = Vec::new();
        self.visit_records(None, &mut |found| match found {
            Found::Record(name, document) => {
                for doubt in document.doubts(name) {
                    findings.add(FindingKind::DoubtfulRecord, name.path(), doubt.to_string());
                }
                if let Some((successor, line)) = document.successor(name) {
                    successors.push((name.clone(), successor, line));
                }
            }
            Found::Unreadable(path, reason) => findings.add(FindingKind::UnreadableRecord, path, reason),
            Found::Misplaced(path, why) => findings.add(FindingKind::Foreign, path, why),
        })?;
        for (name, successor, line) in successors {
            if successor == name || self.record_mark(&successor)?.is_none() {
                let which = if successor == name { "the record itself" } else { "no record that is there" };
                let detail = format!("line {line}: `replaced_by` names {which}");
                findings.add(FindingKind::DoubtfulRecord, name.path(), detail);
            }
        }
        Ok(())
    }

    fn examine_runs(&self, held: bool, findings: &mut Findings) -> Result<()> {
        let Some(dir) = open_existing(&*self.root, RUNS, RUNS)? else { return Ok(()) };
        let mut foreign = |name: &str, kind: Kind| {
            let known = RunId::from_file_name(name).is_some() || EntryId::from_temporary_name(name).is_some();
            if !(kind == Kind::File && known
                || kind == Kind::Directory && (name == UNFINISHED || name == BEFORE))
            {
                findings.add(
                    FindingKind::Foreign,
                    runs_path(name),
                    "it is no outcome of a run; move it away",
                );
            }
        };
        let listed = dir.list(&mut |listed| match listed {
            Listed::Named(name, kind) => foreign(name, kind),
            Listed::NotUtf8 => foreign("?", Kind::Other),
        });
        listed.map_err(|error| Error::io("list", RUNS, &error))?;
        for (run, reason) in unreadable_outcomes(&dir)? {
            let detail = format!("{reason}; move it away or delete it, no run needs it");
            findings.add(FindingKind::UnreadableOutcome, runs_path(&run.file_name()), detail);
        }
        if let Some(before) = open_existing(&dir, BEFORE, BEFORE_PATH)? {
            let mut kept = Vec::new();
            let listed = before.list(&mut |listed| {
                let (name, is_file) = match listed {
                    Listed::Named(name, kind) => (name, kind == Kind::File),
                    Listed::NotUtf8 => ("?", false),
                };
                match kept_edit(name).filter(|_| is_file) {
                    Some(content) => kept.push((content, name.to_owned())),
                    None if is_file && RunId::from_file_name(name).is_some() => {}
                    None => {
                        let detail = "it is nothing that a record was before a run; move it away";
                        findings.add(FindingKind::Foreign, before_path(name), detail);
                    }
                }
            });
            listed.map_err(|error| Error::io("list", BEFORE_PATH, &error))?;
            for (content, name) in kept {
                let path =
                    self.runs()?.and_then(|runs| runs.changed_record(content)).map(|record| record.path());
                let detail = format!(
                    "it is what stood in {} when run {} put its own there, and what no run has read: somebody \
                     wrote it, as it seems; take over what is still needed, and move the file away",
                    path.as_deref().unwrap_or("a record"),
                    content.run
                );
                findings.add(FindingKind::KeptEdit, before_path(&name), detail);
            }
        }
        let Some(runs) = self.runs()? else { return Ok(()) };
        let Old { outcomes, before } = runs.old(self.system.now())?;
        for name in outcomes {
            let kind = if name.starts_with('.') { FindingKind::Temporary } else { FindingKind::OldOutcome };
            findings.add(kind, runs_path(&name), "it is not kept for longer");
        }
        for name in before {
            let detail = "what records were before a run that is not known";
            findings.add(FindingKind::OldOutcome, before_path(&name), detail);
        }
        let Some(unfinished) = open_existing(&dir, UNFINISHED, UNFINISHED_PATH)? else { return Ok(()) };
        let listed = unfinished.list(&mut |listed| match listed {
            Listed::Named(name, kind) => match Progress::parse(name).filter(|_| kind == Kind::File) {
                Some(_) if held => {}
                Some((_, progress)) => {
                    let detail = match progress {
                        Progress::Open => "its owner stopped before it was committed; its entries are kept",
                        Progress::Sealed => "it was given up; its entries are kept",
                        Progress::Committed => "it is committed, and its entries are to be deleted",
                    };
                    findings.add(FindingKind::UnfinishedRun, unfinished_path(name), detail);
                }
                None if kind == Kind::File && is_content(name) => {
                    if !held {
                        let detail = "it belongs to a run that was not ended";
                        findings.add(FindingKind::UnfinishedRun, unfinished_path(name), detail);
                    }
                }
                None => findings.add(
                    FindingKind::Foreign,
                    unfinished_path(name),
                    "it is no unfinished run; move it away",
                ),
            },
            Listed::NotUtf8 => {
                findings.add(
                    FindingKind::Foreign,
                    unfinished_path("?"),
                    "its name is not UTF-8; move it away",
                );
            }
        });
        listed.map_err(|error| Error::io("list", UNFINISHED_PATH, &error))
    }
}

/// Does something stand at a path below a directory, as far as can be told?
fn stands<D: Dir>(dir: &D, path: &str) -> bool {
    let is_gone = |error: &FsError| error.kind == FsErrorKind::NotFound;
    match path.split_once('/') {
        Some((name, rest)) => match dir.open_dir(name) {
            Ok(dir) => stands(&dir, rest),
            Err(error) => !is_gone(&error),
        },
        None => !dir.stat(path).is_err_and(|error| is_gone(&error)),
    }
}

/// Is it the name of a new content of a record, or of a record that is about to be removed?
fn is_content(name: &str) -> bool {
    NewContent::parse(name).or_else(|| NewContent::parse_aside(name)).is_some()
}
