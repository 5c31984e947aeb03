//! What goes in and out of the library, as plain Rust. Invariant: no type of wasmtime or of the
//! generated bindings is part of the public interface, but for `wasmtime::Engine`.

use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The name of a staging entry: a UUIDv7 in canonical form (36 characters, lower case).
pub type EntryId = String;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Another owner holds the consolidation lock, or may hold it.
    InUse,
    /// The lock on disk is not, or no longer, the one that the handle took.
    LockLost,
    /// An argument or a payload does not have the form that is asked for.
    InvalidInput,
    /// There is no such entry, or a directory that must be there is missing.
    NotFound,
    /// What should be an entry, a lock record, an outcome or a memory record is not usable as one.
    Unusable,
    /// A file of another kind stands where a regular file or a directory is needed.
    WrongFileType,
    /// The operating system refuses access.
    PermissionDenied,
    /// The file system is mounted read-only.
    ReadOnly,
    /// No space, no inode or no quota is left, or a file would be larger than the process (`ulimit -f`) or
    /// the file system allows.
    NoSpace,
    /// The file system, or the embedder's engine, lacks something that is needed.
    Unsupported,
    /// Any other input or output error.
    Io,
    /// A file was changed by somebody else meanwhile. Nothing was written over it; a new try sees it.
    Conflict,
    /// A defect in the component, or a limit on it that was hit.
    Internal,
}

impl ErrorCode {
    /// The code as it stands in JSON, for example `in_use`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InUse => "in_use",
            ErrorCode::LockLost => "lock_lost",
            ErrorCode::InvalidInput => "invalid_input",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Unusable => "unusable",
            ErrorCode::WrongFileType => "wrong_file_type",
            ErrorCode::PermissionDenied => "permission_denied",
            ErrorCode::ReadOnly => "read_only",
            ErrorCode::NoSpace => "no_space",
            ErrorCode::Unsupported => "unsupported",
            ErrorCode::Io => "io",
            ErrorCode::Conflict => "conflict",
            ErrorCode::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The owner of a lock, as its record states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Process id, in the process-id namespace of the owner.
    pub pid: u32,
    /// Name of the pod; empty if unknown.
    pub pod_name: String,
    /// When the lock was taken, RFC 3339; empty if unknown.
    pub started_at: String,
}

/// How hard a write tries to survive a crash of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Data and directory are synchronised before the call returns.
    #[default]
    Full,
    /// Nothing is synchronised: a crash of the process loses nothing, a crash of the machine may.
    None,
}

/// A file in the staging directory that looks like an entry and can't be used as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnusableFile {
    /// Its name in the staging directory; `?` if it is not UTF-8.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Where material comes from: the `source` member of a payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// The segment that the material was extracted from.
    pub segment_id: String,
    /// First position in the segment.
    pub start: u64,
    /// Last position in the segment, not before `start`.
    pub end: u64,
}

/// A usable staging entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub id: EntryId,
    /// Its content as one line of JSON, with its `id` as the first member.
    pub json: String,
    /// The size of its file in bytes.
    pub bytes: u64,
    /// When it was staged, by its id, in milliseconds since 1970-01-01T00:00:00Z.
    pub staged_at_ms: u64,
    /// Where it comes from.
    pub source: Source,
}

/// What the staging directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many entries there are: usable ones if the files were read, else files that are entries by name
    /// and type.
    pub entries: u64,
    /// The size of their files in bytes; none if they were not looked at.
    pub bytes: Option<u64>,
    /// When the oldest was staged by its name, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_ms: Option<u64>,
    /// The present time, in the same unit.
    pub now_ms: u64,
    /// How many unusable files there are: all if the files were read, else those that their name or their
    /// type gives away.
    pub unusable_count: u64,
    /// The first 1,000 of them, sorted by name.
    pub unusable: Vec<UnusableFile>,
    /// How many files are entries that a committed run has consumed and that could not be deleted yet.
    /// They are in no list and no snapshot.
    pub consumed: u64,
    /// How many entries are in the quarantine.
    pub quarantined: u64,
}

/// What must be so before it is worth to run. What is none does not count; the default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gates {
    /// At least so many entries are staged.
    pub min_entries: Option<u64>,
    /// Their files have at least so many bytes.
    pub min_bytes: Option<u64>,
    /// The oldest was staged at least so long ago.
    pub min_age: Option<Duration>,
    /// The last run that was consolidated ended at least so long ago.
    pub min_interval: Option<Duration>,
}

/// Caps on a snapshot; what exceeds them waits for the next run. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// At most so many entries.
    pub max_entries: Option<u64>,
    /// At most so many bytes of files, but at least one entry.
    pub max_bytes: Option<u64>,
}

/// Some entries of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Batch {
    /// Usable entries, oldest first.
    pub entries: Vec<Entry>,
    /// Files of the snapshot that proved unusable. They are not consumed.
    pub unusable: Vec<UnusableFile>,
    /// True if nothing is left to read.
    pub done: bool,
}

/// Where a process id has a meaning. A part that is empty is unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// The machine: its machine id and its host name.
    pub machine: String,
    /// One run of its kernel.
    pub boot: String,
    /// The process-id namespace within that boot.
    pub pid_namespace: String,
}

/// The record in a lock file. The first four fields are the original format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LockRecord {
    /// Process id of the owner.
    pub pid: u32,
    /// Name of the owner's pod.
    pub pod_name: String,
    /// When the lock was taken, RFC 3339.
    pub started_at: String,
    /// The entries that the owner took into its snapshot.
    pub consumed_ids: Vec<EntryId>,
    /// What tells this owner from any other.
    pub token: Option<String>,
    /// When the owner's process started, in its platform's unit.
    pub process_start: Option<String>,
    /// Where `pid` has a meaning.
    pub scope: Option<Scope>,
    /// For how many seconds after a refresh the lock counts as held by those who can't probe the
    /// owner; none: for ever.
    pub lease_seconds: Option<u32>,
    /// Process group of the command that works for the owner.
    pub command_group: Option<u32>,
    /// The run that is under way, or was the last; none before the first.
    pub run_id: Option<RunId>,
}

/// What stood in the way of a lock and was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Takeover {
    /// The lock of a dead owner.
    Stale(StaleOwner),
    /// A lock file that could not be read and did not change for a while.
    Unreadable(UnreadableLock),
    /// By force, the lock of an owner that is not proved to be dead.
    Forced(StaleOwner),
}

/// The owner of a lock that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaleOwner {
    /// Who it was.
    pub owner: Owner,
    /// Why it counts as dead, alive or unknown.
    pub reason: String,
}

/// A lock file that is not a lock record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableLock {
    /// Why it can't be read.
    pub reason: String,
    /// How it begins, at most 200 characters, control characters escaped.
    pub content: String,
}

/// The state of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LockStatus {
    /// There is no lock.
    Free,
    /// Its owner lives.
    Held(Holder),
    /// Nothing proves its owner alive or dead, and its lease has not run out.
    Unknown(Holder),
    /// Its owner is dead; the next acquire takes it over.
    Stale(Holder),
    /// The lock file is not a lock record. It is taken over once it has not changed for 5 seconds.
    Unreadable(UnreadableLock),
    /// Something that is no file stands in its place. Nobody gets the lock until it is moved away.
    Blocked(BlockedLock),
}

/// What is no file and stands in the place of the lock. It is not followed, not waited for and not touched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedLock {
    /// Where it stands, from the workspace root.
    pub path: String,
    /// What it is.
    pub reason: String,
}

/// Who holds a lock, and the verdict on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The owner.
    pub owner: Owner,
    /// How many ids its record lists as consumed.
    pub consumed_count: u64,
    /// Why it counts as alive, dead or unknown.
    pub reason: String,
}

/// What a release did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReleaseReport {
    /// How many consumed entries were deleted.
    pub removed: u64,
    /// How many were gone already.
    pub missing: u64,
    /// Entries that could not be deleted. They are consumed all the same: no run gets them again, and
    /// the next one tries to delete them.
    pub failed: Vec<FailedDelete>,
    /// How many consumed entries are still to be deleted; 0 after a release.
    pub left: u64,
    /// The run is committed and its entries are deleted, and by then the lock was another's.
    pub lost: bool,
    /// What is to be known of it besides: that somebody had changed a record at the moment of the commit.
    pub note: Option<String>,
}

/// An entry that could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedDelete {
    /// Its id.
    pub id: EntryId,
    /// Why.
    pub reason: String,
}

/// The name of a run: a UUIDv7. Runs sort by the time at which they began.
pub type RunId = String;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It was committed: its entries are consumed, and deleted or to be deleted.
    Consolidated,
    /// Its owner released the lock without a commit. Its entries are kept.
    Failed,
    /// Its owner died, or was taken for dead, before the commit. Its entries are kept.
    Aborted,
    /// It is no run: somebody removed a lock by force.
    Unlocked,
    /// It put back what another run had changed in memory.
    Undone,
}

impl Ending {
    /// Its name as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Consolidated => "consolidated",
            Ending::Failed => "failed",
            Ending::Aborted => "aborted",
            Ending::Unlocked => "unlocked",
            Ending::Undone => "undone",
        }
    }
}

/// A past run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// How it ended.
    pub ending: Ending,
    /// Who held the lock.
    pub owner: Owner,
    /// When it ended, RFC 3339; of a consolidated run, when it was committed.
    pub ended_at: String,
    /// Who ended it, if that was not its owner; `started_at` is empty.
    pub ended_by: Option<Owner>,
    /// Why, if it did not end well.
    pub reason: Option<String>,
    /// How many entries it took.
    pub entry_count: u64,
    /// How many records it changed.
    pub change_count: u64,
    /// The run whose changes it put back.
    pub undoes: Option<RunId>,
    /// It is committed, and some of its changes may not be made, or its entries not be deleted yet.
    pub pending: bool,
}

/// A record that a run changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedRecord {
    /// The directory of its file.
    pub kind: String,
    /// The name of its file.
    pub slug: String,
    /// There was none before.
    pub created: bool,
    /// There was none after.
    pub removed: bool,
}

/// What a memory record is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It holds.
    Active,
    /// Another record has taken its place.
    Replaced,
    /// It does not hold any more.
    Retired,
}

/// A memory record, as it is read. Files that people edited are read as far as that is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryRecord {
    /// The directory of its file.
    pub kind: String,
    /// The name of its file.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// `active`, `replaced`, `retired`, or what somebody wrote there.
    pub status: String,
    /// Where it comes from.
    pub sources: Vec<Source>,
    /// When it was created, RFC 3339; empty if the file does not say it.
    pub created: String,
    /// When it was last changed by a run, RFC 3339; empty if the file does not say it.
    pub updated: String,
    /// The record that has taken its place, as `kind/slug`.
    pub replaced_by: Option<String>,
    /// The Markdown after the front matter.
    pub body: String,
}

/// A memory record without its body and its sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordHead {
    /// The directory of its file.
    pub kind: String,
    /// The name of its file.
    pub slug: String,
    /// Its title.
    pub title: String,
    /// As in [`MemoryRecord`].
    pub status: String,
    /// As in [`MemoryRecord`].
    pub updated: String,
}

/// A file that can't be read as a memory record. Nobody overwrites it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableRecord {
    /// Where it is, from the workspace root.
    pub path: String,
    /// What is wrong with it, and where.
    pub reason: String,
}

/// The records of a memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordListing {
    /// By kind and slug.
    pub records: Vec<RecordHead>,
    /// What can't be read, by path.
    pub unreadable: Vec<UnreadableRecord>,
}

/// What a consolidator wants a memory record to be: created if there is none, else changed. Plain data;
/// a proposal is checked as a whole before anything of it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Update {
    /// `[a-z0-9][a-z0-9-]{0,63}`.
    pub kind: String,
    /// `[a-z0-9][a-z0-9-]{0,63}`.
    pub slug: String,
    /// One line; none: it stays. A new record needs one.
    pub title: Option<String>,
    /// Markdown; none: it stays. A new record needs one.
    pub body: Option<String>,
    /// None: it stays; a new record is active.
    pub status: Option<RecordStatus>,
    /// `kind/slug`, or a slug of the same kind; only with the status `Replaced`, which needs it.
    pub replaced_by: Option<String>,
    /// The entries that it comes from; none: all of the batch.
    pub entries: Option<Vec<EntryId>>,
}

/// How much a consolidator may change with one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UpdateLimits {
    /// How many updates; 10,000 by default.
    pub max_updates: u32,
    /// How many bytes the texts of one update may have; 1 MiB by default.
    pub max_update_bytes: u64,
}

impl Default for UpdateLimits {
    fn default() -> UpdateLimits {
        UpdateLimits { max_updates: 10_000, max_update_bytes: 1 << 20 }
    }
}

/// What a run would change in one memory record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The directory of its file.
    pub kind: String,
    /// The name of its file.
    pub slug: String,
    /// The file as it was read; none: there was none.
    pub before: Option<String>,
    /// The file as it would be; none: it would be removed.
    pub after: Option<String>,
}

/// A consolidator failed on an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EntryFailure {
    /// The entry.
    pub id: EntryId,
    /// Why, in one line.
    pub reason: String,
}

/// How often a consolidator has failed on an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The entry.
    pub id: EntryId,
    /// How often.
    pub attempts: u32,
    /// It was moved to the quarantine.
    pub quarantined: bool,
}

/// An entry in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantinedEntry {
    /// The entry.
    pub id: EntryId,
    /// Why; empty if that is lost.
    pub reason: String,
    /// How many attempts had failed; 0 if that is lost.
    pub attempts: u32,
    /// Since when it is there, RFC 3339; empty if that is lost.
    pub since: String,
    /// The size of its file.
    pub bytes: u64,
}

/// A file among the outcomes of runs that can't be read as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadableRun {
    /// The run.
    pub id: RunId,
    /// What is wrong with it.
    pub reason: String,
}

/// Past runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct History {
    /// The one that ended last first.
    pub runs: Vec<Run>,
    /// Outcomes among them that can't be read.
    pub unreadable: Vec<UnreadableRun>,
}

/// A run that its owner had not ended, and that the next owner of the lock has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecoveredRun {
    /// The run.
    pub id: RunId,
    /// [`Ending::Aborted`]; or [`Ending::Consolidated`]: it was committed, and its entries are deleted
    /// now.
    pub ending: Ending,
    /// Who had held the lock, as far as it is known.
    pub owner: Owner,
    /// How many of its entries were deleted just now.
    pub removed: u64,
    /// Which of them could still not be deleted.
    pub failed: Vec<FailedDelete>,
    /// What is to be known of it besides.
    pub note: Option<String>,
}

/// What kind of thing [`Workspace::examine`](crate::Workspace::examine) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The lock of a dead owner.
    StaleLock,
    /// A lock file that is no record.
    UnreadableLock,
    /// A lock that was put aside by a process that stopped then. It counts as if it were in its place.
    LockAside,
    /// The flag of a dead owner, or a copy of one that nobody will use any more.
    DeadFlag,
    /// A temporary file that a killed writer left more than a day ago.
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
    /// What somebody wrote into a record that a run, committed by then, has changed. It stays until it is moved
    /// away.
    KeptEdit,
    /// Something that does not belong where it is.
    Foreign,
}

impl FindingKind {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            FindingKind::StaleLock => "stale lock",
            FindingKind::UnreadableLock => "unreadable lock",
            FindingKind::LockAside => "lock put aside",
            FindingKind::DeadFlag => "flag of a dead owner",
            FindingKind::Temporary => "old temporary file",
            FindingKind::OrphanNote => "note of an entry that is gone",
            FindingKind::UnfinishedRun => "unfinished run",
            FindingKind::OldOutcome => "old outcome",
            FindingKind::UnreadableOutcome => "unreadable outcome",
            FindingKind::UnusableEntry => "unusable entry",
            FindingKind::UnreadableRecord => "unreadable record",
            FindingKind::DoubtfulRecord => "doubtful record",
            FindingKind::KeptEdit => "kept edit",
            FindingKind::Foreign => "foreign",
        }
    }
}

/// Something that is left over or out of order in a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// Where, relative to the workspace root.
    pub path: String,
    /// What is to be known of it, and what helps if it can't be mended.
    pub detail: String,
    /// [`Workspace::mend`](crate::Workspace::mend) can remove it. The next run does so too.
    pub mendable: bool,
    /// It was removed.
    pub mended: bool,
}

/// How a lock is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcquireOptions {
    /// Name of the pod that takes it.
    pub pod_name: String,
    /// For how long after its last refresh the lock counts as held by those who can't probe this
    /// process (another machine or container), in whole seconds, rounded up. The handle refreshes
    /// it every third of that, between calls: a lease shorter than the runtime's call timeout may
    /// run out during one call. None: for ever, and a crash in a container that comes back under
    /// another process-id namespace then needs a forced unlock.
    pub lease: Option<Duration>,
    /// Programs of the original format are at work in this workspace too, which write the lock without
    /// any exclusion: look whether there is one and whether its process runs, then write it in place. With
    /// this a lock counts as held only after it has stood for 100 ms, and a stale one is put aside and
    /// looked at once more before it is removed. One of those programs that has looked at the lock must
    /// have written it within these 100 ms; then it never overlaps with one of ours. Everybody else who
    /// follows the protocol here must set this too, and the file system must have hard links. Without it
    /// a lock of such a program is respected while its process lives, but it may overwrite ours.
    pub coexist: bool,
}

impl AcquireOptions {
    /// The default lease.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

    /// For a pod, with the default lease of 60 seconds.
    pub fn new(pod_name: impl Into<String>) -> AcquireOptions {
        AcquireOptions {
            pod_name: pod_name.into(),
            lease: Some(AcquireOptions::DEFAULT_LEASE),
            coexist: false,
        }
    }
}

/// For a pod of this name.
impl From<&str> for AcquireOptions {
    fn from(pod_name: &str) -> AcquireOptions {
        AcquireOptions::new(pod_name)
    }
}
