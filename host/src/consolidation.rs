//! Consolidation by a [`Consolidator`]: lock, batches, commit, release. Invariant: an entry is consumed
//! only by the commit that makes the changes which it led to, and what a run that is given up has done is
//! as if it had never been. However it ends, the lock is released.

mod split;

use crate::consolidator::{Consolidator, ConsolidatorError};
use crate::draft::Draft;
use crate::error::Error;
use crate::lock::Lock;
use crate::snapshot::Snapshot;
use crate::types::{
    AcquireOptions, Change, Entry, EntryFailure, EntryId, ErrorCode, FailedDelete, Gates, Limits, RunId,
    UnusableFile, Update, UpdateLimits,
};
use crate::workspace::Workspace;
use serde::Serialize;
use split::{End, Failed, Refusal, STRIKES, Splitter};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

/// How many entries one run takes. More of them are taken by the runs that follow under the same lock.
const MAX_RUN_ENTRIES: u64 = 50_000;

/// How many entries a run takes whose consolidator reads files: most often it is committed after a batch, and
/// each commit has the lock name all of them.
const MAX_RUN_ENTRIES_OF_READERS: u64 = 1_000;

/// A draft of so many bytes is committed. It may hold twice as much, which leaves room for the next batch.
const FULL_DRAFT_BYTES: u64 = 32 << 20;

/// How a consolidation is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsolidateOptions {
    /// How the lock is taken.
    pub lock: AcquireOptions,
    /// For how long to wait for it; not at all by default.
    pub wait: Duration,
    /// What must be so for it to begin; nothing by default.
    pub gates: Gates,
    /// How much one run takes at the most; by default everything that is staged.
    pub limits: Limits,
    /// How many entries the consolidator gets at a time, at the most; 100 by default.
    pub batch_entries: u32,
    /// About how many bytes it gets at a time, but at least one entry; 1 MiB by default.
    pub batch_bytes: u64,
    /// How much it may change with one batch.
    pub updates: UpdateLimits,
    /// After how many failed attempts an entry is moved to the quarantine; 3 by default.
    pub max_attempts: u32,
    /// Go on until nothing is left, also with what is staged meanwhile. Otherwise it ends when those are dealt
    /// with that were staged when it began.
    pub drain: bool,
}

impl ConsolidateOptions {
    /// For a pod, with a lease of 60 seconds for the lock.
    pub fn new(pod_name: impl Into<String>) -> ConsolidateOptions {
        ConsolidateOptions {
            lock: AcquireOptions::new(pod_name),
            wait: Duration::ZERO,
            gates: Gates::default(),
            limits: Limits::default(),
            batch_entries: 100,
            batch_bytes: 1 << 20,
            updates: UpdateLimits::default(),
            max_attempts: 3,
            drain: false,
        }
    }
}

/// For a pod of this name.
impl From<&str> for ConsolidateOptions {
    fn from(pod_name: &str) -> ConsolidateOptions {
        ConsolidateOptions::new(pod_name)
    }
}

/// Whoever looks on, and may end it. `()` never does.
pub trait Observer {
    /// Another owner holds the lock. Sleeps until the next try; false gives up.
    fn wait(&mut self, in_use: &Error, pause: Duration) -> bool {
        let _ = in_use;
        std::thread::sleep(pause);
        true
    }

    /// The consolidator is about to get entries; false gives up the run that is under way. Runs that
    /// are committed stay.
    fn go_on(&mut self, progress: &Progress) -> bool {
        let _ = progress;
        true
    }
}

impl Observer for () {}

/// How far a consolidation has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many entries are consumed.
    pub committed: u64,
    /// How many more are done, to be consumed by the commit of the run that is under way.
    pub done: u64,
    /// How many the consolidator failed on.
    pub failed: u64,
}

/// What a consolidation did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Consolidation {
    /// Why it did not begin: a gate is closed.
    pub skipped: Option<String>,
    /// The runs that it committed, the oldest first.
    pub runs: Vec<RunId>,
    /// How many entries they consumed.
    pub entries: u64,
    /// How many of them were deleted.
    pub removed: u64,
    /// How many were gone already.
    pub missing: u64,
    /// Those that could not be deleted. No run gets them again, and the next one tries to delete them.
    pub undeleted: Vec<FailedDelete>,
    /// How many memory records were created.
    pub created: u64,
    /// How many that there were are changed.
    pub changed: u64,
    /// The entries that the consolidator failed on, in the order in which it did. They are staged, or in
    /// the quarantine.
    pub failed: Vec<FailedEntry>,
    /// How many more entries were staged than the caps allow.
    pub left: u64,
    /// Files that are no usable entries, by name.
    pub unusable: Vec<UnusableFile>,
    /// All of it is committed, and by the end the lock was another's.
    pub lock_lost: bool,
}

/// An entry that a consolidator failed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedEntry {
    /// The entry.
    pub id: EntryId,
    /// Why.
    pub reason: String,
    /// How many attempts have failed, this one included; 0 if it could not be noted.
    pub attempts: u32,
    /// It was moved to the quarantine.
    pub quarantined: bool,
}

/// What a consolidation would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// Why it would not begin: a gate is closed.
    pub skipped: Option<String>,
    /// How many entries it would consume.
    pub entries: u64,
    /// What it would change, by kind and slug.
    pub changes: Vec<Change>,
    /// The entries that the consolidator failed on.
    pub failed: Vec<EntryFailure>,
    /// How many more entries are staged.
    pub left: u64,
    /// Files that are no usable entries, by name.
    pub unusable: Vec<UnusableFile>,
}

/// Why a consolidation ended before its time. The run that was under way is given up: its entries stay,
/// and it changed nothing.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConsolidateError {
    /// Why.
    pub cause: Cause,
    /// What was done before: the runs that were committed, and the attempts that are noted.
    pub done: Box<Consolidation>,
}

/// What ends a consolidation.
#[derive(Debug)]
pub enum Cause {
    /// The consolidator failed on whatever it was given. The attempts that
    /// [`Consolidation::failed`] names are noted; of other entries none is blamed.
    Failed(String),
    /// The consolidator says that it may go better later. No entry is blamed.
    Temporary(String),
    /// The consolidator can't work at all. No entry is blamed.
    Broken(String),
    /// [`Observer`] gave up.
    Interrupted,
    /// The workspace failed: a lock that is in use or lost, a memory record that was changed meanwhile or
    /// can't be read, an I/O error.
    Workspace(Error),
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Failed(message) | Cause::Temporary(message) | Cause::Broken(message) => {
                formatter.write_str(message)
            }
            Cause::Interrupted => formatter.write_str("interrupted"),
            Cause::Workspace(error) => fmt::Display::fmt(error, formatter),
        }
    }
}

impl From<Error> for Cause {
    fn from(error: Error) -> Self {
        Cause::Workspace(error)
    }
}

impl fmt::Display for ConsolidateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, formatter)
    }
}

impl std::error::Error for ConsolidateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            Cause::Workspace(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Cause> for ConsolidateError {
    fn from(cause: Cause) -> Self {
        ConsolidateError { cause, done: Box::default() }
    }
}

impl Workspace {
    /// Has a consolidator turn what is staged into memory records, under the lock.
    ///
    /// Each run is a commit of its own, and most often there is one: its entries are consumed and its
    /// changes made, or nothing of either. Entries that the consolidator fails on are found by trying
    /// smaller batches. They are left out, stay staged, and go to the quarantine after
    /// [`ConsolidateOptions::max_attempts`] runs. If the consolidator panics, the lock is released and the
    /// panic goes on.
    ///
    /// # Errors
    ///
    /// [`ConsolidateError`] has the cause, and what was committed before.
    pub fn consolidate(
        &self,
        options: &ConsolidateOptions,
        consolidator: &mut dyn Consolidator,
    ) -> Result<Consolidation, ConsolidateError> {
        self.consolidate_observed(options, consolidator, &mut ())
    }

    /// As [`Workspace::consolidate`], with somebody who looks on and may end it.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn consolidate_observed(
        &self,
        options: &ConsolidateOptions,
        consolidator: &mut dyn Consolidator,
        observer: &mut dyn Observer,
    ) -> Result<Consolidation, ConsolidateError> {
        self.consolidate_under(options, observer, |lock, observer| {
            lock.consolidate(options, consolidator, observer)
        })
    }

    /// Asks the gates, takes the lock, asks them again, works, and releases the lock.
    pub(crate) fn consolidate_under(
        &self,
        options: &ConsolidateOptions,
        observer: &mut dyn Observer,
        work: impl FnOnce(&Lock, &mut dyn Observer) -> Result<Consolidation, ConsolidateError>,
    ) -> Result<Consolidation, ConsolidateError> {
        if let Some(reason) = self.closed_gate_of(options)? {
            return Ok(Consolidation::skip(reason));
        }
        let mut gave_up = false;
        let lock = self.acquire_within(&options.lock, options.wait, |in_use, pause| {
            gave_up = !observer.wait(in_use, pause);
            !gave_up
        });
        if gave_up {
            return Err(Cause::Interrupted.into());
        }
        let lock = lock.map_err(Cause::from)?;
        // A panic must not leave a lock that counts as held for as long as this process lives.
        let ended = panic::catch_unwind(AssertUnwindSafe(|| match self.closed_gate_of(options)? {
            // Somebody else's run came first.
            Some(reason) => Ok(Consolidation::skip(reason)),
            None => work(&lock, observer),
        }));
        match ended {
            Ok(Ok(done)) => end_well(lock, done),
            Ok(Err(error)) => Err(give_up(lock, error)),
            Err(panic) => {
                if let Err(error) = lock.release_only(Some("the consolidator panicked")) {
                    tracing::warn!(%error, "could not release the lock after a panic of the consolidator");
                }
                panic::resume_unwind(panic)
            }
        }
    }

    /// Has a consolidator turn what is staged into memory records and says what would change. Takes no
    /// lock, writes nothing and notes no attempt. What exceeds one draft is left.
    ///
    /// # Errors
    ///
    /// As [`Workspace::consolidate`].
    pub fn preview(
        &self,
        options: &ConsolidateOptions,
        consolidator: &mut dyn Consolidator,
        observer: &mut dyn Observer,
    ) -> Result<Preview, ConsolidateError> {
        if let Some(reason) = self.closed_gate_of(options)? {
            return Ok(Preview { skipped: Some(reason), ..Preview::default() });
        }
        let mut work = Work::new(options, consolidator, observer);
        let snapshot = self.snapshot(options.limits).map_err(Cause::from)?;
        let draft = self.draft(options.updates).map_err(Cause::from)?;
        work.unusable.add(snapshot.unusable().map_err(Cause::from)?);
        let staged = snapshot.len().map_err(Cause::from)? + snapshot.left().map_err(Cause::from)?;
        let read = work.read(&snapshot, &draft, None)?;
        if let Some(cause) = work.all_failed() {
            return Err(cause.into());
        }
        let mut changes = Vec::new();
        while let Some(change) =
            draft.change(u32::try_from(changes.len()).unwrap_or(u32::MAX)).map_err(Cause::from)?
        {
            changes.push(change);
        }
        Ok(Preview {
            skipped: None,
            entries: read.done,
            changes,
            failed: work.failures.into_iter().map(|failure| failure.entry).collect(),
            left: staged.saturating_sub(read.dealt),
            unusable: work.unusable.into_files(),
        })
    }

    fn closed_gate_of(&self, options: &ConsolidateOptions) -> Result<Option<String>, Cause> {
        if options.gates == Gates::default() {
            return Ok(None);
        }
        Ok(self.closed_gate(&options.gates)?)
    }
}

fn end_well(lock: Lock, mut done: Consolidation) -> Result<Consolidation, ConsolidateError> {
    // Its last run may have found nothing but entries that fail: it is not committed.
    match lock.release_only(Some("the consolidator failed on all of its entries")) {
        Ok(_) => Ok(done),
        Err(error) if error.code() == ErrorCode::LockLost && !done.runs.is_empty() => {
            done.lock_lost = true;
            Ok(done)
        }
        Err(error) => Err(ConsolidateError { cause: error.into(), done: Box::new(done) }),
    }
}

fn give_up(lock: Lock, mut error: ConsolidateError) -> ConsolidateError {
    match lock.release_only(Some(&error.to_string())) {
        Ok(_) => {}
        // That it was lost is said once, and matters more than what that did to the consolidator.
        Err(lost) if lost.code() == ErrorCode::LockLost => {
            if !matches!(&error.cause, Cause::Workspace(error) if error.code() == ErrorCode::LockLost) {
                tracing::warn!(%error, "the consolidation failed, and its lock was lost");
                error.cause = lost.into();
            }
        }
        Err(release) => {
            tracing::warn!(error = %release, "could not release the lock of a consolidation that failed")
        }
    }
    error
}

impl Lock {
    /// As [`Workspace::consolidate`], under this lock, which stays held. The gates, and how the lock is
    /// to be taken, do not count here. After an error release it with [`Lock::release_only`]: the run that
    /// was under way is given up by that.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn consolidate(
        &self,
        options: &ConsolidateOptions,
        consolidator: &mut dyn Consolidator,
        observer: &mut dyn Observer,
    ) -> Result<Consolidation, ConsolidateError> {
        let mut work = Work::new(options, consolidator, observer);
        let ended = work.run_all(self);
        work.done.unusable = work.unusable.into_files();
        match ended {
            Ok(()) => Ok(work.done),
            Err(cause) => Err(ConsolidateError { cause, done: Box::new(work.done) }),
        }
    }
}

impl Consolidation {
    fn skip(reason: String) -> Self {
        Consolidation { skipped: Some(reason), ..Consolidation::default() }
    }
}

/// A consolidation under way.
struct Work<'a> {
    options: &'a ConsolidateOptions,
    consolidator: &'a mut dyn Consolidator,
    observer: &'a mut dyn Observer,
    splitter: Splitter,
    /// What the consolidator failed on. The first `noted` of them are noted.
    failures: Vec<Failure>,
    noted: usize,
    unusable: Unusable,
    done: Consolidation,
}

struct Failure {
    entry: EntryFailure,
    alone: bool,
}

/// Unusable files, each once: every run comes upon them again.
#[derive(Default)]
struct Unusable {
    names: BTreeSet<String>,
    files: Vec<UnusableFile>,
}

impl Unusable {
    fn add(&mut self, files: Vec<UnusableFile>) {
        for file in files {
            if self.names.insert(file.name.clone()) {
                self.files.push(file);
            }
        }
    }

    fn into_files(mut self) -> Vec<UnusableFile> {
        self.files.sort_by(|one, other| one.name.cmp(&other.name));
        self.files
    }
}

/// What one pass over a snapshot came to.
#[derive(Default)]
struct Read {
    /// How many entries are done.
    done: u64,
    /// How many the consolidator was given, those on which it failed included.
    given: u64,
    /// How many bytes the files of those have.
    bytes: u64,
    /// How many files it has dealt with, unusable ones included.
    dealt: u64,
    /// All that the snapshot names was read.
    to_the_end: bool,
}

/// The snapshot of one listing, from which one run after another takes its entries: a listing for each run
/// would make the cost of an entry grow with the number of all.
struct Listed<'lock> {
    snapshot: Snapshot<'lock>,
    /// How many runs it has served.
    runs: u64,
    /// Of the caps on all its runs together, what is left.
    left: Limits,
}

/// Why the parts of a batch are not tried any more.
enum Stop {
    /// The draft has no room for another batch. What it holds is to be committed first.
    Full,
    Cause(Cause),
}

impl<'a> Work<'a> {
    fn new(
        options: &'a ConsolidateOptions,
        consolidator: &'a mut dyn Consolidator,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Work {
            options,
            consolidator,
            observer,
            splitter: Splitter::default(),
            failures: Vec::new(),
            noted: 0,
            unusable: Unusable::default(),
            done: Consolidation::default(),
        }
    }

    fn run_all(&mut self, lock: &Lock) -> Result<(), Cause> {
        let mut listed = None;
        loop {
            listed = self.run_once(lock, listed)?;
            if self.splitter.has_succeeded() {
                self.note_failures(lock)?;
            }
            if listed.is_none() {
                break;
            }
        }
        match self.all_failed() {
            None => Ok(()),
            Some(cause) => {
                self.note_failures(lock)?;
                Err(cause)
            }
        }
    }

    /// One run: from a snapshot to its commit. Gives what the run after it goes on with, if one is to follow.
    fn run_once<'lock>(
        &mut self,
        lock: &'lock Lock,
        listed: Option<Listed<'lock>>,
    ) -> Result<Option<Listed<'lock>>, Cause> {
        let mut listed = match listed {
            Some(listed) => {
                listed.snapshot.advance_within(self.limits_of_run(listed.left), !self.options.drain)?;
                listed
            }
            None => self.list(lock)?,
        };
        let draft = lock.draft(self.options.updates)?;
        let read = self.read(&listed.snapshot, &draft, Some(lock))?;
        self.done.left = listed.snapshot.left()?;
        let is_exhausted = read.to_the_end && self.done.left == 0;
        if read.done > 0 {
            self.commit(lock, &listed.snapshot, draft, read.done)?;
        }
        listed.runs += 1;
        if self.options.drain {
            // Unusable files are in every listing: where there was nothing else, nothing else comes. And caps
            // that leave nothing do so again.
            if read.given == 0 && (listed.runs == 1 || !is_exhausted) {
                return Ok(None);
            }
            if !is_exhausted {
                return Ok(Some(listed));
            }
            // What was staged meanwhile is in the next listing.
            drop(listed);
            return self.list(lock).map(Some);
        }
        // A pod that stages faster than the consolidator works does not keep it for ever: what it stages
        // meanwhile is in no listing.
        let Limits { max_entries, max_bytes } = &mut listed.left;
        *max_entries = max_entries.map(|max| max.saturating_sub(read.given));
        *max_bytes = max_bytes.map(|max| max.saturating_sub(read.bytes));
        let is_capped = *max_entries == Some(0) || read.to_the_end && read.given == 0;
        Ok((!is_exhausted && !is_capped).then_some(listed))
    }

    fn list<'lock>(&mut self, lock: &'lock Lock) -> Result<Listed<'lock>, Cause> {
        let skip: Vec<&str> = self.failures.iter().map(|failure| failure.entry.id.as_str()).collect();
        let left = self.options.limits;
        let snapshot = lock.snapshot_without(self.limits_of_run(left), &skip)?;
        self.unusable.add(snapshot.unusable()?);
        Ok(Listed { snapshot, runs: 0, left })
    }

    /// The caps of one run, within these.
    fn limits_of_run(&self, limits: Limits) -> Limits {
        let most = match self.consolidator.reads_files() {
            true => MAX_RUN_ENTRIES_OF_READERS.max(self.options.batch_entries.into()),
            false => MAX_RUN_ENTRIES,
        };
        Limits { max_entries: Some(limits.max_entries.map_or(most, |max| max.min(most))), ..limits }
    }

    /// Gives the consolidator the entries batch by batch, until the snapshot is read or the draft is full.
    fn read(
        &mut self,
        snapshot: &Snapshot<'_>,
        draft: &Draft<'_>,
        lock: Option<&Lock>,
    ) -> Result<Read, Cause> {
        let mut read = Read::default();
        let mut named = false;
        loop {
            let batch = snapshot.next_batch(self.options.batch_entries, self.options.batch_bytes)?;
            read.dealt += (batch.unusable.len() + batch.entries.len()) as u64;
            self.unusable.add(batch.unusable);
            if batch.entries.is_empty() {
                if batch.done {
                    return Ok(Read { to_the_end: true, ..read });
                }
                continue;
            }
            if let (Some(lock), false) = (lock, named) {
                // The lock names them before anybody sees the first of them.
                lock.record_snapshot(snapshot)?;
                named = true;
            }
            read.given += batch.entries.len() as u64;
            read.bytes += batch.entries.iter().map(|entry| entry.bytes).sum::<u64>();
            let mut splitter = self.splitter;
            let sorted = splitter.sort(batch.entries, |part| {
                let failed = self.failures.len() as u64;
                let progress = Progress { committed: self.done.entries, done: read.done, failed };
                self.attempt(part, draft, snapshot, lock, &progress)
            });
            self.splitter = splitter;
            read.done += sorted.done.len() as u64;
            let ids: Vec<&str> = sorted.failed.iter().map(|failed| failed.item.id.as_str()).collect();
            snapshot.keep(&ids)?;
            self.failures.extend(sorted.failed.into_iter().map(Failure::from));
            match sorted.end {
                None => {}
                Some(End::Because(Stop::Cause(cause))) => return Err(cause),
                Some(End::Because(Stop::Full)) => {
                    // They are the last ones that were read: those that failed are kept.
                    snapshot.put_back(sorted.rest.len())?;
                    let rest = sorted.rest.len() as u64;
                    (read.given, read.dealt) = (read.given - rest, read.dealt - rest);
                    read.bytes -= sorted.rest.iter().map(|entry| entry.bytes).sum::<u64>();
                    return Ok(read);
                }
                Some(End::AtFault) => {
                    // No other is blamed for what is the consolidator's fault.
                    self.failures.retain(|failure| failure.alone);
                    self.failures.truncate(STRIKES);
                    if let Some(lock) = lock {
                        self.note_failures(lock)?;
                    }
                    return Err(self.at_fault());
                }
            }
            if batch.done {
                return Ok(Read { to_the_end: true, ..read });
            }
            // Who reads files must find there what is in the draft.
            let is_due = lock.is_some() && self.consolidator.reads_files() && !draft.is_empty()?;
            if is_due || draft.size()? > FULL_DRAFT_BYTES {
                return Ok(read);
            }
        }
    }

    /// Has the consolidator do some entries, and adds what it says to the draft.
    fn attempt(
        &mut self,
        entries: &[Entry],
        draft: &Draft<'_>,
        snapshot: &Snapshot<'_>,
        lock: Option<&Lock>,
        progress: &Progress,
    ) -> Result<(), Refusal<Stop>> {
        let end = |cause: Cause| Refusal::End(Stop::Cause(cause));
        if !self.observer.go_on(progress) {
            return Err(end(Cause::Interrupted));
        }
        if let Some(lock) = lock.filter(|lock| lock.is_lost()) {
            // Says who has it.
            lock.record_snapshot(snapshot).map_err(|error| end(error.into()))?;
        }
        if self.consolidator.reads_files() {
            // It would not see what is in the draft, and take older files for the present state.
            if lock.is_some() && !draft.is_empty().map_err(|error| end(error.into()))? {
                return Err(Refusal::End(Stop::Full));
            }
            draft.watch().map_err(|error| end(error.into()))?;
        }
        let updates: Vec<Update> = match self.consolidator.consolidate(entries, draft) {
            Ok(updates) => updates,
            Err(ConsolidatorError::Batch(reason)) => return Err(Refusal::Batch(reason)),
            Err(ConsolidatorError::Entries(ids, reason)) => {
                let at_fault = |id: &EntryId| entries.iter().position(|entry| entry.id == *id);
                return Err(Refusal::Items(ids.iter().filter_map(at_fault).collect(), reason));
            }
            Err(ConsolidatorError::Temporary(reason)) => return Err(end(Cause::Temporary(reason))),
            Err(ConsolidatorError::Broken(reason)) => return Err(end(Cause::Broken(reason))),
            Err(ConsolidatorError::Workspace(error)) => return Err(end(error.into())),
        };
        if updates.is_empty() {
            return Ok(());
        }
        draft.propose(entries, updates).map_err(|error| match error.code() {
            // Also if the file of a record can't be read: the entries that don't touch it go on.
            ErrorCode::InvalidInput | ErrorCode::Unusable => Refusal::Batch(refused(&error)),
            // With room in the draft it may be fine; without anything in it, it never will.
            ErrorCode::NoSpace => match draft.is_empty() {
                Ok(true) => Refusal::Batch(refused(&error)),
                Ok(false) => Refusal::End(Stop::Full),
                Err(error) => end(error.into()),
            },
            _ => end(error.into()),
        })
    }

    /// What was read and not kept is consumed, and what the draft holds is made, or neither.
    fn commit(
        &mut self,
        lock: &Lock,
        snapshot: &Snapshot<'_>,
        draft: Draft<'_>,
        entries: u64,
    ) -> Result<(), Cause> {
        lock.record_snapshot(snapshot)?;
        let changed = u64::from(draft.len()?);
        if changed > 0 {
            lock.take_draft(&draft)?;
        }
        drop(draft);
        let run = lock.run()?;
        let report = lock.finish_run()?;
        // The run is done, and only how its changes are counted is still open.
        let created = match &run {
            Some(run) if changed > 0 => lock.created_by(run).unwrap_or_default().min(changed),
            _ => 0,
        };
        let done = &mut self.done;
        done.entries += entries;
        done.runs.extend(run);
        done.removed += report.removed;
        done.missing += report.missing;
        done.undeleted.extend(report.failed);
        done.created += created;
        done.changed += changed - created;
        Ok(())
    }

    fn note_failures(&mut self, lock: &Lock) -> Result<(), Cause> {
        let new: Vec<EntryFailure> =
            self.failures[self.noted..].iter().map(|failure| failure.entry.clone()).collect();
        self.noted = self.failures.len();
        if new.is_empty() {
            return Ok(());
        }
        let attempts = lock.record_failures(new.clone(), self.options.max_attempts);
        // In the order of the failures; entries that are gone are not among them.
        let mut noted = attempts.as_deref().unwrap_or_default().iter().peekable();
        self.done.failed.extend(new.into_iter().map(|EntryFailure { id, reason }| {
            let attempt = noted.next_if(|attempt| attempt.id == id);
            FailedEntry {
                attempts: attempt.map_or(0, |attempt| attempt.attempts),
                quarantined: attempt.is_some_and(|attempt| attempt.quarantined),
                id,
                reason,
            }
        }));
        match attempts {
            Ok(_) => Ok(()),
            // What is committed is done, and the release says that the lock was lost.
            Err(error) if error.code() == ErrorCode::LockLost && !self.done.runs.is_empty() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Did the consolidator fail on everything that it got?
    fn all_failed(&self) -> Option<Cause> {
        (!self.splitter.has_succeeded() && !self.failures.is_empty()).then(|| self.at_fault())
    }

    fn at_fault(&self) -> Cause {
        let reason = self.failures.last().map_or("", |failure| failure.entry.reason.as_str());
        Cause::Failed(format!(
            "{} failed on every entry that it was given: {reason}",
            self.consolidator.name()
        ))
    }
}

impl From<Failed<Entry>> for Failure {
    fn from(failed: Failed<Entry>) -> Self {
        let entry = EntryFailure { id: failed.item.id, reason: failed.reason };
        Failure { entry, alone: failed.alone }
    }
}

/// Why the draft refused updates.
fn refused(error: &Error) -> String {
    let message = error.guest().map_or_else(|| error.to_string(), |error| error.message.clone());
    match error.index() {
        Some(index) => format!("update {} of its answer is refused: {message}", index + 1),
        None => format!("its answer is refused: {message}"),
    }
}
