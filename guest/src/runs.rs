//! The outcomes of runs. Invariant: an entry is deleted only after the run that consumed it was
//! committed, and a run whose owner was taken for dead before its commit is never committed.
//!
//! ```text
//! commit, by the owner, when there are entries to delete:
//!  0  prepare the changes of memory (see `journal`)
//!  1  create the ticket, .unfinished/<run>.open, whole; synchronise it
//!  2  our flag F stands and L carries our token ? : else unlink the ticket; the lock is lost
//!  3  rename <run>.open to <run>.committed; synchronise the directory    gone -> the lock is lost
//!  4  make the changes of memory (see `journal`)
//!     delete the entries; synchronise the staging directory
//!  5  all is done: rename <run>.committed to runs/<run>.json
//!     else it stays, and its entries are consumed all the same
//! recovery, by everybody who has just taken L:
//!     list twice; each .open  rename to .sealed; if there was one, list again
//!     each .sealed            write runs/<run>.json: aborted; unlink it
//!     each .committed         steps 4 and 5
//!     each new content of a run without either: unlink it
//!     each record that is put aside and not to be removed: put it back
//! ```
//!
//! Why a late owner can do no harm, one that was stopped for longer than its lease and goes on when a
//! successor has the lock: the successor removes F before it takes L and looks for tickets after it has
//! taken L, the owner makes its ticket before it looks for F. So either the owner misses F, or the
//! successor finds the ticket, and of the two renames that then compete for it only one succeeds.
//!
//! A crash before step 3 leaves a ticket, after it a committed run; whoever takes the lock next ends
//! both. With full durability the same is true of a crash of the machine: no entry is deleted before
//! the commit is on the disk, and the run does not end before the deletes are.

use crate::durable::{Durability, create_whole, replace, sync_names};
use crate::error::{Error, ErrorCode, Owner, Result};
use crate::fs::{Content, Dir, FsErrorKind, FsResult, Kind, Listed, Time};
use crate::layout::{
    EntryId, NewContent, Progress, RUNS, RunId, UNFINISHED, UNFINISHED_PATH, runs_path, unfinished_path,
};
use crate::memory::Change;
use crate::order;
use crate::outcome::{EndedBy, Ending, MAX_OUTCOME_BYTES, Outcome};
use crate::prelude::*;
use crate::quarantine::delete_set_aside;
use crate::record::LockRecord;
use crate::system::System;
use crate::time::parse_rfc3339;
use crate::workspace::{Workspace, open_existing, open_or_create_nested};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

/// How long the outcome of a run is kept, in milliseconds: 30 days.
const KEEP_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// How old a temporary file must be to count as left by a killed writer: a day, in milliseconds.
pub(crate) const OLD_TEMPORARY_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many outcomes are kept at the most.
const KEEP: usize = 10_000;

/// The directories of the runs.
#[derive(Debug)]
pub(crate) struct Runs<D> {
    pub(crate) root: Arc<D>,
    pub(crate) dir: D,
    pub(crate) unfinished: D,
    /// The names of both are known to be durable.
    pub(crate) are_durable: Arc<AtomicBool>,
}

/// An outcome, and what is left to do for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// The run.
    pub run: RunId,
    /// Its outcome.
    pub outcome: Outcome,
    /// It is committed, and some of its entries may still be to be deleted.
    pub pending: bool,
}

/// Past runs, and those whose outcome can't be read, each with its reason.
pub type PastRuns = (Vec<Past>, Vec<(RunId, String)>);

/// What became of a run that its owner did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The run.
    pub run: RunId,
    /// Who held the lock, as far as it is known.
    pub owner: Owner,
    /// [`Ending::Aborted`], or [`Ending::Consolidated`] if it was committed and its entries are deleted.
    pub ending: Ending,
    /// How many of its entries were deleted now.
    pub removed: u64,
    /// Which ones could still not be deleted, and why.
    pub failed: Vec<(EntryId, String)>,
    /// It is committed, and its changes of memory could not be made yet.
    pub unapplied: bool,
    /// What is to be known of it besides.
    pub note: Option<String>,
}

/// Both notes of one run.
pub(crate) fn joined(one: Option<String>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("{one}; {other}")),
        (one, other) => one.or(other),
    }
}

impl Recovered {
    fn new(run: RunId, owner: Owner, ending: Ending) -> Self {
        Recovered { run, owner, ending, removed: 0, failed: Vec::new(), unapplied: false, note: None }
    }
}

/// What deleting entries came to.
#[derive(Debug, Default)]
pub(crate) struct Deleted {
    pub(crate) removed: u64,
    pub(crate) missing: u64,
    pub(crate) failed: Vec<(EntryId, String)>,
}

impl Deleted {
    pub(crate) fn add(&mut self, more: Deleted) {
        self.removed += more.removed;
        self.missing += more.missing;
        self.failed.extend(more.failed);
    }
}

/// Deletes entries that are consumed, wherever a late owner has put them. Passes over those that are gone and goes
/// on past those that can't be deleted.
pub(crate) fn delete_entries<D: Dir>(
    staging: &D,
    ids: impl IntoIterator<Item = EntryId>,
    durability: Durability,
) -> Deleted {
    let mut deleted = Deleted::default();
    let mut missing = Vec::new();
    for id in ids {
        match staging.unlink(&id.file_name()) {
            Ok(()) => deleted.removed += 1,
            Err(error) if error.kind == FsErrorKind::NotFound => missing.push(id),
            Err(error) => deleted.failed.push((id, error.to_string())),
        }
    }
    if !missing.is_empty() {
        let (removed, failed) = delete_set_aside(staging, &missing, durability);
        deleted.missing = missing.len() as u64 - removed - failed.len() as u64;
        deleted.removed += removed;
        deleted.failed.extend(failed);
    }
    deleted
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// The directories of the runs, created if they are missing.
    pub(crate) fn runs_or_create(&self) -> Result<Runs<D>> {
        let (dir, unfinished) =
            open_or_create_nested(&*self.root, (RUNS, RUNS), (UNFINISHED, UNFINISHED_PATH))?;
        Ok(self.runs_in(dir, unfinished))
    }

    /// The directories of the runs; none if one of them is missing, and with it all unfinished runs.
    pub(crate) fn runs(&self) -> Result<Option<Runs<D>>> {
        match self.root.open_nested(RUNS, UNFINISHED) {
            Ok((dir, unfinished)) => return Ok(Some(self.runs_in(dir, unfinished))),
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(None),
            Err(_) => {}
        }
        // In steps, to know which it is.
        let Some(dir) = open_existing(&*self.root, RUNS, RUNS)? else { return Ok(None) };
        let unfinished = open_existing(&dir, UNFINISHED, UNFINISHED_PATH)?;
        Ok(unfinished.map(|unfinished| self.runs_in(dir, unfinished)))
    }

    fn runs_in(&self, dir: D, unfinished: D) -> Runs<D> {
        Runs { root: self.root.clone(), dir, unfinished, are_durable: self.runs_are_durable.clone() }
    }

    /// The entries that committed runs consumed and that may not be deleted yet, sorted. They are nobody's
    /// entries any more.
    ///
    /// # Errors
    /// I/O errors of reading the unfinished runs.
    pub fn consumed(&self) -> Result<Vec<EntryId>> {
        self.runs()?.map_or_else(|| Ok(Vec::new()), |runs| runs.consumed())
    }

    /// The runs of which something is known, at most so many of those that began last, and of these the
    /// one first that ended last; and the outcome files among them that can't be read, each with its reason.
    ///
    /// # Errors
    /// I/O errors of listing the runs.
    pub fn past_runs(&self, max: usize) -> Result<PastRuns> {
        let (mut past, mut unreadable) = (Vec::new(), Vec::new());
        for run in self.known_runs()?.into_iter().take(max) {
            match self.past_run(run) {
                Ok(found) => past.extend(found),
                Err(error) if error.code == ErrorCode::Unusable => {
                    unreadable.push((run, error.into_failure().message));
                }
                Err(error) => return Err(error),
            }
        }
        // Their ids are of when they began, and what is shown of each is when it ended.
        order::sort_by(&mut past, |one: &Past, other| ended(other).cmp(&ended(one)));
        Ok((past, unreadable))
    }

    /// The runs that are committed or have ended, the newest first. Reads none of them.
    pub(crate) fn known_runs(&self) -> Result<Vec<RunId>> {
        let Some(dir) = open_existing(&*self.root, RUNS, RUNS)? else { return Ok(Vec::new()) };
        let mut known: Vec<RunId> = list_ended(&dir)?;
        if let Some(unfinished) = open_existing(&dir, UNFINISHED, UNFINISHED_PATH)? {
            let committed = |&(_, progress): &(RunId, Progress)| progress == Progress::Committed;
            known.extend(list_unfinished(&unfinished)?.into_iter().filter(committed).map(|(run, _)| run));
        }
        order::sort_ids(&mut known);
        known.dedup();
        known.reverse();
        Ok(known)
    }

    /// One run; none if nothing is known of it.
    ///
    /// # Errors
    /// [`ErrorCode::Unusable`] if its outcome can't be read; I/O errors.
    pub fn past_run(&self, run: RunId) -> Result<Option<Past>> {
        let Some(dir) = open_existing(&*self.root, RUNS, RUNS)? else { return Ok(None) };
        // The committed one first: it moves from there to here and not the other way.
        let mut found = (Found::Nothing, String::new(), true);
        if let Some(unfinished) = open_existing(&dir, UNFINISHED, UNFINISHED_PATH)? {
            let name = Progress::Committed.name(run);
            let path = unfinished_path(&name);
            found = (read(&unfinished, &name, &path)?, path, true);
        }
        if matches!(found.0, Found::Nothing) {
            let name = run.file_name();
            let path = runs_path(&name);
            found = (read(&dir, &name, &path)?, path, false);
        }
        match found {
            (Found::Outcome(outcome), _, pending) => Ok(Some(Past { run, outcome, pending })),
            (Found::Unreadable(reason), path, _) => {
                let message = format!("{path} is no outcome of a run: {reason}; move it away");
                Err(Error::new(ErrorCode::Unusable, message).at(path))
            }
            (Found::Nothing, ..) => Ok(None),
        }
    }

    /// Ends what other owners left unfinished. The caller has the lock, and nothing of its own among
    /// them. `dead` is the record of the owner from whom it took it over.
    pub(crate) fn recover(
        &self,
        runs: &Runs<D>,
        staging: &D,
        dead: Option<&LockRecord>,
        by: &EndedBy,
        durability: Durability,
        still_ours: impl Fn() -> Result<()>,
    ) -> Result<Vec<Recovered>> {
        // Two listings: one that goes on while a late owner renames its ticket may show neither name. What the
        // first has missed for that reason has been committed since, and is in the second.
        let mut found = list_all_unfinished(&runs.unfinished, Listings::Two)?;
        if found.runs.iter().any(|(_, progress)| *progress == Progress::Open) {
            for (run, progress) in found.runs {
                if progress == Progress::Open {
                    // Who was stopped here for longer than its lease would seal the run of its successor.
                    still_ours()?;
                    runs.seal(run)?;
                }
            }
            // A ticket that was committed instead is in none of them under that name.
            found = list_all_unfinished(&runs.unfinished, Listings::One)?;
        }
        let Unfinished { runs: unfinished, contents, aside } = found;
        let mut recovered = Vec::new();
        for (run, progress) in unfinished {
            match progress {
                // Made since: its owner has yet to look for its flag, which is gone.
                Progress::Open => {}
                Progress::Sealed => {
                    let dead = dead.filter(|dead| dead.run_id == Some(run.text()));
                    recovered.push(runs.end_sealed(run, dead, by, self.system.now(), self.new_id())?);
                }
                Progress::Committed => recovered.extend(runs.end_committed(run, staging, durability)?),
            }
        }
        if !contents.is_empty() || !aside.is_empty() {
            // Nobody can commit them any more: a ticket that is made now fails at the flag, which is gone.
            still_ours()?;
            runs.discard_contents(&contents);
            runs.put_strays_back(&aside, durability);
        }
        if let Some(record) = dead.filter(|record| !record.consumed_ids.is_empty()) {
            // The original format has no name for a run.
            let run = record.run_id.as_deref().and_then(RunId::parse).unwrap_or_else(|| self.new_id());
            if !recovered.iter().any(|known| known.run == run) && !runs.is_decided(run) {
                self.note_aborted(runs, run, record, by, "its owner stopped before it was committed");
                let ending = Ending::Aborted;
                let owner = record.owner();
                recovered.push(Recovered::new(run, owner, ending));
            }
        }
        Ok(recovered)
    }

    /// Notes that a run ended which its owner, whose record this is, did not end.
    pub(crate) fn note_aborted(
        &self,
        runs: &Runs<D>,
        run: RunId,
        record: &LockRecord,
        by: &EndedBy,
        reason: &str,
    ) {
        if runs.is_decided(run) {
            return;
        }
        let now = self.system.now();
        let mut outcome =
            Outcome::new(run, Ending::Aborted, record.owner(), now, record.consumed_ids.ids.clone());
        outcome.end(Ending::Aborted, now, by, reason);
        self.note(runs, run, &outcome);
    }

    /// Notes the outcome of a run that consumed nothing. That fails with a full disk, and nothing else
    /// depends on it.
    pub(crate) fn note(&self, runs: &Runs<D>, run: RunId, outcome: &Outcome) {
        let _ = runs.write_ended(run, outcome, self.new_id());
    }
}

/// When a run ended; none, and before all others, if its outcome does not say it.
fn ended(past: &Past) -> Option<Time> {
    parse_rfc3339(&past.outcome.ended_at)
}

/// Is a file old by its name, which its writer's clock made, and by the file system's clock?
pub(crate) fn is_old<D: Dir>(dir: &D, name: &str, millis: u64, keep: u64, now: Time) -> bool {
    let old = |millis: u64| millis.saturating_add(keep) < now.millis();
    old(millis) && dir.stat(name).is_ok_and(|stat| stat.modified.is_some_and(|time| old(time.millis())))
}

/// What stands in the place of an outcome.
#[allow(clippy::large_enum_variant, reason = "it lives for the length of one call")]
enum Found {
    Nothing,
    Outcome(Outcome),
    Unreadable(String),
}

impl<D: Dir> Runs<D> {
    /// As [`Workspace::consumed`].
    pub(crate) fn consumed(&self) -> Result<Vec<EntryId>> {
        let mut ids = Vec::new();
        for (run, progress) in list_unfinished(&self.unfinished)? {
            if progress == Progress::Committed
                && let Found::Outcome(outcome) = self.read_unfinished(run, progress)?
            {
                ids.extend(outcome.entry_ids);
            }
        }
        order::sort_ids(&mut ids);
        Ok(ids)
    }

    /// Steps 1 to 3. `check` is step 2; `again`: an earlier try has failed.
    pub(crate) fn commit(
        &self,
        run: RunId,
        outcome: &Outcome,
        changes: &[Change],
        durability: Durability,
        again: bool,
        check: impl FnOnce() -> Result<()>,
    ) -> Result<Committed> {
        let (open, committed) = (Progress::Open.name(run), Progress::Committed.name(run));
        if durability == Durability::Full && !self.are_durable.load(Ordering::Relaxed) {
            // A commit in a directory whose name is lost is lost, and its entries are deleted by then.
            let sync =
                |dir: &D, path: &str| sync_names(dir).map_err(|error| Error::io("synchronise", path, &error));
            sync(&self.root, ".")?;
            sync(&self.dir, RUNS)?;
            self.are_durable.store(true, Ordering::Relaxed);
        }
        // An earlier try may have failed after the rename, and a successor may have ended it since. Then it
        // is committed, whosever the lock is by now.
        if again && self.is_committed(run)? {
            return self.sync_commit(durability);
        }
        let _ = self.unfinished.unlink(&open);
        self.prepare(run, changes, durability)?;
        let give_up = || {
            let _ = self.unfinished.unlink(&open);
            self.discard(run, changes.len());
        };
        let ticket = create_whole(&self.unfinished, &open, &outcome.to_file(), durability)
            .map_err(|error| Error::io("write the outcome of the run", unfinished_path(&open), &error))
            .and_then(|()| check());
        if let Err(error) = ticket {
            give_up();
            return Err(error);
        }
        if let Err(error) = self.unfinished.rename(&open, &self.unfinished, &committed) {
            // A rename that failed may have had its effect all the same (a network file system whose
            // answer was lost): the names tell.
            let failed = Error::io("commit the run", unfinished_path(&committed), &error);
            match self.is_committed(run) {
                Ok(true) => {}
                Ok(false) if error.kind == FsErrorKind::NotFound => {
                    self.discard(run, changes.len());
                    return Ok(Committed::Sealed);
                }
                Ok(false) => {
                    give_up();
                    return Err(failed);
                }
                // Nobody can tell: whoever takes the lock next finds out.
                Err(_) => return Err(failed),
            }
        }
        self.sync_commit(durability)
    }

    /// The outcome of a run that has ended; none if there is none.
    pub(crate) fn ended(&self, run: RunId) -> Result<Option<Outcome>> {
        let name = run.file_name();
        let path = runs_path(&name);
        match read(&self.dir, &name, &path)? {
            Found::Outcome(outcome) => Ok(Some(outcome)),
            Found::Nothing => Ok(None),
            Found::Unreadable(reason) => {
                let message = format!("{path} is no outcome of a run: {reason}; move it away");
                Err(Error::new(ErrorCode::Unusable, message).at(path))
            }
        }
    }

    /// Is it committed, by this process or ended since by another? In this order: it moves from there to
    /// here and not the other way.
    pub(crate) fn is_committed(&self, run: RunId) -> Result<bool> {
        let committed = Progress::Committed.name(run);
        match self.unfinished.stat(&committed) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at", unfinished_path(&committed), &error)),
        }
        self.is_committed_and_ended(run)
    }

    fn is_committed_and_ended(&self, run: RunId) -> Result<bool> {
        let name = run.file_name();
        let ended = read(&self.dir, &name, &runs_path(&name))?;
        Ok(matches!(ended, Found::Outcome(outcome) if outcome.is_commit_of(run)))
    }

    fn sync_commit(&self, durability: Durability) -> Result<Committed> {
        if durability == Durability::Full
            && let Err(error) = sync_names(&self.unfinished)
        {
            let mut error = Error::io("synchronise", UNFINISHED_PATH, &error);
            error.message = format!(
                "{}; the run is committed, but that may not survive a power failure, so nothing was deleted yet: the next run does it",
                error.message
            );
            return Err(error);
        }
        Ok(Committed::Done)
    }

    /// Step 5. If it fails nothing is lost: the next one who takes the lock finds nothing to delete and does
    /// this. Returns what is to be known of that, as what can't be moved stands there until somebody sees to it.
    pub(crate) fn end(&self, run: RunId) -> Option<String> {
        let committed = Progress::Committed.name(run);
        match self.unfinished.rename(&committed, &self.dir, &run.file_name()) {
            Ok(()) => None,
            // A successor was faster.
            Err(error) if error.kind == FsErrorKind::NotFound => None,
            Err(error) => {
                let failed = Error::io("move to runs/ the file", unfinished_path(&committed), &error);
                let message = failed.into_failure().message;
                Some(format!(
                    "all of it is done, but it could not be ended, which the next run tries again: {message}"
                ))
            }
        }
    }

    /// Makes sure that a run that is not committed never will be.
    fn seal(&self, run: RunId) -> Result<()> {
        let (open, sealed) = (Progress::Open.name(run), Progress::Sealed.name(run));
        match self.unfinished.rename(&open, &self.unfinished, &sealed) {
            Ok(()) => Ok(()),
            // Its owner was faster, or gave it up.
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
            // Something else has the other name. Without its ticket the owner can't commit either.
            Err(error) => match self.unfinished.unlink(&open) {
                Ok(()) => Ok(()),
                Err(gone) if gone.kind == FsErrorKind::NotFound => Ok(()),
                Err(_) => Err(Error::io("seal the run", unfinished_path(&open), &error)),
            },
        }
    }

    fn end_sealed(
        &self,
        run: RunId,
        dead: Option<&LockRecord>,
        by: &EndedBy,
        now: Time,
        temporary: EntryId,
    ) -> Result<Recovered> {
        let mut outcome = match self.read_unfinished(run, Progress::Sealed)? {
            Found::Outcome(outcome) => outcome,
            // Its owner stopped while it was writing it. What it had taken is in its lock.
            Found::Nothing | Found::Unreadable(_) => {
                let owner = dead.map_or_else(Owner::unknown, LockRecord::owner);
                let ids = dead.map(|dead| dead.consumed_ids.ids.clone()).unwrap_or_default();
                Outcome::new(run, Ending::Aborted, owner, now, ids)
            }
        };
        outcome.end(Ending::Aborted, now, by, "its owner stopped before it was committed");
        let owner = outcome.owner();
        // A commit that was tried twice leaves a second ticket. With a full disk it stays sealed, which is
        // all that matters.
        let is_decided = self.is_decided(run);
        if !is_decided {
            self.discard(run, outcome.changes.len());
            outcome.changes.clear();
        }
        if is_decided || self.write_ended(run, &outcome, temporary).is_ok() {
            let _ = self.unfinished.unlink(&Progress::Sealed.name(run));
        }
        Ok(Recovered::new(run, owner, Ending::Aborted))
    }

    fn end_committed(&self, run: RunId, staging: &D, durability: Durability) -> Result<Option<Recovered>> {
        let outcome = match self.read_unfinished(run, Progress::Committed)? {
            Found::Outcome(outcome) => outcome,
            Found::Nothing => return Ok(None),
            // Its entries are not known, so they come again. It goes where people look.
            Found::Unreadable(reason) => {
                // Not over an outcome that can be read.
                let unended = match self.is_committed_and_ended(run)? {
                    true => {
                        let _ = self.unfinished.unlink(&Progress::Committed.name(run));
                        None
                    }
                    false => self.end(run),
                };
                let owner = Owner::unknown();
                let note = format!("its outcome can't be read, its entries come again: {reason}");
                let note = joined(Some(note), unended);
                let ending = Ending::Consolidated;
                return Ok(Some(Recovered { note, ..Recovered::new(run, owner, ending) }));
            }
        };
        let owner = outcome.owner();
        // Its owner may have stopped between the rename and this.
        if durability == Durability::Full
            && let Err(error) = sync_names(&self.unfinished)
        {
            let note = Some(format!("it may not survive a power failure, nothing was deleted: {error}"));
            let unapplied = !outcome.changes.is_empty();
            return Ok(Some(Recovered { unapplied, note, ..Recovered::new(run, owner, outcome.outcome) }));
        }
        let mut note = match self.apply(run, &outcome.changes, durability) {
            Ok(note) => note,
            Err(error) => {
                let note = Some(error.into_failure().message);
                let unfinished = Recovered::new(run, owner, outcome.outcome);
                return Ok(Some(Recovered { unapplied: true, note, ..unfinished }));
            }
        };
        let Deleted { removed, failed, .. } = delete_entries(staging, outcome.entry_ids, durability);
        // Also if nothing was there to delete: whoever deleted it may not have come to this.
        match if durability == Durability::Full { sync_names(staging) } else { Ok(()) } {
            Ok(()) if failed.is_empty() => note = joined(note, self.end(run)),
            Ok(()) => {}
            Err(error) => note = Some(format!("its deletes may not survive a power failure: {error}")),
        }
        Ok(Some(Recovered { removed, failed, note, ..Recovered::new(run, owner, outcome.outcome) }))
    }

    /// Removes old outcomes, and temporary files that killed writers left among them.
    pub(crate) fn remove_old(&self, now: Time) {
        let Ok(Old { outcomes, before }) = self.old(now) else { return };
        for name in outcomes {
            // The next run tries again.
            let _ = self.dir.unlink(&name);
        }
        for name in before {
            self.remove_old_content(&name);
        }
    }

    /// What is not kept for longer.
    pub(crate) fn old(&self, now: Time) -> Result<Old> {
        let (mut ended, mut old) = (Vec::new(), Vec::new());
        list_files(&self.dir, RUNS, Listings::One, &mut |name| {
            ended.extend(RunId::from_file_name(name));
            old.extend(EntryId::from_temporary_name(name));
        })?;
        let mut old: Vec<String> = old
            .into_iter()
            .filter(|id| is_old(&self.dir, &id.temporary_name(), id.millis(), OLD_TEMPORARY_MS, now))
            .map(EntryId::temporary_name)
            .collect();
        order::sort_ids(&mut ended);
        let before = self.old_contents(&ended, now)?;
        let beyond = ended.len().saturating_sub(KEEP);
        for (position, run) in ended.into_iter().enumerate() {
            if position >= beyond && !is_old(&self.dir, &run.file_name(), run.millis(), KEEP_MS, now) {
                // They ascend: the others are younger.
                break;
            }
            old.push(run.file_name());
        }
        Ok(Old { outcomes: old, before })
    }

    /// Is this run committed, or has it ended? What can't be told is not overwritten either.
    pub(crate) fn is_decided(&self, run: RunId) -> bool {
        let is_gone =
            |dir: &D, name: &str| matches!(dir.stat(name), Err(error) if error.kind == FsErrorKind::NotFound);
        // In this order: it moves from there to here.
        !is_gone(&self.unfinished, &Progress::Committed.name(run)) || !is_gone(&self.dir, &run.file_name())
    }

    /// Writes the outcome of a run that consumed nothing.
    pub(crate) fn write_ended(&self, run: RunId, outcome: &Outcome, temporary: EntryId) -> FsResult<()> {
        let content = outcome.to_file();
        replace(&self.dir, &temporary.temporary_name(), &run.file_name(), &content, Durability::None)
    }

    fn read_unfinished(&self, run: RunId, progress: Progress) -> Result<Found> {
        let name = progress.name(run);
        let found = read(&self.unfinished, &name, &unfinished_path(&name))?;
        Ok(match found {
            // No commit wrote that. What it names may be entries that nobody has consumed.
            Found::Outcome(outcome) if progress == Progress::Committed && !outcome.is_commit_of(run) => {
                Found::Unreadable("it is not the outcome of a committed run of this name".into())
            }
            found => found,
        })
    }
}

/// What is not kept for longer.
pub(crate) struct Old {
    /// Names of outcomes, and of temporary files that killed writers left among them.
    pub(crate) outcomes: Vec<String>,
    /// Names of what records were before runs whose outcomes are gone, or that never were committed.
    pub(crate) before: Vec<String>,
}

fn list_unfinished<D: Dir>(unfinished: &D) -> Result<Vec<(RunId, Progress)>> {
    Ok(list_all_unfinished(unfinished, Listings::One)?.runs)
}

/// How often a directory is listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listings {
    One,
    /// As [`Dir::list_twice`].
    Two,
}

/// What is among the unfinished runs, sorted, each name once.
#[derive(Default)]
struct Unfinished {
    runs: Vec<(RunId, Progress)>,
    /// The new contents that have not been renamed over their records.
    contents: Vec<NewContent>,
    /// The records that are put aside.
    aside: Vec<NewContent>,
}

fn list_all_unfinished<D: Dir>(unfinished: &D, listings: Listings) -> Result<Unfinished> {
    let mut found = Unfinished::default();
    list_files(unfinished, UNFINISHED_PATH, listings, &mut |name| match Progress::parse(name) {
        Some(run) => found.runs.push(run),
        None => {
            found.contents.extend(NewContent::parse(name));
            found.aside.extend(NewContent::parse_aside(name));
        }
    })?;
    order::sort(&mut found.runs);
    found.runs.dedup();
    order::sort(&mut found.contents);
    found.contents.dedup();
    order::sort(&mut found.aside);
    found.aside.dedup();
    Ok(found)
}

/// The outcomes in the directory of the runs that can't be read, each with its reason.
pub(crate) fn unreadable_outcomes<D: Dir>(dir: &D) -> Result<Vec<(RunId, String)>> {
    let mut unreadable = Vec::new();
    for run in list_ended(dir)? {
        let name = run.file_name();
        if let Found::Unreadable(reason) = read(dir, &name, &runs_path(&name))? {
            unreadable.push((run, reason));
        }
    }
    Ok(unreadable)
}

fn list_ended<D: Dir>(dir: &D) -> Result<Vec<RunId>> {
    let mut found = Vec::new();
    list_files(dir, RUNS, Listings::One, &mut |name| found.extend(RunId::from_file_name(name)))?;
    Ok(found)
}

/// What a commit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is done, and on the disk if that was asked for.
    Done,
    /// A successor has sealed the run.
    Sealed,
}

fn list_files<D: Dir>(dir: &D, path: &str, listings: Listings, each: &mut dyn FnMut(&str)) -> Result<()> {
    let each = &mut |listed: Listed<'_>| {
        if let Listed::Named(name, Kind::File) = listed {
            each(name);
        }
    };
    let listed = match listings {
        Listings::One => dir.list(each),
        Listings::Two => dir.list_twice(each),
    };
    listed.map_err(|error| Error::io("list", path, &error))
}

fn read<D: Dir>(dir: &D, name: &str, path: &str) -> Result<Found> {
    let content = match dir.read_file(name, MAX_OUTCOME_BYTES) {
        Ok(Content::Whole(content)) => content,
        Ok(Content::TooLarge(_)) => {
            return Ok(Found::Unreadable(format!("it has more than {MAX_OUTCOME_BYTES} bytes")));
        }
        Ok(Content::NotAFile(kind)) => return Ok(Found::Unreadable(format!("it is {}", kind.describe()))),
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    Ok(match Outcome::parse(&content) {
        Ok(outcome) => Found::Outcome(outcome),
        Err(reason) => Found::Unreadable(reason),
    })
}
