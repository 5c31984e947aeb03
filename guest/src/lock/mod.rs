//! The consolidation lock: the roster protocol. Invariant: of all processes that follow it, at most
//! one holds the lock, whatever the moment at which any of them stops.
//!
//! `L` is the visible lock, `F` an owner's flag in a directory of its own; the token in the flag's
//! name is fresh for each attempt and a flag is never renamed.
//!
//! ```text
//! acquire:
//!  1  create F exclusively; write the whole record; close
//!  2  for each other flag G: owner dead -> unlink G, else G is live
//!     if any is live:
//!         some live G sorts before F, or L is present and not stale  -> unlink F; in use
//!         sleep with jitter; again (about 2 s in all, then unlink F; in use)
//!  3  link(F, L)                               ok -> held
//!  4  EEXIST: read L; gone -> 3; not stale -> unlink F; in use
//!             stale: read L again; the same -> unlink L; goto 3
//! release: L carries our token ? unlink L; unlink F
//!
//! beside writers of the original format (an option; Q is L put aside):
//!  3a Q is there: its owner is dead -> unlink Q, else link it back to L -> unlink F; in use   (always)
//!  4  stale: rename L to Q; what Q holds was judged -> unlink Q; goto 3
//!                           it is another's       -> link it back to L; unlink F; in use
//!  5  after link: wait 100 ms; L carries our token and F stands ? held : unlink F; in use
//! ```
//!
//! Why it excludes: F stands from before the scan until after the hold, so of two processes the one
//! that raised its flag later sees the other's. Only a process that saw no live flag touches L. A name
//! is never used twice, so unlinking a dead owner's flag can't hit anybody else's. A fresh take is
//! decided once more by `link`, which the file system makes atomic.
//!
//! A crash after step 1 leaves F, after step 3 F and L: both are a dead owner's and are removed by the
//! next one. While the lock is held L is only ever replaced by rename, never written in place, but for
//! [`Held::refresh`], which writes one byte over itself.

mod aside;
mod attempt;
mod held;
mod look;
mod refusal;
mod roster;
mod unlock;

use crate::durable::{Durability, create_whole};
use crate::error::{Error, ErrorCode, Owner, Result};
use crate::fs::{Dir, FsErrorKind};
use crate::layout::{
    EntryId, FlagName, LOCK, LOCK_PATH, OWNERS, OWNERS_PATH, RunId, STAGING, Token, owners_path,
};
use crate::liveness::{Verdict, judge_flag};
use crate::memory::Change;
use crate::outcome::{ChangedRecord, EndedBy};
use crate::prelude::*;
use crate::record::LockRecord;
use crate::runs::{Deleted, Recovered, Runs};
use crate::system::System;
use crate::workspace::{Workspace, open_or_create_nested};
use aside::take_down;
use attempt::{Attempt, Taken};
use held::still_ours;
use look::{Carried, Found, Place, carries, excerpt, look_for_owner, read_record};
pub(crate) use refusal::not_a_file;
use roster::{Roster, lease_of, lower, remove_flag_file, roster};

/// For how long a lock file that can't be read must not have changed before it counts as stale: its
/// writer may be between creating it and writing it. In seconds.
const UNREADABLE_GRACE_SECONDS: u32 = 5;

/// How often a look at the lock is repeated that shows one stale lock after another.
const LOOKS: u32 = 8;

/// The longest name of a pod, in bytes.
pub const MAX_POD_NAME_BYTES: usize = 1_024;

/// How a lock is to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcquireOptions {
    /// The pod that takes it.
    pub pod_name: String,
    /// Its lease; none: it never runs out.
    pub lease_seconds: Option<u32>,
    /// The token; none: a fresh one is drawn.
    pub token: Option<Token>,
    /// Of the commit of a run and of its deletes.
    pub durability: Durability,
    /// Programs of the original format, which write the lock without any exclusion, are at work in this
    /// workspace too. See [`crate::lock`].
    pub coexist: bool,
}

/// What stood in the way and was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// A dead owner's lock, and why the owner counts as dead.
    Stale(Owner, String),
    /// A lock file that could not be read: why, and how it begins.
    Unreadable(String, String),
    /// By force, the lock of an owner that is not proved to be dead, and what is known of it.
    Forced(Owner, String),
}

/// The state of the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is none.
    Free,
    /// Its owner lives.
    Held(Holder),
    /// Nobody can tell from here, and its lease has not run out.
    Unknown(Holder),
    /// Its owner is dead.
    Stale(Holder),
    /// It is no lock record: why, and how it begins.
    Unreadable(String, String),
    /// At this path stands something that is no file: what.
    Blocked(&'static str, String),
}

/// A lock's owner and the verdict on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The owner.
    pub owner: Owner,
    /// How many ids it lists as consumed.
    pub consumed: u64,
    /// Why it counts as what it counts as.
    pub reason: String,
    /// It is dead itself, and the command that it started works on.
    pub by_command: bool,
}

/// What a release did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseReport {
    /// Consumed entries that were deleted.
    pub removed: u64,
    /// Consumed entries that were gone.
    pub missing: u64,
    /// Consumed entries that could not be deleted, and why.
    pub failed: Vec<(EntryId, String)>,
    /// Consumed entries that are still to be deleted.
    pub left: u64,
    /// The run is committed and its entries are deleted, and by then the lock was no longer ours.
    pub lost: bool,
    /// What is to be known of it besides.
    pub note: Option<String>,
}

/// A lock that is held. Dropping it leaves the lock on disk.
#[derive(Debug)]
pub struct Held<D, S> {
    pub(crate) system: S,
    pub(crate) staging: D,
    owners: D,
    pub(crate) runs: Runs<D>,
    flag: FlagName,
    record: LockRecord,
    consumed: Vec<EntryId>,
    /// How many of them were deleted, or tried to. A call that took these out would move all the others.
    cleaned: usize,
    /// What the run changes in memory, until it is committed.
    changes: Vec<Change>,
    /// The records that a committed run changes, until that is done.
    changed: Vec<ChangedRecord>,
    /// What is to be known of the run besides, in words.
    kept: Option<String>,
    /// The run that has taken them.
    run: Option<RunId>,
    /// The run whose changes it puts back.
    undoes: Option<RunId>,
    /// It is committed, to the disk if that was asked for.
    committed: bool,
    /// Its commit was tried.
    tried: bool,
    /// Some of its entries could not be deleted.
    undeleted: bool,
    /// What was deleted by a call that failed afterwards.
    unreported: Deleted,
    /// A successor sealed the run: it must not be committed any more, also by another ticket.
    sealed: bool,
    /// A run has ended under this lock, and no other has begun.
    ended: bool,
    /// How many have ended.
    runs_ended: u32,
    /// Some of them since the last sweep.
    unswept: bool,
    pub(crate) durability: Durability,
    recovered: Vec<Recovered>,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// Takes the lock, and ends what runs of other owners left unfinished. Returns with it what was
    /// taken over.
    ///
    /// # Errors
    /// [`ErrorCode::InUse`] with the owner; [`ErrorCode::WrongFileType`] if a directory or a symbolic
    /// link stands in the place of the lock; I/O errors. After an error our flag is gone and the lock
    /// is as it was, or a stale one is removed.
    pub fn acquire(&self, options: &AcquireOptions) -> Result<(Held<D, S>, Option<Takeover>)> {
        if options.pod_name.len() > MAX_POD_NAME_BYTES {
            let message = format!("the name of the pod has more than {MAX_POD_NAME_BYTES} bytes");
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        let here = self.here()?;
        let me = &here.identity;
        let (staging, owners) =
            open_or_create_nested(&*self.root, (STAGING, STAGING), (OWNERS, OWNERS_PATH))?;
        // Now, and not when the consolidator has done its work and there is no place for its outcome.
        let runs = self.runs_or_create()?;
        let token = options.token.unwrap_or_else(|| {
            let mut random = [0; 16];
            self.system.random(&mut random);
            Token::new(random)
        });
        let record = LockRecord::new(me, &options.pod_name, self.system.now(), token, options.lease_seconds);
        let flag = FlagName::of(&here.flags, me.pid, token);
        // Step 1. Nothing is synchronised: after a crash of the machine every owner is dead anyway.
        let content = record.to_file_with(&here.members);
        if let Err(failed) = create_whole(&owners, flag.as_str(), &content, Durability::None) {
            let error = Error::io("raise the owner flag", owners_path(flag.as_str()), &failed);
            // A flag that exists is that of an earlier attempt with this token.
            let exists = failed.kind == FsErrorKind::Exists;
            return Err(if exists { error } else { retreat(&staging, &owners, &flag, error) });
        }
        let attempt = Attempt {
            system: &self.system,
            staging: &staging,
            owners: &owners,
            me,
            flag: &flag,
            coexist: options.coexist,
        };
        let by = EndedBy { pid: me.pid, pod_name: options.pod_name.clone() };
        let taken = attempt.contend(&record).and_then(|Taken { took_over, dead }| {
            let still_ours = || still_ours(&staging, &owners, &flag);
            let recovered =
                self.recover(&runs, &staging, dead.as_ref(), &by, options.durability, still_ours)?;
            Ok((took_over, recovered))
        });
        let (took_over, recovered) = match taken {
            Ok(taken) => taken,
            Err(error) => {
                let mut error = retreat(&staging, &owners, &flag, error);
                if error.code == ErrorCode::LockLost {
                    // It was never handed out: somebody else was faster.
                    error.code = ErrorCode::InUse;
                }
                return Err(error);
            }
        };
        let held = Held {
            system: self.system.clone(),
            staging,
            owners,
            runs,
            flag,
            record,
            consumed: Vec::new(),
            cleaned: 0,
            changes: Vec::new(),
            changed: Vec::new(),
            kept: None,
            run: None,
            undoes: None,
            committed: false,
            tried: false,
            undeleted: false,
            unreported: Deleted::default(),
            sealed: false,
            ended: false,
            runs_ended: 0,
            unswept: false,
            durability: options.durability,
            recovered,
        };
        Ok((held, took_over))
    }

    /// The state of the lock. Changes nothing.
    ///
    /// # Errors
    /// I/O errors.
    pub fn lock_status(&self) -> Result<Status> {
        let Some(staging) = self.staging()? else {
            return Ok(Status::Free);
        };
        // Without a file of our own there is only our clock; acquire decides by the file system's.
        let look_at =
            |place| look_for_owner(&staging, place, &|| self.here(), &self.system, Some(self.system.now()));
        let look = || match look_at(Place::Lock)? {
            Found::Nothing => look_at(Place::Aside),
            found => Ok(found),
        };
        let mut found = look()?;
        // A holder that releases the lock and ends between our look at the record and at the process seems to have
        // left it: what is said of a lock that is left is said after a second look.
        for _ in 0..LOOKS {
            let Found::Stale(holder, _) = &found else { break };
            let owner = holder.owner.clone();
            found = look()?;
            if matches!(&found, Found::Stale(holder, _) if holder.owner == owner) {
                break;
            }
        }
        Ok(match found {
            Found::Nothing => self.contender(&staging)?.unwrap_or(Status::Free),
            Found::Ours => Status::Free,
            Found::Held(holder) => Status::Held(holder),
            Found::Unknown(holder) => Status::Unknown(holder),
            Found::Stale(holder, _) => Status::Stale(holder),
            Found::Unreadable { reason, content, .. } => Status::Unreadable(reason, excerpt(&content)),
            Found::NotAFile(kind, place) => Status::Blocked(place.path(), not_a_file(kind)),
        })
    }

    /// One that has raised its flag and not taken the lock: for a moment there is one at every acquire, and
    /// for longer if it was stopped there. Nobody else gets the lock then.
    fn contender(&self, staging: &D) -> Result<Option<Status>> {
        // Something else in its place stops everybody who wants the lock, and tells them so.
        let Ok(owners) = staging.open_dir(OWNERS) else { return Ok(None) };
        let Ok(Roster { flags, .. }) = roster(&owners, None) else { return Ok(None) };
        for flag in flags {
            let lease = &|| lease_of(&owners, &flag, Some(self.system.now()));
            let verdict = judge_flag(&flag, &self.here()?.identity, &self.system, lease);
            let owner = read_record(&owners, flag.as_str())
                .map_or_else(|| Owner { pid: flag.pid, ..Owner::unknown() }, |record| record.owner());
            let reason = format!("it is taking the lock; {}", verdict.reason());
            let holder = Holder { owner, consumed: 0, reason, by_command: false };
            match verdict {
                Verdict::Dead(_) => {}
                Verdict::Alive(_) | Verdict::Working(_) => return Ok(Some(Status::Held(holder))),
                Verdict::Unknown(_) => return Ok(Some(Status::Unknown(holder))),
            }
        }
        Ok(None)
    }

    /// Clears what an instance that is gone left behind under this token: its flag, and the lock if it
    /// carries the token. True if there was anything.
    ///
    /// # Errors
    /// I/O errors; the call can be repeated.
    pub fn abandon(&self, token: Token) -> Result<bool> {
        // In what is no directory there is no lock, and nobody looks for one there.
        let staging = match self.staging() {
            Ok(Some(staging)) => staging,
            Ok(None) => return Ok(false),
            Err(error) if error.code == ErrorCode::WrongFileType => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut found = false;
        // L first: a flag without a lock is a contender that is gone, a lock without a flag would be
        // a holder that nobody sees in the roster.
        if carries(&staging, token)? == Carried::Ours {
            self.note_abandoned(&staging, token);
        }
        if take_down(&staging, token)? {
            found = true;
        }
        let owners = match staging.open_dir(OWNERS) {
            Ok(owners) => owners,
            Err(error) if matches!(error.kind, FsErrorKind::NotFound | FsErrorKind::WrongType) => {
                return Ok(found);
            }
            Err(error) => return Err(Error::io("open the directory", OWNERS_PATH, &error)),
        };
        let Roster { flags, copies } = roster(&owners, None)?;
        for copy in copies.iter().filter(|copy| copy.token == token) {
            remove_flag_file(&owners, &copy.publish_name())?;
            found = true;
        }
        for flag in flags.iter().filter(|flag| flag.token == token) {
            lower(&owners, flag)?;
            found = true;
        }
        Ok(found)
    }

    /// Notes the outcome of the run whose lock is abandoned. If it was committed, the next one who takes
    /// the lock ends it, and notes that.
    fn note_abandoned(&self, staging: &D, token: Token) {
        let Some(record) = read_record(staging, LOCK) else { return };
        // Since the look that found our token it may have become another's.
        if record.token != Some(token.text()) {
            return;
        }
        let Some(run) = record.run_id.as_deref().and_then(RunId::parse) else { return };
        let Ok(Some(runs)) = self.runs() else { return };
        let by = EndedBy { pid: record.pid, pod_name: record.pod_name.clone() };
        self.note_aborted(&runs, run, &record, &by, "its instance failed");
    }
}

/// Takes an attempt back after an error, which stays the one that is told. A call that failed may have
/// had its effect all the same (a network file system whose answer was lost): where that is possible
/// the lock and the copy are looked for.
pub(super) fn retreat<D: Dir>(staging: &D, owners: &D, flag: &FlagName, error: Error) -> Error {
    let mut error = error;
    let mut is_down = true;
    if error.code != ErrorCode::InUse {
        let lock = take_down(staging, flag.token).map(drop);
        is_down = lock.is_ok();
        error = besides(besides(error, lock), remove_flag_file(owners, &flag.publish_name()));
    }
    // The flag goes last: without it others would take a lock of ours that still stands for another's.
    let lowered = if is_down { lower(owners, flag) } else { Ok(()) };
    if !is_down || lowered.is_err() {
        // What stands keeps everybody out for as long as its process lives, which is worse than to be
        // refused. The host sees to it.
        error.code = ErrorCode::Io;
    }
    besides(error, lowered)
}

/// An error, with what went wrong after it.
pub(super) fn besides(mut error: Error, then: Result<()>) -> Error {
    if let Err(then) = then {
        error.message = format!("{}; besides, {}", error.message, then.message);
    }
    error
}

pub(super) fn unlink_lock<D: Dir>(staging: &D) -> Result<()> {
    match staging.unlink(LOCK) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove the lock", LOCK_PATH, &error)),
    }
}
