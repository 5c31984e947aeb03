//! A lock that is held. Invariant: it is only ever replaced by rename, never written in place, but for
//! [`Held::refresh`], which writes one byte over itself; and nothing is touched that is another's.

use super::look::{Carried, carries, owner_on_disk, tail_carries};
use super::refusal::lost;
use super::roster::lower;
use super::{Held, ReleaseReport, besides, unlink_lock};
use crate::durable::{Durability, replace};
use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Dir, File, FsError, FsErrorKind, FsResult, Kind};
use crate::layout::{EntryId, LOCK, LOCK_PATH, Token, clip, owners_path};
use crate::record::LockRecord;
use crate::staging::Snapshot;
use crate::system::System;
use crate::workspace::Workspace;

impl<D: Dir> Held<D> {
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
        self.record_named(&ids, temporary)?;
        self.consumed = ids;
        Ok(())
    }

    /// Does the lock name just these entries?
    fn names(&self, ids: &[EntryId]) -> bool {
        self.record.consumed_ids.len() == ids.len()
            && self.record.consumed_ids.iter().zip(ids).all(|(text, id)| EntryId::parse(text) == Some(*id))
    }

    fn record_named(&mut self, ids: &[EntryId], temporary: EntryId) -> Result<()> {
        let texts = ids.iter().map(EntryId::to_string).collect();
        let earlier = std::mem::replace(&mut self.record.consumed_ids, texts);
        let rewritten = self.rewrite(temporary);
        if rewritten.is_err() {
            self.record.consumed_ids = earlier;
        }
        rewritten
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
        let group = std::mem::replace(&mut self.record.command_group, group);
        let start = std::mem::replace(&mut self.record.command_start, start);
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
            let message = format!(
                "consolidation lock {LOCK_PATH} is no longer ours: somebody removed its owner flag; no entry was deleted, run the consolidation again"
            );
            return Err(Error::new(ErrorCode::LockLost, message).at(path));
        };
        touch(&flag, size).map_err(failed(path))
    }

    /// Deletes the consumed entries and then the lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: nothing was deleted. An I/O error of removing the lock itself: the
    /// entries are deleted.
    pub fn release_with_cleanup(mut self) -> Result<ReleaseReport> {
        self.check_ours()?;
        let report = self.delete_consumed(usize::MAX);
        self.remove()?;
        Ok(report)
    }

    /// Deletes at most so many of the consumed entries and keeps the lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: nothing was deleted.
    pub fn clean_up(&mut self, max_entries: u32) -> Result<ReleaseReport> {
        self.still_ours()?;
        Ok(self.delete_consumed(usize::try_from(max_entries).unwrap_or(usize::MAX)))
    }

    fn delete_consumed(&mut self, max: usize) -> ReleaseReport {
        let mut report = ReleaseReport::default();
        let rest = self.consumed.split_off(max.min(self.consumed.len()));
        for id in std::mem::replace(&mut self.consumed, rest) {
            match self.staging.unlink(&id.file_name()) {
                Ok(()) => report.removed += 1,
                Err(error) if error.kind == FsErrorKind::NotFound => report.missing += 1,
                Err(error) => report.failed.push((id, error.to_string())),
            }
        }
        report.left = self.consumed.len() as u64;
        report
    }

    /// Deletes the lock and nothing else.
    ///
    /// # Errors
    /// [`ErrorCode::LockLost`]: the lock on disk is another's and is left. I/O errors.
    pub fn release_only(self) -> Result<ReleaseReport> {
        self.check_ours()?;
        self.remove()?;
        Ok(ReleaseReport::default())
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
    /// moment. The other way round there would be a lock whose holder nobody sees in the roster.
    fn remove(&self) -> Result<()> {
        let removed = unlink_lock(&self.staging);
        let lowered = lower(&self.owners, &self.flag);
        match removed {
            Ok(()) => lowered,
            Err(error) => Err(besides(error, lowered)),
        }
    }

    fn still_ours(&self) -> Result<()> {
        match carries(&self.staging, self.flag.token)? {
            Carried::Ours => Ok(()),
            Carried::Other => Err(lost(owner_on_disk(&self.staging))),
            Carried::Nothing => Err(lost(None)),
        }
    }

    fn rewrite(&self, temporary: EntryId) -> Result<()> {
        self.still_ours()?;
        replace(&self.staging, &temporary.temporary_name(), LOCK, &self.record.to_file(), Durability::None)
            .map_err(|error| Error::io("rewrite the lock", LOCK_PATH, &error))
    }
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// [`Held::record_consumed`] with a temporary name of this workspace's making.
    ///
    /// # Errors
    /// As there.
    pub fn record_consumed(&self, held: &mut Held<D>, ids: Vec<EntryId>) -> Result<()> {
        held.record_consumed(ids, self.new_id())
    }

    /// Writes the ids that a snapshot names into the lock, and sets those that were read for
    /// [`Held::release_with_cleanup`] to delete: nothing is deleted that nobody saw. While the lock is
    /// held is also the time to remove what killed writers left.
    ///
    /// # Errors
    /// As [`Held::record_consumed`].
    pub fn record_snapshot(&self, held: &mut Held<D>, snapshot: &mut Snapshot<D>) -> Result<()> {
        // Most often nothing proved unusable, and there is nothing new to write the second time.
        if held.names(snapshot.ids()) {
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
    pub fn record_command_group(&self, held: &mut Held<D>, group: Option<u32>) -> Result<()> {
        let start = group.map(|group| clip(&self.system.inspect(group).start).to_owned());
        held.record_command_group(group, start.filter(|start| !start.is_empty()), self.new_id())
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
