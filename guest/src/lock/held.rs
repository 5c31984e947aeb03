//! A lock that is held. Invariant: it is only ever replaced by rename, never written in place, but for
//! [`Held::refresh`], which writes one byte over itself; and nothing is touched that is another's.

use super::aside::take_down;
use super::look::{Carried, carries, owner_on_disk, tail_carries};
use super::refusal::{flag_lost, lost};
use super::roster::lower;
use super::{Held, ReleaseReport, besides, unlink_lock};
use crate::durable::{Durability, replace, sync_names};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Dir, File, FsError, FsErrorKind, FsResult, Kind};
use crate::journal::changed_records;
use crate::layout::{
    EntryId, FlagName, LOCK, LOCK_PATH, RunId, STAGING, Token, UNFINISHED_PATH, clip, owners_path, runs_path,
};
use crate::memory::Change;
use crate::outcome::{Ending, Outcome};
use crate::prelude::*;
use crate::quarantine;
use crate::record::LockRecord;
use crate::runs::{Committed, Deleted, Recovered, delete_entries, joined};
use crate::staging::{Snapshot, old_temporaries};
use crate::system::System;
use crate::workspace::{Workspace, fleeting_id};

impl<D: Dir, S: System> Held<D, S> {
    /// The record as it was last written.
    pub fn record(&self) -> &LockRecord {
        &self.record
    }

    /// Its token.
    pub fn token(&self) -> Token {
        self.flag.token
    }

    /// Sets the entries that [`Self::release_with_cleanup`] deletes and rewrites the lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]; I/O errors. The earlier set is then in force, here and on disk.
    pub fn record_consumed(&mut self, ids: Vec<EntryId>, temporary: EntryId) -> Result<()> {
        self.check_uncommitted()?;
        self.record_named(&ids, temporary)?;
        self.consumed = ids;
        Ok(())
    }

    /// A run begins when its entries are named. `temporary` is fresh, so it names the run too.
    fn record_named(&mut self, ids: &[EntryId], temporary: EntryId) -> Result<()> {
        let run = if ids.is_empty() { None } else { self.run.or(Some(temporary)) };
        let earlier = core::mem::replace(&mut self.record.consumed_ids, ids.to_vec().into());
        let earlier_run = core::mem::replace(&mut self.record.run_id, run.map(|run| run.text()));
        let rewritten = self.rewrite(temporary);
        if rewritten.is_err() {
            (self.record.consumed_ids, self.record.run_id) = (earlier, earlier_run);
        } else {
            self.run = run;
            self.ended &= run.is_none();
        }
        rewritten
    }

    /// The entries of a committed run are consumed: they can't be exchanged for others.
    fn check_uncommitted(&self) -> Result<()> {
        // A try that failed may have committed it all the same, and then it is committed with what it had.
        let is_committed = |run| self.tried && self.runs.is_decided(run);
        if self.committed || self.run.is_some_and(is_committed) {
            let message = "the run is committed; delete its entries before others are recorded";
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        Ok(())
    }

    /// Makes changes part of the run that is under way.
    ///
    /// # Errors
    /// `InvalidInput` if the run is committed already.
    pub fn take_changes(&mut self, changes: Vec<Change>) -> Result<()> {
        self.check_uncommitted()?;
        self.changes = changes;
        Ok(())
    }

    /// Puts the records that a run changed back to what they were before it, as a run of its own.
    ///
    /// # Errors
    /// `Conflict` if one of them was changed since, `NotFound` if the run, or what they were, is not known any
    /// more, `InvalidInput` if it has changed none: nothing is changed then. `LockLost`; I/O errors.
    pub fn undo(&mut self, run: RunId) -> Result<RunId> {
        self.check_uncommitted()?;
        if self.run.is_some() || !self.changes.is_empty() {
            let message = "a run is under way under this lock; end it before another one is undone";
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        self.still_ours()?;
        let path = runs_path(&run.file_name());
        let outcome = match self.runs.ended(run)? {
            Some(outcome) => outcome,
            None => {
                let message = match self.runs.is_decided(run) {
                    true => format!(
                        "run {run} is committed and could not be ended yet, so it can't be undone yet; `doctor --fix` says why"
                    ),
                    false => format!("there is no outcome {path}; `log` shows the runs that are known"),
                };
                return Err(Error::new(ErrorCode::NotFound, message).at(path));
            }
        };
        if outcome.changes.is_empty() {
            let message = format!("run {run} has changed no record, so there is nothing to undo");
            return Err(Error::new(ErrorCode::InvalidInput, message).at(path));
        }
        self.changes = self.runs.undo_of(run)?;
        let undo = fleeting_id(&self.system);
        (self.run, self.undoes) = (Some(undo), Some(run));
        let done = self.commit().and_then(|()| self.apply());
        if let Err(error) = done {
            // If it may be committed it is still the run under this lock, and the release goes on with it.
            if self.check_uncommitted().is_ok() {
                (self.run, self.undoes, self.tried, self.changes) = (None, None, false, Vec::new());
            }
            return Err(error);
        }
        self.end_run()?;
        Ok(undo)
    }

    /// Names the process group of the command that works for this owner and rewrites the lock.
    ///
    /// # Errors
    /// As [`Self::record_consumed`].
    ///
    /// `start` is when the group's first process started: a group that got the same id later has
    /// another.
    pub fn record_command_group(
        &mut self,
        group: Option<u32>,
        start: Option<String>,
        temporary: EntryId,
    ) -> Result<()> {
        let group = core::mem::replace(&mut self.record.command_group, group);
        let start = core::mem::replace(&mut self.record.command_start, start);
        let rewritten = self.rewrite(temporary);
        if rewritten.is_err() {
            (self.record.command_group, self.record.command_start) = (group, start);
        }
        rewritten
    }

    /// Renews the lease, of the flag and of the lock: they are one file only until the lock is
    /// rewritten.
    ///
    /// It writes the last byte over itself, and does not set a time: what counts is the clock of the
    /// file system, which on a network is not ours.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]; I/O errors.
    pub fn refresh(&self) -> Result<()> {
        let failed = |path: String| move |error: FsError| Error::io("renew the lease of", path, &error);
        let Some((lock, size)) = open_to_touch(&self.staging, LOCK).map_err(failed(LOCK_PATH.into()))? else {
            return Err(lost(owner_on_disk(&self.staging)));
        };
        // The token is read and the byte written through one descriptor: whatever is renamed over the
        // path meanwhile is not touched.
        if !tail_carries(&lock, size, self.flag.token).map_err(failed(LOCK_PATH.into()))? {
            return Err(lost(owner_on_disk(&self.staging)));
        }
        touch(&lock, size).map_err(failed(LOCK_PATH.into()))?;
        let path = owners_path(self.flag.as_str());
        let Some((flag, size)) =
            open_to_touch(&self.owners, self.flag.as_str()).map_err(failed(path.clone()))?
        else {
            return Err(flag_lost(&self.flag, owner_on_disk(&self.staging)));
        };
        touch(&flag, size).map_err(failed(path))
    }

    /// Removes what killed writers left, notes of entries that are gone, and old outcomes.
    pub(crate) fn sweep(&self) -> Result<()> {
        let now = self.system.now();
        for name in old_temporaries(&self.staging, now)? {
            // What can't be removed is found again.
            let _ = self.staging.unlink(&name);
        }
        quarantine::sweep(&self.staging, now);
        self.runs.remove_old(now);
        Ok(())
    }

    /// What runs of other owners had left unfinished, and what became of it.
    pub fn recovered(&self) -> &[Recovered] {
        &self.recovered
    }

    /// Commits the run, deletes the consumed entries and then the lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: nothing was deleted. An I/O error of the commit: nothing was deleted,
    /// and the lock is removed where that is possible; if the message says that the run is committed all
    /// the same, the next owner deletes the entries. An I/O error of removing the lock itself: the
    /// entries are deleted.
    pub fn release_with_cleanup(mut self) -> Result<ReleaseReport> {
        if self.consumed.is_empty() && self.changes.is_empty() && !self.committed {
            // A run that has ended under this lock stays ended, whatever became of the lock since.
            if self.ended && carries(&self.staging, self.flag.token)? != Carried::Ours {
                lower(&self.owners, &self.flag)?;
                return Ok(ReleaseReport { lost: true, ..ReleaseReport::default() });
            }
            self.check_ours()?;
            self.sweep_notes();
            self.remove()?;
            return Ok(ReleaseReport::default());
        }
        let report = match self.clean_up(u32::MAX) {
            Ok(report) => report,
            Err(error) if error.code == ErrorCode::LockLost => {
                return Err(besides(error, lower(&self.owners, &self.flag)));
            }
            // Nobody can try again with this handle.
            Err(error) => return Err(besides(error, self.remove_if_ours())),
        };
        // A lock that was lost since the commit: what was committed is done.
        match carries(&self.staging, self.flag.token)? {
            Carried::Ours => {
                self.sweep_notes();
                self.remove().map_err(|mut error| {
                    error.message =
                        format!("the run is committed and its entries are deleted; {}", error.message);
                    error
                })?;
            }
            Carried::Nothing | Carried::Other => {
                lower(&self.owners, &self.flag)?;
                return Ok(ReleaseReport { lost: true, ..report });
            }
        }
        Ok(report)
    }

    /// Commits the run if it is not committed, deletes at most so many of its entries and keeps the lock.
    /// When all are deleted the run has ended, and another can begin under the same lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: the run is not committed, and nothing was deleted. An I/O error of the
    /// commit: nothing was deleted.
    pub fn clean_up(&mut self, max_entries: u32) -> Result<ReleaseReport> {
        if self.consumed.is_empty() && self.changes.is_empty() && !self.committed {
            self.still_ours()?;
            return Ok(ReleaseReport::default());
        }
        self.commit()?;
        self.apply()?;
        let most = usize::try_from(max_entries).unwrap_or(usize::MAX);
        let until = self.cleaned.saturating_add(most).min(self.consumed.len());
        let deleted = delete_entries(
            &self.staging,
            self.consumed[self.cleaned..until].iter().copied(),
            self.durability,
        );
        self.cleaned = until;
        self.undeleted |= !deleted.failed.is_empty();
        self.unreported.add(deleted);
        if self.cleaned == self.consumed.len() {
            (self.consumed, self.cleaned) = (Vec::new(), 0);
            self.end_run()?;
        }
        let Deleted { removed, missing, failed } = core::mem::take(&mut self.unreported);
        let left = (self.consumed.len() - self.cleaned) as u64;
        Ok(ReleaseReport { removed, missing, failed, left, lost: false, note: self.kept.take() })
    }

    /// From here on the entries are consumed and the changes count, whatever happens.
    fn commit(&mut self) -> Result<()> {
        if self.committed {
            return Ok(());
        }
        let run = match self.run {
            Some(run) => run,
            // Changes without entries.
            None if !self.changes.is_empty() => *self.run.insert(fleeting_id(&self.system)),
            None => return Ok(()),
        };
        if self.sealed {
            return Err(lost(owner_on_disk(&self.staging)));
        }
        if let Some(unfinished) =
            self.recovered.iter().find(|recovered| recovered.unapplied).filter(|_| !self.changes.is_empty())
        {
            // Its new contents would be written over what this run makes of the same records.
            let message = format!(
                "an earlier run could not be ended, so this one can't change memory: {}",
                unfinished.note.as_deref().unwrap_or_default()
            );
            return Err(Error::new(ErrorCode::Io, message).at(UNFINISHED_PATH));
        }
        let (ending, ids) = match self.undoes {
            Some(_) => (Ending::Undone, Vec::new()),
            None => (Ending::Consolidated, self.consumed.clone()),
        };
        let mut outcome = Outcome::new(run, ending, self.record.owner(), self.system.now(), ids);
        outcome.undoes = self.undoes.map(|undone| undone.text());
        outcome.changes = changed_records(&self.changes);
        let again = core::mem::replace(&mut self.tried, true);
        let changes = &self.changes;
        match self.runs.commit(run, &outcome, changes, self.durability, again, || self.still_ours())? {
            Committed::Done => {
                self.committed = true;
                self.changed = outcome.changes;
                self.changes = Vec::new();
                Ok(())
            }
            Committed::Sealed => {
                self.sealed = true;
                Err(lost(owner_on_disk(&self.staging)))
            }
        }
    }

    /// Makes the changes of a run that is committed.
    fn apply(&mut self) -> Result<()> {
        if let Some(run) = self.run.filter(|_| self.committed) {
            self.kept = self.runs.apply(run, &self.changed, self.durability)?.or(self.kept.take());
            self.changed = Vec::new();
        }
        Ok(())
    }

    /// All of the entries were deleted, or tried to.
    fn end_run(&mut self) -> Result<()> {
        if self.durability == Durability::Full {
            // Before the run ends: entries that come back after a crash of the machine would be
            // consumed again by a run that knows nothing of this one.
            sync_names(&self.staging).map_err(|error| {
                let mut error = Error::io("synchronise", STAGING, &error);
                error.message = format!(
                    "{}; the entries are deleted, but that may not survive a power failure: the next run sees to it",
                    error.message
                );
                error
            })?;
        }
        if let Some(run) = self.run.take().filter(|_| !self.undeleted) {
            self.kept = joined(self.kept.take(), self.runs.end(run));
        }
        (self.committed, self.tried, self.undeleted, self.ended) = (false, false, false, true);
        self.undoes = None;
        self.unswept = true;
        self.runs_ended = self.runs_ended.saturating_add(1);
        // Once the entries are gone and not before: the notes of one that comes again are still needed. Not after
        // each of thousands of runs: a sweep lists all that there are.
        if self.runs_ended.is_power_of_two() {
            self.sweep_notes();
        }
        Ok(())
    }

    /// Removes notes of entries that are gone, and old outcomes, if runs have ended since that was done.
    fn sweep_notes(&mut self) {
        if core::mem::take(&mut self.unswept) {
            let now = self.system.now();
            quarantine::sweep(&self.staging, now);
            self.runs.remove_old(now);
        }
    }

    /// Deletes the lock and nothing else. If a run had begun, its outcome says that it failed, and why.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: the lock on disk is another's and is left. I/O errors.
    pub fn release_only(mut self, reason: Option<&str>) -> Result<ReleaseReport> {
        let ours = self.check_ours();
        // Also if the lock is lost: a lock that was removed by hand tells no successor of the run.
        if let Some(run) = self.run.filter(|run| !self.committed && !self.runs.is_decided(*run)) {
            let (owner, ids) = (self.record.owner(), self.record.consumed_ids.ids.clone());
            let mut outcome = Outcome::new(run, Ending::Failed, owner, self.system.now(), ids);
            outcome.reason = match (reason, &ours) {
                (None, Err(error)) => Some(error.message.clone()),
                // What ended then was most likely ended for that.
                (Some(reason), Err(error)) if error.code == ErrorCode::LockLost => {
                    Some(["the lock was lost: ", reason].concat())
                }
                (reason, _) => reason.map(Into::into),
            };
            // It fails with a full disk, and nothing else depends on it.
            let _ = self.runs.write_ended(run, &outcome, fleeting_id(&self.system));
        }
        ours?;
        self.sweep_notes();
        self.remove()?;
        Ok(ReleaseReport { note: self.kept, ..ReleaseReport::default() })
    }

    fn remove_if_ours(&self) -> Result<()> {
        match carries(&self.staging, self.flag.token)? {
            Carried::Ours => self.remove(),
            Carried::Nothing | Carried::Other => lower(&self.owners, &self.flag),
        }
    }

    /// Fails, and lowers the flag, if the lock on disk is not ours.
    fn check_ours(&self) -> Result<()> {
        let carried = carries(&self.staging, self.flag.token)?;
        if carried == Carried::Ours {
            return Ok(());
        }
        let error = lost(if carried == Carried::Other { owner_on_disk(&self.staging) } else { None });
        Err(besides(error, lower(&self.owners, &self.flag)))
    }

    /// L first, then F: in between there is a contender that no longer contends, which costs others a
    /// moment. The other way round there would be a lock whose holder nobody sees in the roster. For the
    /// same reason F stands when L could not be removed.
    fn remove(&self) -> Result<()> {
        unlink_lock(&self.staging)?;
        lower(&self.owners, &self.flag)
    }

    pub(crate) fn still_ours(&self) -> Result<()> {
        still_ours(&self.staging, &self.owners, &self.flag)
    }

    fn rewrite(&self, temporary: EntryId) -> Result<()> {
        self.still_ours()?;
        replace(&self.staging, &temporary.temporary_name(), LOCK, &self.record.to_file(), Durability::None)
            .map_err(|error| Error::io("rewrite the lock", LOCK_PATH, &error))?;
        // Who was stopped between the look and the rename for longer than its lease has just put its record
        // over that of its successor, and must not go on as if it held.
        match self.owners.stat(self.flag.as_str()) {
            Err(error) if error.kind == FsErrorKind::NotFound => {
                let taken_back = take_down(&self.staging, self.flag.token).map(drop);
                Err(besides(flag_lost(&self.flag, None), taken_back))
            }
            _ => Ok(()),
        }
    }
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// [`Held::record_consumed`] with a temporary name of this workspace's making.
    ///
    /// # Errors
    /// As there.
    pub fn record_consumed(&self, held: &mut Held<D, S>, ids: Vec<EntryId>) -> Result<()> {
        held.record_consumed(ids, self.new_id())
    }

    /// Writes the ids that a snapshot names into the lock, and sets those that were read for
    /// [`Held::release_with_cleanup`] to delete: nothing is deleted that nobody saw. While the lock is
    /// held is also the time to remove what killed writers left.
    ///
    /// # Errors
    /// As [`Held::record_consumed`].
    pub fn record_snapshot(&self, held: &mut Held<D, S>, snapshot: &mut Snapshot<D>) -> Result<()> {
        held.check_uncommitted()?;
        // Most often nothing proved unusable, and there is nothing new to write the second time.
        if held.record.consumed_ids.ids == snapshot.ids() {
            held.still_ours()?;
        } else {
            held.record_named(snapshot.ids(), self.new_id())?;
        }
        held.consumed = snapshot.read_ids().to_vec();
        snapshot.remove_old_temporaries(self.system.now());
        Ok(())
    }

    /// [`Held::record_command_group`] with a temporary name of this workspace's making.
    ///
    /// # Errors
    /// As there.
    pub fn record_command_group(&self, held: &mut Held<D, S>, group: Option<u32>) -> Result<()> {
        let start = group.map(|group| clip(&self.system.inspect(group).start).to_owned());
        held.record_command_group(group, start.filter(|start| !start.is_empty()), self.new_id())
    }
}

/// Is the lock ours, and do others see that in the roster? Who judges us dead removes the flag first.
pub(super) fn still_ours<D: Dir>(staging: &D, owners: &D, flag: &FlagName) -> Result<()> {
    match owners.stat(flag.as_str()) {
        Ok(_) => {}
        Err(error) if error.kind == FsErrorKind::NotFound => {
            // Who took over says more than that we were judged dead.
            return Err(match carries(staging, flag.token)? {
                Carried::Other => lost(owner_on_disk(staging)),
                Carried::Ours | Carried::Nothing => flag_lost(flag, None),
            });
        }
        Err(error) => return Err(Error::io("look at the owner flag", owners_path(flag.as_str()), &error)),
    }
    match carries(staging, flag.token)? {
        Carried::Ours => Ok(()),
        Carried::Other => Err(lost(owner_on_disk(staging))),
        Carried::Nothing => Err(lost(None)),
    }
}

/// Opens a regular file of ours for [`touch`]; none if it is gone or is something else.
fn open_to_touch<D: Dir>(dir: &D, name: &str) -> FsResult<Option<(D::File, u64)>> {
    let open = || {
        let stat = dir.stat(name)?;
        if stat.kind != Kind::File {
            return Ok(None);
        }
        Ok(Some((dir.open_for_update(name)?, stat.size)))
    };
    match open() {
        Err(FsError { kind: FsErrorKind::NotFound, .. }) => Ok(None),
        other => other,
    }
}

/// Renews the mtime of a file by writing its last byte over itself.
fn touch(file: &impl File, size: u64) -> FsResult<()> {
    let Some(last) = size.checked_sub(1) else { return Ok(()) };
    let byte = file.read(1, last)?;
    file.write(&byte, last).map(drop)
}
