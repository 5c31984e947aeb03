//! Removing a lock without taking it. Invariant: without force only what the protocol itself would
//! remove.

use super::aside::unlink_aside;
use super::look::{Found, Place, excerpt, look, read_record, token_on_disk};
use super::refusal::not_a_file_error;
use super::roster::{Roster, lower, remove_flag_file, roster};
use super::{AcquireOptions, Takeover, unlink_lock};
use crate::error::{Error, Owner, Result};
use crate::fs::{Dir, FsErrorKind};
use crate::layout::{ASIDE, FlagName, LOCK, OWNERS, OWNERS_PATH, RunId};
use crate::liveness::{Lease, Verdict, judge_flag};
use crate::outcome::{EndedBy, Ending, Outcome};
use crate::prelude::*;
use crate::record::LockRecord;
use crate::system::System;
use crate::workspace::Workspace;

impl<D: Dir, S: System> Workspace<D, S> {
    /// Removes a stale lock by the rules of [`Self::acquire`]; with `force` any lock, with its owner's
    /// flag and the flags of owners that can't be proved alive. What is removed by force is noted among
    /// the outcomes of runs, with `reason`. Returns what was removed.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn unlock(
        &self,
        options: &AcquireOptions,
        force: bool,
        reason: Option<&str>,
    ) -> Result<Option<Takeover>> {
        let Some(staging) = self.staging()? else {
            return Ok(None);
        };
        if force {
            let record = read_record(&staging, LOCK).or_else(|| read_record(&staging, ASIDE));
            let removed = self.remove_by_force(&staging)?;
            if let Some(removed) = &removed {
                self.note_unlocked(removed, record, options, reason);
            }
            return Ok(removed);
        }
        let gone = |name| matches!(staging.stat(name), Err(error) if error.kind == FsErrorKind::NotFound);
        if gone(LOCK) && gone(ASIDE) {
            return Ok(None);
        }
        // The protocol judges it, and removes it if it is stale.
        let (held, took_over) = self.acquire(options)?;
        held.release_only(None)?;
        Ok(took_over)
    }

    /// Notes who removed whose lock, and why. The run itself, if there was one, is ended by the next owner.
    fn note_unlocked(
        &self,
        removed: &Takeover,
        record: Option<LockRecord>,
        options: &AcquireOptions,
        reason: Option<&str>,
    ) {
        let Ok(runs) = self.runs_or_create() else { return };
        let (owner, state) = match removed {
            Takeover::Stale(owner, state) | Takeover::Forced(owner, state) => (owner.clone(), state),
            Takeover::Unreadable(state, _) => (Owner::unknown(), state),
        };
        let its_run = record.as_ref().and_then(|record| RunId::parse(record.run_id.as_deref()?));
        let state = match its_run {
            Some(run) => format!("{state}; its run is {run}"),
            None => state.clone(),
        };
        let ids = record.map(|record| record.consumed_ids.ids).unwrap_or_default();
        let by = EndedBy { pid: self.system.pid(), pod_name: options.pod_name.clone() };
        let reason = match reason {
            Some(reason) => format!("{reason} ({state})"),
            None => format!("no reason was given ({state})"),
        };
        let (run, now) = (self.new_id(), self.system.now());
        let mut outcome = Outcome::new(run, Ending::Unlocked, owner, now, ids);
        outcome.end(Ending::Unlocked, now, &by, reason);
        self.note(&runs, run, &outcome);
    }

    fn remove_by_force(&self, staging: &D) -> Result<Option<Takeover>> {
        let here = self.here()?;
        let me = &here.identity;
        let now = Some(self.system.now());
        let found = match look(staging, Place::Lock, me, &self.system, None, now)? {
            Found::Nothing => look(staging, Place::Aside, me, &self.system, None, now)?,
            found => found,
        };
        let (removed, token) = match found {
            Found::Nothing | Found::Ours => (None, None),
            Found::NotAFile(kind, place) => return Err(not_a_file_error(kind, place)),
            Found::Held(holder) | Found::Unknown(holder) => {
                (Some(Takeover::Forced(holder.owner, holder.reason)), token_on_disk(staging)?)
            }
            Found::Stale(holder, _) => {
                (Some(Takeover::Stale(holder.owner, holder.reason)), token_on_disk(staging)?)
            }
            Found::Unreadable { reason, content, .. } => {
                (Some(Takeover::Unreadable(reason, excerpt(&content))), None)
            }
        };
        if removed.is_some() {
            unlink_lock(staging)?;
            unlink_aside(staging)?;
        }
        let owners = match staging.open_dir(OWNERS) {
            Ok(owners) => owners,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(removed),
            Err(error) => return Err(Error::io("open the directory", OWNERS_PATH, &error)),
        };
        let judge = |flag: &FlagName| {
            judge_flag(flag, me, &self.system, &|| Lease { seconds: None, renewed: None, now: None })
        };
        let Roster { flags, copies } = roster(&owners, None)?;
        // Without a lock it is a contender that is in the way: one that was stopped, or hangs, between
        // raising its flag and taking the lock. When it goes on it finds no flag to link.
        let in_the_way = flags.iter().find(|flag| removed.is_none() && !judge(flag).is_dead()).map(|flag| {
            let owner = read_record(&owners, flag.as_str())
                .map_or_else(|| Owner { pid: flag.pid, ..Owner::unknown() }, |record| record.owner());
            Takeover::Forced(owner, format!("it was taking the lock; {}", judge(flag).reason()))
        });
        let spared = |flag: &FlagName| {
            in_the_way.is_none() && Some(flag.token) != token && matches!(judge(flag), Verdict::Alive(_))
        };
        for copy in copies.iter().filter(|copy| !spared(copy)) {
            remove_flag_file(&owners, &copy.publish_name())?;
        }
        for flag in flags.iter().filter(|flag| !spared(flag)) {
            lower(&owners, flag)?;
        }
        Ok(removed.or(in_the_way))
    }
}
