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

use crate::durable::{Durability, create_whole, replace};
use crate::error::{Error, ErrorCode, Owner, Result};
use crate::fs::{Content, Dir, File, FsError, FsErrorKind, FsResult, Kind, Listed, Time, read_file};
use crate::layout::{
    EntryId, FlagName, LOCK, LOCK_PATH, OWNERS, OWNERS_PATH, PUBLISH_SUFFIX, Token, clip, owners_path,
};
use crate::liveness::{DEFAULT_LEASE_SECONDS, Lease, Verdict, judge_flag, judge_record};
use crate::record::{LockRecord, MAX_RECORD_BYTES, TOKEN_TAIL};
use crate::staging::Snapshot;
use crate::system::{Identity, System};
use crate::workspace::{Workspace, open_or_create};

/// For how long contenders that arrived together wait for each other, in milliseconds.
const CONTEND_MS: u32 = 2_000;

/// For how long a lock file that can't be read must not have changed before it counts as stale: its
/// writer may be between creating it and writing it. In seconds.
const UNREADABLE_GRACE_SECONDS: u32 = 5;

/// How many times the lock may vanish and appear again under our hands before we give up.
const MAX_TAKES: u32 = 64;

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
}

/// A lock that is held. Dropping it leaves the lock on disk.
#[derive(Debug)]
pub struct Held<D> {
    staging: D,
    owners: D,
    flag: FlagName,
    record: LockRecord,
    consumed: Vec<EntryId>,
}

/// What stands at the place of the lock.
enum Found {
    Nothing,
    /// It carries the token that was asked about.
    Ours,
    Held(Holder),
    Unknown(Holder),
    Stale(Holder, Vec<u8>),
    /// No record. Stale if it has not changed for the grace time.
    Unreadable {
        reason: String,
        content: Vec<u8>,
        modified: Option<Time>,
        changed: Changed,
    },
    NotAFile(Kind),
}

/// When an unreadable lock file changed last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changed {
    /// Longer ago than the grace time.
    LongAgo,
    /// Within it.
    Lately,
    /// The times of the file system don't tell: it seems to come from the future.
    CantTell,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// Takes the lock. Returns with it what was taken over.
    ///
    /// # Errors
    /// [`ErrorCode::InUse`] with the owner; [`ErrorCode::WrongFileType`] if a directory or a symbolic
    /// link stands in the place of the lock; I/O errors. After an error our flag is gone and the lock
    /// is as it was, or a stale one is removed.
    pub fn acquire(&self, options: &AcquireOptions) -> Result<(Held<D>, Option<Takeover>)> {
        if options.pod_name.len() > MAX_POD_NAME_BYTES {
            let message = format!("the name of the pod has more than {MAX_POD_NAME_BYTES} bytes");
            return Err(Error::new(ErrorCode::InvalidInput, message));
        }
        let me = self.identity()?;
        let (staging, _) = self.staging_or_create()?;
        let (owners, _) = open_or_create(&staging, OWNERS, OWNERS_PATH)?;
        let token = options.token.unwrap_or_else(|| {
            let mut random = [0; 16];
            self.system.random(&mut random);
            Token::new(random)
        });
        let record = LockRecord::new(&me, &options.pod_name, self.system.now(), token, options.lease_seconds);
        let flag = FlagName::new(&me, token);
        // Step 1. Nothing is synchronised: after a crash of the machine every owner is dead anyway.
        if let Err(failed) = create_whole(&owners, flag.as_str(), &record.to_file(), Durability::None) {
            let error = Error::io("raise the owner flag", owners_path(flag.as_str()), &failed);
            // A flag that exists is that of an earlier attempt with this token.
            let exists = failed.kind == FsErrorKind::Exists;
            return Err(if exists { error } else { retreat(&staging, &owners, &flag, error) });
        }
        let attempt =
            Attempt { system: &self.system, staging: &staging, owners: &owners, me: &me, flag: &flag };
        match attempt.contend(&record) {
            Ok(took_over) => Ok((Held { staging, owners, flag, record, consumed: Vec::new() }, took_over)),
            Err(error) => Err(retreat(&staging, &owners, &flag, error)),
        }
    }

    /// The state of the lock. Changes nothing.
    ///
    /// # Errors
    /// I/O errors.
    pub fn lock_status(&self) -> Result<Status> {
        let Some(staging) = self.staging()? else {
            return Ok(Status::Free);
        };
        let me = self.identity()?;
        // Without a file of our own there is only our clock; acquire decides by the file system's.
        Ok(match look(&staging, &me, &self.system, None, Some(self.system.now()))? {
            Found::Nothing | Found::Ours => Status::Free,
            Found::Held(holder) => Status::Held(holder),
            Found::Unknown(holder) => Status::Unknown(holder),
            Found::Stale(holder, _) => Status::Stale(holder),
            Found::Unreadable { reason, content, .. } => Status::Unreadable(reason, excerpt(&content)),
            Found::NotAFile(kind) => Status::Unreadable(not_a_file(kind), String::new()),
        })
    }

    /// Removes a stale lock by the rules of [`Self::acquire`]; with `force` any lock, with its owner's
    /// flag and the flags of owners that can't be proved alive. Returns what was removed.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn unlock(&self, options: &AcquireOptions, force: bool) -> Result<Option<Takeover>> {
        let Some(staging) = self.staging()? else {
            return Ok(None);
        };
        if force {
            return self.remove_by_force(&staging);
        }
        if matches!(staging.stat(LOCK), Err(error) if error.kind == FsErrorKind::NotFound) {
            return Ok(None);
        }
        // The protocol judges it, and removes it if it is stale.
        let (held, took_over) = self.acquire(options)?;
        held.release_only()?;
        Ok(took_over)
    }

    /// Clears what an instance that is gone left behind under this token: its flag, and the lock if it
    /// carries the token. True if there was anything.
    ///
    /// # Errors
    /// I/O errors; the call can be repeated.
    pub fn abandon(&self, token: Token) -> Result<bool> {
        let Some(staging) = self.staging()? else {
            return Ok(false);
        };
        let mut found = false;
        // L first: a flag without a lock is a contender that is gone, a lock without a flag would be
        // a holder that nobody sees in the roster.
        if carries(&staging, token)? == Carried::Ours {
            unlink_lock(&staging)?;
            found = true;
        }
        let owners = match staging.open_dir(OWNERS) {
            Ok(owners) => owners,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(Error::io("open the directory", OWNERS_PATH, &error)),
        };
        let Roster { flags, copies } = roster(&owners)?;
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

    fn remove_by_force(&self, staging: &D) -> Result<Option<Takeover>> {
        let me = self.identity()?;
        let now = Some(self.system.now());
        let (removed, token) = match look(staging, &me, &self.system, None, now)? {
            Found::Nothing | Found::Ours => (None, None),
            Found::NotAFile(kind) => return Err(not_a_file_error(kind)),
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
        }
        let owners = match staging.open_dir(OWNERS) {
            Ok(owners) => owners,
            Err(error) if error.kind == FsErrorKind::NotFound => return Ok(removed),
            Err(error) => return Err(Error::io("open the directory", OWNERS_PATH, &error)),
        };
        let spared = |flag: &FlagName| {
            let verdict =
                judge_flag(flag, &me, &self.system, || Lease { seconds: None, renewed: None, now: None });
            Some(flag.token) != token && matches!(verdict, Verdict::Alive(_))
        };
        let Roster { flags, copies } = roster(&owners)?;
        for copy in copies.iter().filter(|copy| !spared(copy)) {
            remove_flag_file(&owners, &copy.publish_name())?;
        }
        for flag in flags.iter().filter(|flag| !spared(flag)) {
            lower(&owners, flag)?;
        }
        Ok(removed)
    }

    /// Who hosts us, with texts of a bounded length: they must fit into the tail of the record.
    fn identity(&self) -> Result<Identity> {
        let mut me = self.system.current();
        if me.pid == 0 {
            // Checked before any file is made: a record with pid 0 would be stale from the start.
            return Err(Error::new(ErrorCode::Internal, "the host gives no process id; the lock needs one"));
        }
        for text in [&mut me.start, &mut me.scope.machine, &mut me.scope.boot, &mut me.scope.pid_namespace] {
            text.truncate(clip(text).len());
        }
        Ok(me)
    }
}

/// One attempt at the lock, with its flag raised.
struct Attempt<'a, D, S> {
    system: &'a S,
    staging: &'a D,
    owners: &'a D,
    me: &'a Identity,
    flag: &'a FlagName,
}

impl<D: Dir, S: System> Attempt<'_, D, S> {
    /// Steps 2 to 4.
    fn contend(&self, record: &LockRecord) -> Result<Option<Takeover>> {
        let mut waited = 0;
        loop {
            let live = self.live_flags()?;
            let Some((first, verdict)) = live.first() else { break };
            let found = self.look()?;
            if matches!(found, Found::Held(_) | Found::Unknown(_) | Found::NotAFile(_)) {
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
    fn take(&self, record: &LockRecord) -> Result<Option<Takeover>> {
        let mut took_over = None;
        let mut links = true;
        for _ in 0..MAX_TAKES {
            if links {
                match self.owners.link(self.flag.as_str(), self.staging, LOCK) {
                    Ok(()) => return Ok(took_over),
                    Err(error) if error.kind == FsErrorKind::Exists => {}
                    Err(error) if lacks_links(&error) => links = false,
                    Err(error) => return Err(Error::io("create the lock", LOCK_PATH, &error)),
                }
            }
            match self.look()? {
                // The answer to an earlier link was lost on its way (NFS): it is ours.
                Found::Ours => return Ok(took_over),
                Found::Nothing if links => {}
                // A rename replaces what is there, so one answer "nothing" is not enough: a network file
                // system gives it for a file that was replaced a moment ago.
                Found::Nothing if matches!(self.look()?, Found::Nothing) => {
                    self.publish(record)?;
                    return Ok(took_over);
                }
                Found::Nothing => {}
                Found::Stale(holder, content) => {
                    // The owner was judged dead after its record was read. If the file is another one
                    // by now the verdict is not about it.
                    if read_lock(self.staging)?.as_ref() == Some(&content) {
                        unlink_lock(self.staging)?;
                        took_over = Some(Takeover::Stale(holder.owner, holder.reason));
                    }
                }
                Found::Unreadable { reason, content, modified, changed } => {
                    let waited = match changed {
                        Changed::LongAgo => true,
                        Changed::Lately => false,
                        Changed::CantTell => self.stays(&content, modified)?,
                    };
                    // The second look. Not at the content alone: a writer of the original format that
                    // begins anew on an empty file leaves it as empty as it was.
                    if !waited || !self.is_still(&content, modified)? {
                        let changed = Changed::Lately;
                        return Err(refusal(Found::Unreadable { reason, content, modified, changed }));
                    }
                    unlink_lock(self.staging)?;
                    took_over = Some(Takeover::Unreadable(reason, excerpt(&content)));
                }
                other => return Err(refusal(other)),
            }
        }
        let message = format!(
            "the lock {LOCK_PATH} changes all the time; is a program at work that does not follow the protocol?"
        );
        Err(Error::new(ErrorCode::InUse, message).at(LOCK_PATH))
    }

    /// Step 3 on a file system without hard links: the whole record is renamed over L. Among those who
    /// follow the protocol the flags exclude; writers of the original format are met by luck only.
    fn publish(&self, record: &LockRecord) -> Result<()> {
        let copy = self.flag.publish_name();
        create_whole(self.owners, &copy, &record.to_file(), Durability::None)
            .map_err(|error| Error::io("write", owners_path(&copy), &error))?;
        self.owners
            .rename(&copy, self.staging, LOCK)
            .map_err(|error| Error::io("create the lock", LOCK_PATH, &error))
    }

    /// The live flags but ours, sorted. Dead owners' flags are removed on the way.
    fn live_flags(&self) -> Result<Vec<(FlagName, Verdict)>> {
        let mut live = Vec::new();
        let Roster { flags, copies } = roster(self.owners)?;
        for flag in flags {
            if flag == *self.flag {
                continue;
            }
            let verdict = judge_flag(&flag, self.me, self.system, || self.lease_of(&flag));
            if verdict.is_dead() {
                lower(self.owners, &flag)?;
            } else {
                live.push((flag, verdict));
            }
        }
        for copy in copies {
            // Left by a crash between writing the copy and renaming it. Nobody waits for it.
            if judge_flag(&copy, self.me, self.system, || self.lease_of(&copy)).is_dead() {
                let _ = self.owners.unlink(&copy.publish_name());
            }
        }
        live.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(live)
    }

    /// The lease of a flag whose owner can't be probed.
    fn lease_of(&self, flag: &FlagName) -> Lease {
        let seconds = match read_file(self.owners, flag.as_str(), MAX_RECORD_BYTES) {
            Ok(Content::Whole(content)) => match LockRecord::parse(&content) {
                Ok(record) => record.lease_seconds,
                // Its owner stopped before it had written the record.
                Err(_) => Some(DEFAULT_LEASE_SECONDS),
            },
            Ok(Content::TooLarge(_) | Content::NotAFile(_)) => Some(DEFAULT_LEASE_SECONDS),
            // What can't be read at this moment may state a longer lease.
            Err(_) => None,
        };
        let renewed = self.owners.stat(flag.as_str()).ok().and_then(|stat| stat.modified);
        Lease { seconds, renewed, now: self.file_system_now() }
    }

    /// The file system's clock, as of the moment our flag was written.
    fn file_system_now(&self) -> Option<Time> {
        self.owners.stat(self.flag.as_str()).ok()?.modified
    }

    fn look(&self) -> Result<Found> {
        look(self.staging, self.me, self.system, Some(self.flag.token), self.file_system_now())
    }

    /// Does the lock file stay as it is for the grace time?
    fn stays(&self, content: &[u8], modified: Option<Time>) -> Result<bool> {
        const STEP_MS: u32 = 250;
        for _ in 0..UNREADABLE_GRACE_SECONDS * 1_000 / STEP_MS {
            self.system.sleep_ms(STEP_MS);
            if !self.is_still(content, modified)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Is the lock file as it was, in content and in time?
    fn is_still(&self, content: &[u8], modified: Option<Time>) -> Result<bool> {
        if read_lock(self.staging)?.as_deref() != Some(content) {
            return Ok(false);
        }
        match self.staging.stat(LOCK) {
            Ok(stat) => Ok(stat.modified == modified),
            Err(error) if error.kind == FsErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at the lock", LOCK_PATH, &error)),
        }
    }

    /// Another contender is before us, and the lock itself is not there yet.
    fn in_use_by(&self, flag: &FlagName, verdict: &Verdict) -> Error {
        let owner = match read_record(self.owners, flag.as_str()) {
            Some(record) => record.owner(),
            // Its record may not be written yet; the name says enough.
            None => Owner { pid: flag.pid, pod_name: String::new(), started_at: String::new() },
        };
        match verdict {
            Verdict::Alive(_) => {
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

/// Looks at the lock: reads it, judges its owner. `own` is the token that makes it ours, `now` the
/// present time by the clock of the file system.
fn look<D: Dir, S: System>(
    staging: &D,
    me: &Identity,
    system: &S,
    own: Option<Token>,
    now: Option<Time>,
) -> Result<Found> {
    let stat = match staging.stat(LOCK) {
        Ok(stat) => stat,
        Err(error) if error.kind == FsErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(Error::io("look at the lock", LOCK_PATH, &error)),
    };
    if stat.kind != Kind::File {
        return Ok(Found::NotAFile(stat.kind));
    }
    let Some(content) = read_lock(staging)? else {
        return Ok(Found::Nothing);
    };
    let record = match LockRecord::parse(&content) {
        Ok(record) => record,
        Err(reason) => {
            let changed = match (stat.modified, now) {
                (Some(modified), Some(now)) if modified.plus_seconds(UNREADABLE_GRACE_SECONDS) < now => {
                    Changed::LongAgo
                }
                (Some(modified), Some(now)) if modified <= now.plus_seconds(1) => Changed::Lately,
                _ => Changed::CantTell,
            };
            return Ok(Found::Unreadable { reason, content, modified: stat.modified, changed });
        }
    };
    if own.is_some_and(|own| record.token.as_deref() == Some(own.to_string().as_str())) {
        return Ok(Found::Ours);
    }
    let verdict = judge_record(&record, stat.modified, now, me, system);
    let holder = Holder {
        owner: record.owner(),
        consumed: record.consumed_ids.len() as u64,
        reason: verdict.reason().to_owned(),
    };
    Ok(match verdict {
        Verdict::Alive(_) => Found::Held(holder),
        Verdict::Unknown(_) => Found::Unknown(holder),
        Verdict::Dead(_) => Found::Stale(holder, content),
    })
}

/// The content of the lock file; none if there is none. One that is too large is cut off, which makes
/// it unreadable.
fn read_lock<D: Dir>(staging: &D) -> Result<Option<Vec<u8>>> {
    match read_file(staging, LOCK, MAX_RECORD_BYTES) {
        Ok(Content::Whole(content) | Content::TooLarge(content)) => Ok(Some(content)),
        // It was a file a moment ago. Whoever asks compares with that file, or parses.
        Ok(Content::NotAFile(_)) => Ok(Some(Vec::new())),
        Err(FsError { kind: FsErrorKind::NotFound, .. }) => Ok(None),
        Err(error) => Err(Error::io("read the lock", LOCK_PATH, &error)),
    }
}

/// The token that the lock on disk carries: the flag that belongs to this very lock has it too.
fn token_on_disk<D: Dir>(staging: &D) -> Result<Option<Token>> {
    Ok(read_lock(staging)?
        .and_then(|content| LockRecord::parse(&content).ok())
        .and_then(|record| Token::parse(&record.token?)))
}

/// Whose the lock on disk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    Nothing,
    Ours,
    Other,
}

fn carries<D: Dir>(staging: &D, token: Token) -> Result<Carried> {
    let look = || {
        let stat = staging.stat(LOCK)?;
        if stat.kind != Kind::File {
            return Ok(Carried::Other);
        }
        let ours = tail_carries(&staging.open(LOCK)?, stat.size, token)?;
        Ok(if ours { Carried::Ours } else { Carried::Other })
    };
    match look() {
        Err(FsError { kind: FsErrorKind::NotFound, .. }) => Ok(Carried::Nothing),
        other => other.map_err(|error| Error::io("read the lock", LOCK_PATH, &error)),
    }
}

/// Does a lock file of this size carry the token? Its head may be a million ids long.
fn tail_carries(file: &impl File, size: u64, token: Token) -> FsResult<bool> {
    let mark = LockRecord::token_mark(token);
    let mut offset = size.saturating_sub(TOKEN_TAIL);
    let mut tail = Vec::new();
    while (tail.len() as u64) < TOKEN_TAIL {
        let chunk = file.read(usize::try_from(TOKEN_TAIL).unwrap_or(usize::MAX), offset)?;
        if chunk.is_empty() {
            break;
        }
        offset += chunk.len() as u64;
        tail.extend_from_slice(&chunk);
        if offset >= size {
            break;
        }
    }
    Ok(tail.windows(mark.len()).any(|window| window == mark.as_bytes()))
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

/// A record that may or may not be there and whole.
fn read_record<D: Dir>(dir: &D, name: &str) -> Option<LockRecord> {
    let Ok(Content::Whole(content)) = read_file(dir, name, MAX_RECORD_BYTES) else {
        return None;
    };
    LockRecord::parse(&content).ok()
}

fn owner_on_disk<D: Dir>(staging: &D) -> Option<Owner> {
    read_record(staging, LOCK).map(|record| record.owner())
}

/// What stands in the directory of the owner flags, in no order.
#[derive(Default)]
struct Roster {
    flags: Vec<FlagName>,
    /// Flags of which there is a copy that was to be renamed over the lock.
    copies: Vec<FlagName>,
}

fn roster<D: Dir>(owners: &D) -> Result<Roster> {
    let mut roster = Roster::default();
    let listed = owners.list(&mut |listed| {
        // A directory is nobody's flag, whatever its name, and could not be removed like one.
        if let Listed::Named(name, kind) = listed
            && kind != Kind::Directory
        {
            match name.strip_suffix(PUBLISH_SUFFIX) {
                Some(flag) => roster.copies.extend(FlagName::parse(flag)),
                None => roster.flags.extend(FlagName::parse(name)),
            }
        }
    });
    listed.map_err(|error| Error::io("list", OWNERS_PATH, &error))?;
    Ok(roster)
}

/// Removes a flag.
fn lower<D: Dir>(owners: &D, flag: &FlagName) -> Result<()> {
    remove_flag_file(owners, flag.as_str())
}

fn remove_flag_file<D: Dir>(owners: &D, name: &str) -> Result<()> {
    match owners.unlink(name) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove the owner flag", owners_path(name), &error)),
    }
}

/// Takes an attempt back after an error, which stays the one that is told. A call that failed may have
/// had its effect all the same (a network file system whose answer was lost): where that is possible
/// the lock and the copy are looked for.
fn retreat<D: Dir>(staging: &D, owners: &D, flag: &FlagName, error: Error) -> Error {
    let mut error = error;
    if error.code != ErrorCode::InUse {
        let lock = match carries(staging, flag.token) {
            Ok(Carried::Ours) => unlink_lock(staging),
            Ok(Carried::Nothing | Carried::Other) => Ok(()),
            Err(error) => Err(error),
        };
        error = besides(besides(error, lock), remove_flag_file(owners, &flag.publish_name()));
    }
    besides(error, lower(owners, flag))
}

/// An error, with what went wrong after it.
fn besides(mut error: Error, then: Result<()>) -> Error {
    if let Err(then) = then {
        error.message = format!("{}; besides, {}", error.message, then.message);
    }
    error
}

fn unlink_lock<D: Dir>(staging: &D) -> Result<()> {
    match staging.unlink(LOCK) {
        Ok(()) => Ok(()),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("remove the lock", LOCK_PATH, &error)),
    }
}

/// Is it a file system's way to say that it has no hard links? FAT says EPERM, others ENOTSUP, ENOSYS
/// or EIO; EACCES comes from mount options and policies that forbid links alone. If something else is
/// wrong the rename that is tried instead fails too, with the better message.
fn lacks_links(error: &FsError) -> bool {
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

fn in_use(how: &str, owner: Owner, hint: &str) -> Error {
    let Owner { pid, pod_name, started_at } = &owner;
    let since = if started_at.is_empty() { String::new() } else { format!(" since {started_at}") };
    let message = format!("consolidation lock held by {how} pid {pid} (pod {pod_name:?}){since}: {hint}");
    Error::new(ErrorCode::InUse, message).at(LOCK_PATH).owned_by(Some(owner))
}

/// Why a lock that is not stale is not taken.
fn refusal(found: Found) -> Error {
    match found {
        Found::Held(Holder { owner, reason, .. }) => in_use("live", owner, &reason),
        Found::Unknown(Holder { owner, reason, .. }) => {
            let hint = format!(
                "nobody can tell from here whether it lives: {reason}. Wait for that, or, if it is gone for certain, remove the lock by force"
            );
            in_use("unreachable", owner, &hint)
        }
        Found::Unreadable { reason, .. } => {
            let message = format!(
                "consolidation lock {LOCK_PATH} can't be read and changed within the last {UNREADABLE_GRACE_SECONDS} s: {reason}; its writer may be at work, try again in a few seconds"
            );
            Error::new(ErrorCode::InUse, message).at(LOCK_PATH)
        }
        Found::NotAFile(kind) => not_a_file_error(kind),
        Found::Nothing | Found::Ours | Found::Stale(..) => {
            Error::new(ErrorCode::Internal, "a lock that can be taken was refused").at(LOCK_PATH)
        }
    }
}

fn not_a_file(kind: Kind) -> String {
    format!(
        "{} stands in the place of the lock; it was not followed and not touched: move it away",
        kind.describe()
    )
}

fn not_a_file_error(kind: Kind) -> Error {
    Error::new(ErrorCode::WrongFileType, format!("{LOCK_PATH}: {}", not_a_file(kind))).at(LOCK_PATH)
}

fn lost(owner: Option<Owner>) -> Error {
    let by = match &owner {
        Some(Owner { pid, pod_name, .. }) => format!("it is now that of pid {pid} (pod {pod_name:?})"),
        None => "it is gone or can't be read".into(),
    };
    let message = format!(
        "consolidation lock {LOCK_PATH} is no longer ours: {by}; no entry was deleted, run the consolidation again"
    );
    Error::new(ErrorCode::LockLost, message).at(LOCK_PATH).owned_by(owner)
}

/// How a file begins, for messages.
fn excerpt(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(&content[..content.len().min(800)]);
    text.chars().take(200).flat_map(char::escape_debug).collect()
}
