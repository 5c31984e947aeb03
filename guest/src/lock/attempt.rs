//! One attempt at the lock: steps 2 to 4. Invariant: the lock is touched only after a look at the roster
//! that showed no other live flag.

use super::aside::{Broken, SETTLE_MS, break_lock, settle};
use super::look::{Changed, Found, Place, excerpt, is_still, look, owner_on_disk, read_lock, read_record};
use super::refusal::{flag_lost, in_use, refusal};
use super::roster::{Roster, judge_copy, lease_of, lower, remove_flag_file, roster};
use super::{Takeover, UNREADABLE_GRACE_SECONDS, unlink_lock};
use crate::durable::{Durability, create_whole};
use crate::error::{Error, ErrorCode, Owner, Result};
use crate::fs::{Dir, FsError, FsErrorKind, FsResult, Time};
use crate::layout::{FlagName, LOCK, LOCK_PATH, owners_path};
use crate::liveness::{Lease, Verdict, judge_flag};
use crate::order;
use crate::prelude::*;
use crate::record::LockRecord;
use crate::system::{Identity, System};

/// For how long contenders that arrived together wait for each other, in milliseconds.
const CONTEND_MS: u32 = 2_000;

/// How many times the lock may vanish and appear again under our hands before we give up.
const MAX_TAKES: u32 = 64;

/// What an attempt took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) took_over: Option<Takeover>,
    /// The record of the dead owner.
    pub(super) dead: Option<LockRecord>,
}

/// One attempt at the lock, with its flag raised.
pub(super) struct Attempt<'a, D, S> {
    pub(super) system: &'a S,
    pub(super) staging: &'a D,
    pub(super) owners: &'a D,
    pub(super) me: &'a Identity,
    pub(super) flag: &'a FlagName,
    /// Writers of the original format are at work beside us.
    pub(super) coexist: bool,
}

impl<D: Dir, S: System> Attempt<'_, D, S> {
    /// Steps 2 to 4.
    pub(super) fn contend(&self, record: &LockRecord) -> Result<Taken> {
        if self.coexist {
            self.probe_links()?;
        }
        let mut waited = 0;
        loop {
            let live = self.live_flags()?;
            let Some((first, verdict)) = live.first() else { break };
            let found = self.look()?;
            if matches!(found, Found::Held(_) | Found::Unknown(_) | Found::NotAFile(..)) {
                return Err(refusal(found));
            }
            // Every live process does the same comparison: the first one stays, all others go.
            if first < self.flag || waited >= CONTEND_MS {
                return Err(self.in_use_by(first, verdict));
            }
            let mut jitter = [0u8; 1];
            self.system.random(&mut jitter);
            let pause = 5 + u32::from(jitter[0]) / 8;
            self.system.sleep_ms(pause);
            waited += pause;
        }
        self.take(record)
    }

    /// Steps 3 and 4. No other live flag was seen: until ours is lowered nobody else touches L.
    fn take(&self, record: &LockRecord) -> Result<Taken> {
        let mut taken = Taken::default();
        let mut links = true;
        let mut look_aside = true;
        for _ in 0..MAX_TAKES {
            if core::mem::take(&mut look_aside) {
                let look = || self.look_at(Place::Aside);
                let waited = |content: &[u8], modified| self.stays(Place::Aside, content, modified);
                if let Some(removed) = settle(self.staging, look, waited)? {
                    taken.took_over = Some(removed);
                }
            }
            if links {
                match self.link(record) {
                    Ok(()) => return self.settled(taken),
                    Err(error) if error.kind == FsErrorKind::Exists => {}
                    Err(error) if lacks_links(&error) && !self.coexist => links = false,
                    Err(error) => return Err(self.cannot_create(&error)),
                }
            }
            match self.look()? {
                // The answer to an earlier link was lost on its way (NFS): it is ours.
                Found::Ours => return self.settled(taken),
                Found::Nothing if links => {}
                // A rename replaces what is there, so one answer "nothing" is not enough: a network file
                // system gives it for a file that was replaced a moment ago.
                Found::Nothing if matches!(self.look()?, Found::Nothing) => {
                    self.publish(record)?;
                    return Ok(taken);
                }
                Found::Nothing => {}
                Found::Stale(holder, content) => {
                    // The owner was judged dead after its record was read. If the file is another one
                    // by now the verdict is not about it.
                    if read_lock(self.staging, Place::Lock)?.as_ref() != Some(&content) {
                        continue;
                    }
                    match self.remove_lock(&content, None)? {
                        Broken::Yes => {
                            taken.took_over = Some(Takeover::Stale(holder.owner, holder.reason));
                            taken.dead = LockRecord::parse(&content).ok();
                        }
                        Broken::Vanished => look_aside = true,
                        Broken::Another => return Err(self.in_use_now()),
                    }
                }
                Found::Unreadable { reason, content, modified, changed } => {
                    let waited = match changed {
                        Changed::LongAgo => true,
                        Changed::Lately => false,
                        Changed::CantTell => self.stays(Place::Lock, &content, modified)?,
                    };
                    // The second look. Not at the content alone: a writer of the original format that
                    // begins anew on an empty file leaves it as empty as it was.
                    if !waited || !is_still(self.staging, Place::Lock, &content, modified)? {
                        let changed = Changed::Lately;
                        return Err(refusal(Found::Unreadable { reason, content, modified, changed }));
                    }
                    match self.remove_lock(&content, Some(modified))? {
                        Broken::Yes => {
                            taken.took_over = Some(Takeover::Unreadable(reason, excerpt(&content)));
                        }
                        Broken::Vanished => look_aside = true,
                        Broken::Another => return Err(self.in_use_now()),
                    }
                }
                other => return Err(refusal(other)),
            }
        }
        let message = format!(
            "the lock {LOCK_PATH} changes all the time; is a program at work that does not follow the protocol?"
        );
        Err(Error::new(ErrorCode::InUse, message).at(LOCK_PATH))
    }

    /// Before anything is put aside: without hard links it could not be put back.
    fn probe_links(&self) -> Result<()> {
        let copy = self.flag.publish_name();
        if let Err(error) = self.owners.link(self.flag.as_str(), self.owners, &copy) {
            let mut error = Error::io("link the owner flag as", owners_path(&copy), &error);
            error.message =
                format!("{}; to coexist with writers of the original format takes hard links", error.message);
            return Err(error);
        }
        remove_flag_file(self.owners, &copy)
    }

    /// Step 3. Beside writers of the original format, which write in place, L is a file of its own: a
    /// second name of our flag would be overwritten with it.
    fn link(&self, record: &LockRecord) -> FsResult<()> {
        if !self.coexist {
            return self.owners.link(self.flag.as_str(), self.staging, LOCK);
        }
        let copy = self.flag.publish_name();
        match self.owners.unlink(&copy) {
            Err(error) if error.kind != FsErrorKind::NotFound => return Err(error),
            _ => {}
        }
        create_whole(self.owners, &copy, &record.to_file(), Durability::None)?;
        let linked = self.owners.link(&copy, self.staging, LOCK);
        // Its second name is the lock, or nobody needs it. If it stays, it goes with our flag.
        let _ = self.owners.unlink(&copy);
        linked
    }

    /// Step 5, beside writers of the original format: the lock is ours if none of those has written over
    /// it that looked before we linked it.
    fn settled(&self, taken: Taken) -> Result<Taken> {
        if !self.coexist {
            return Ok(taken);
        }
        self.system.sleep_ms(SETTLE_MS);
        let flag = self.owners.stat(self.flag.as_str());
        if flag.is_err_and(|error| error.kind == FsErrorKind::NotFound) {
            // Judged dead while we slept. The lock is taken down by the error's path.
            return Err(flag_lost(self.flag, None));
        }
        match self.look()? {
            Found::Ours => Ok(taken),
            Found::Held(_) | Found::Unknown(_) | Found::Unreadable { .. } | Found::NotAFile(..) => {
                Err(self.in_use_now())
            }
            Found::Nothing | Found::Stale(..) => Err(self.in_use_now()),
        }
    }

    /// Removes a lock that was judged twice.
    fn remove_lock(&self, content: &[u8], unreadable_since: Option<Option<Time>>) -> Result<Broken> {
        if self.coexist {
            break_lock(self.staging, content, unreadable_since)
        } else {
            unlink_lock(self.staging).map(|()| Broken::Yes)
        }
    }

    /// A writer of the original format was faster.
    fn in_use_now(&self) -> Error {
        let owner = owner_on_disk(self.staging).unwrap_or_else(Owner::unknown);
        in_use("another writer,", owner, "it wrote the lock at the same moment; try again or wait for it")
    }

    /// Step 3 on a file system without hard links: the whole record is renamed over L. Among those who
    /// follow the protocol the flags exclude; writers of the original format are met by luck only.
    fn publish(&self, record: &LockRecord) -> Result<()> {
        let copy = self.flag.publish_name();
        create_whole(self.owners, &copy, &record.to_file(), Durability::None)
            .map_err(|error| Error::io("write", owners_path(&copy), &error))?;
        self.owners.rename(&copy, self.staging, LOCK).map_err(|error| self.cannot_create(&error))
    }

    /// Step 3 failed. If our flag is gone, we were stopped here for longer than our lease, and others have
    /// gone on without us.
    fn cannot_create(&self, error: &FsError) -> Error {
        let gone = |error: &FsError| error.kind == FsErrorKind::NotFound;
        if gone(error) && self.owners.stat(self.flag.as_str()).is_err_and(|error| gone(&error)) {
            let message = format!(
                "the lock {LOCK_PATH} was not taken: this process stood still for longer than its lease, and others went on without it; try again"
            );
            return Error::new(ErrorCode::InUse, message).at(LOCK_PATH).owned_by(owner_on_disk(self.staging));
        }
        Error::io("create the lock", LOCK_PATH, error)
    }

    /// The live flags but ours, sorted. Dead owners' flags are removed on the way.
    fn live_flags(&self) -> Result<Vec<(FlagName, Verdict)>> {
        let mut live = Vec::new();
        let Roster { flags, copies } = roster(self.owners, Some(self.flag))?;
        for flag in flags {
            let verdict = judge_flag(&flag, self.me, self.system, &|| self.lease_of(&flag));
            if verdict.is_dead() {
                lower(self.owners, &flag)?;
            } else {
                live.push((flag, verdict));
            }
        }
        for copy in copies {
            // Left by a crash between writing the copy and renaming it. Nobody waits for it.
            let verdict = judge_copy(self.owners, &copy, self.me, self.system, &|| self.lease_of(&copy));
            if matches!(verdict, Ok(Verdict::Dead(_))) {
                let _ = self.owners.unlink(&copy.publish_name());
            }
        }
        order::sort_by(&mut live, |(one, _), (other, _)| one.cmp(other));
        Ok(live)
    }

    fn lease_of(&self, flag: &FlagName) -> Lease {
        lease_of(self.owners, flag, self.file_system_now())
    }

    /// The file system's clock, as of the moment our flag was written.
    fn file_system_now(&self) -> Option<Time> {
        self.owners.stat(self.flag.as_str()).ok()?.modified
    }

    fn look(&self) -> Result<Found> {
        self.look_at(Place::Lock)
    }

    fn look_at(&self, place: Place) -> Result<Found> {
        look(self.staging, place, self.me, self.system, Some(self.flag.token), self.file_system_now())
    }

    /// Does the lock file stay as it is for the grace time?
    fn stays(&self, place: Place, content: &[u8], modified: Option<Time>) -> Result<bool> {
        const STEP_MS: u32 = 250;
        for _ in 0..UNREADABLE_GRACE_SECONDS * 1_000 / STEP_MS {
            self.system.sleep_ms(STEP_MS);
            if !is_still(self.staging, place, content, modified)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Another contender is before us, and the lock itself is not there yet.
    fn in_use_by(&self, flag: &FlagName, verdict: &Verdict) -> Error {
        let owner = match read_record(self.owners, flag.as_str()) {
            Some(record) => record.owner(),
            // Its record may not be written yet; the name says enough.
            None => Owner { pid: flag.pid, pod_name: String::new(), started_at: String::new() },
        };
        match verdict {
            Verdict::Alive(_) | Verdict::Working(_) => {
                in_use("live", owner, "it is taking the lock at this moment; try again or wait for it")
            }
            Verdict::Unknown(place) | Verdict::Dead(place) => in_use(
                "unreachable",
                owner,
                &format!(
                    "it was taking the lock, and nobody can tell from here whether it still is: {place}"
                ),
            ),
        }
    }
}

/// Is it a file system's way to say that it has no hard links? FAT says EPERM, others ENOTSUP, ENOSYS
/// or EIO; EACCES comes from mount options and policies that forbid links alone. If something else is
/// wrong the rename that is tried instead fails too, with the better message.
pub(super) fn lacks_links(error: &FsError) -> bool {
    matches!(
        error.kind,
        FsErrorKind::NotPermitted
            | FsErrorKind::Access
            | FsErrorKind::Unsupported
            | FsErrorKind::TooManyLinks
            | FsErrorKind::Invalid
            | FsErrorKind::Io
    )
}
