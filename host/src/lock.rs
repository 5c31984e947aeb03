//! A lock that is held. Invariant: once a call of it traps, the handle is dead and its lock is
//! cleared; a refresh in the background and a call never run in its instance at the same time.

use crate::bindings::{Consolidation, list, quarantine, types};
use crate::draft::Draft;
use crate::error::{Error, Fault};
use crate::keeper::{Refresh, Registration};
use crate::sandbox::{Instance, State};
use crate::snapshot::{LockSnapshot, Snapshot};
use crate::types::{
    AcquireOptions, Attempt, Durability, EntryFailure, Limits, LockRecord, RecoveredRun, ReleaseReport,
    RunId, Takeover, UpdateLimits,
};
use crate::workspace::{Answer, Shared, lock_options, strings, token, whole_seconds};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use wasmtime::Store;
use wasmtime::component::ResourceAny;

/// The consolidation lock of a workspace, held. Its lease is renewed in the background for as long
/// as it exists. Dropping it without a release leaves the lock on disk, where it counts as held for
/// as long as this process lives, and ends the renewal.
pub struct Lock {
    held: Arc<Held>,
    took_over: Option<Takeover>,
    recovered: Vec<RecoveredRun>,
    /// The lock file, from the root.
    path: String,
    registration: Option<Registration>,
}

/// What the handle shares with the keeper.
pub(crate) struct Held {
    workspace: Arc<Shared>,
    /// The guest's handle, in the instance of the seat.
    resource: ResourceAny,
    /// Empty after a trap, a timeout or a panic.
    seat: Mutex<Option<Instance>>,
    token: String,
    lost: AtomicBool,
    /// What the instance has failed with.
    failure: OnceLock<String>,
    /// How many entries may be set to be deleted, at the most.
    consumed: AtomicU64,
    /// A command works for this lock.
    has_command: AtomicBool,
}

/// How many entries one call deletes. The lease is renewed between two calls, and none takes long
/// enough to meet its time limit, however slow the disk.
const CLEAN_UP_ENTRIES: u32 = 500;

/// A lock is refreshed as if its lease were no longer than that, in seconds.
const MAX_LEASE_TO_LOOK: u32 = 60;

impl Lock {
    pub(crate) fn acquire(
        workspace: &Arc<Shared>,
        how: &AcquireOptions,
        durability: Durability,
    ) -> Result<Lock, Error> {
        let token = token()?;
        let options = lock_options(how, durability, &token);
        let (instance, acquired) =
            workspace.call_and_keep("acquire the lock", Some(&token), |store, component| {
                component.insomnia_consolidation_lock().call_acquire(store, &options)
            })?;
        let took_over = acquired.took_over.map(Takeover::from);
        if let Some(takeover) = &took_over {
            workspace.report_takeover(takeover);
        }
        let recovered: Vec<RecoveredRun> = list(acquired.recovered);
        workspace.report_recovered(&recovered);
        tracing::debug!(root = %workspace.root().display(), pod = how.pod_name, "acquired the lock");
        let held = Arc::new(Held {
            workspace: Arc::clone(workspace),
            resource: acquired.lock,
            seat: Mutex::new(Some(instance)),
            token,
            lost: AtomicBool::new(false),
            failure: OnceLock::new(),
            consumed: AtomicU64::new(0),
            has_command: AtomicBool::new(false),
        });
        let mut lock = Lock { path: acquired.path, took_over, recovered, registration: None, held };
        // Also without a lease, and often enough with a long one: a refresh is what finds out that somebody
        // removed the lock by force.
        let lease = how.lease.map_or(MAX_LEASE_TO_LOOK, whole_seconds).min(MAX_LEASE_TO_LOOK);
        match workspace.keeper().register(&lock.held, lease) {
            Ok(registration) => lock.registration = Some(registration),
            // Nobody would renew the lease, and an owner that can't probe us would take over.
            Err(error) => {
                // Whether this works or not, the reason to tell is why there is no lock.
                let _ = lock.release_only(None);
                return Err(Error::engine("start the thread that renews a lease", error));
            }
        }
        Ok(lock)
    }

    /// The record as it was last written.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn record(&self) -> Result<LockRecord, Error> {
        let resource = self.held.resource;
        self.held
            .call("look at the lock", |store, component| {
                let record = component.insomnia_consolidation_lock().held().call_record(store, resource)?;
                Ok(Ok(record))
            })
            .map(Into::into)
    }

    /// The run that is under way, or was the last; none before the first.
    pub(crate) fn run(&self) -> Result<Option<RunId>, Error> {
        let resource = self.held.resource;
        self.held.call("look at the lock", |store, component| {
            component.insomnia_consolidation_lock().held().call_run(store, resource).map(Ok)
        })
    }

    /// The workspace root.
    pub fn root(&self) -> &Path {
        self.held.workspace.root()
    }

    /// The lock file, absolute.
    pub fn path(&self) -> PathBuf {
        self.root().join(&self.path)
    }

    /// What was taken over, if anything.
    pub fn took_over(&self) -> Option<&Takeover> {
        self.took_over.as_ref()
    }

    /// Runs that other owners had left unfinished, and what became of them: those that were committed
    /// got their entries deleted.
    pub fn recovered(&self) -> &[RecoveredRun] {
        &self.recovered
    }

    /// Did a refresh or a call find that the lock on disk is not this one any more, or did the
    /// component fail? Then stop: somebody else may be at work.
    pub fn is_lost(&self) -> bool {
        self.held.is_lost()
    }

    /// Takes a snapshot of the entries.
    ///
    /// # Errors
    ///
    /// An I/O error while listing.
    pub fn snapshot(&self, limits: Limits) -> Result<LockSnapshot<'_>, Error> {
        Snapshot::of_lock(&self.held, limits, &[])
    }

    /// As [`Lock::snapshot`], as if some entries were not there.
    ///
    /// # Errors
    ///
    /// An id that is not a canonical UUIDv7, or an I/O error while listing.
    pub fn snapshot_without(
        &self,
        limits: Limits,
        skip: &[impl AsRef<str>],
    ) -> Result<LockSnapshot<'_>, Error> {
        Snapshot::of_lock(&self.held, limits, &strings(skip))
    }

    /// Begins a draft: changes of memory that a run of this lock may make.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn draft(&self, limits: UpdateLimits) -> Result<Draft<'_>, Error> {
        Draft::of_lock(&self.held, limits)
    }

    /// Takes the changes out of a draft. They become part of the run that is under way: its commit makes
    /// all of them, or none.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignDraft`] if it was not made under this lock;
    /// [`InvalidInput`](crate::ErrorCode::InvalidInput) if the run is committed already.
    pub fn take_draft(&self, draft: &Draft<'_>) -> Result<(), Error> {
        let resource = self.held.resource;
        let taken = draft.resource_under(&self.held).ok_or(Error::ForeignDraft)?;
        self.held.call("take a draft", |store, component| {
            component.insomnia_consolidation_lock().held().call_take_draft(store, resource, taken)
        })
    }

    /// Notes that a consolidator failed on entries that are staged. One whose attempts reach
    /// `max_attempts` is moved to the quarantine.
    ///
    /// # Errors
    ///
    /// A lock that is lost, or an I/O error. What is not noted is tried again by the next run.
    pub fn record_failures(
        &self,
        failures: Vec<EntryFailure>,
        max_attempts: u32,
    ) -> Result<Vec<Attempt>, Error> {
        let resource = self.held.resource;
        let failures: Vec<quarantine::EntryFailure> = list(failures);
        self.held
            .call("note failed entries", |store, component| {
                component.insomnia_consolidation_lock().held().call_record_failures(
                    store,
                    resource,
                    &failures,
                    max_attempts,
                )
            })
            .map(list)
    }

    /// Puts the memory records that a run changed back to what they were before it, as a run of its own,
    /// and returns its name. The entries of the run do not come back.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorCode::Conflict) if any of the records was changed since,
    /// [`NotFound`](crate::ErrorCode::NotFound) if the run, or what the records were, is not known any
    /// more: nothing is changed then. A lock that is lost, or an I/O error.
    pub fn undo(&self, run: &str) -> Result<RunId, Error> {
        let (resource, run) = (self.held.resource, run.to_owned());
        self.held.call("undo a run", |store, component| {
            component.insomnia_consolidation_lock().held().call_undo(store, resource, &run)
        })
    }

    /// How many memory records a run created.
    pub(crate) fn created_by(&self, run: &str) -> Result<u64, Error> {
        let run = run.to_owned();
        let changes = self.held.call("read the changes of a run", |store, component| {
            component.insomnia_consolidation_runs().call_changes(store, &run)
        })?;
        Ok(changes.iter().filter(|change| change.created).count() as u64)
    }

    /// Commits the run and deletes its entries, as [`Lock::release_with_cleanup`] does, and keeps the
    /// lock: another run can begin under it.
    ///
    /// # Errors
    ///
    /// As [`Lock::release_with_cleanup`].
    pub fn finish_run(&self) -> Result<ReleaseReport, Error> {
        let resource = self.held.resource;
        let mut whole = ReleaseReport::default();
        loop {
            let report = self.held.call("end the run", |store, component| {
                component.insomnia_consolidation_lock().held().call_clean_up(
                    store,
                    resource,
                    CLEAN_UP_ENTRIES,
                )
            })?;
            self.held.consumed.store(report.left, Ordering::Release);
            whole.removed += report.removed;
            whole.missing += report.missing;
            whole.failed.extend(report.failed.into_iter().map(Into::into));
            warn_of(self.held.workspace.root(), report.note.as_deref());
            whole.note = whole.note.or(report.note);
            if report.left == 0 {
                return Ok(whole);
            }
        }
    }

    /// Sets the ids that [`Lock::release_with_cleanup`] is to delete, and rewrites the lock file.
    ///
    /// # Errors
    ///
    /// An id that is not a canonical UUIDv7, a lock that is lost, or an I/O error; the earlier set is
    /// in force then.
    pub fn record_consumed(&self, ids: &[impl AsRef<str>]) -> Result<(), Error> {
        let resource = self.held.resource;
        let ids = strings(ids);
        self.held.call("record the consumed entries", |store, component| {
            component.insomnia_consolidation_lock().held().call_record_consumed(store, resource, &ids)
        })?;
        self.held.consumed.store(ids.len() as u64, Ordering::Release);
        Ok(())
    }

    /// Writes the ids that a snapshot of this lock names at this moment into the lock file, and sets
    /// those that were read by now for [`Lock::release_with_cleanup`] to delete: nothing is deleted
    /// that nobody saw. Call it twice: before the entries are handed on, so that the lock names them,
    /// and after the last batch was read.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignSnapshot`] if it was not taken under this lock; else as
    /// [`Lock::record_consumed`].
    pub fn record_snapshot(&self, snapshot: &LockSnapshot<'_>) -> Result<(), Error> {
        let resource = self.held.resource;
        // A handle of another instance means nothing in this one.
        let read = snapshot.resource_under(&self.held).ok_or(Error::ForeignSnapshot)?;
        self.held.call("record the consumed entries", |store, component| {
            component.insomnia_consolidation_lock().held().call_record_snapshot(store, resource, read)
        })?;
        self.held.consumed.store(snapshot.len()?, Ordering::Release);
        Ok(())
    }

    /// Names the process group of the command that works for this owner; none: there is none. The
    /// lock counts as held while any process of the group is left, also after this process died.
    ///
    /// # Errors
    ///
    /// A lock that is lost, or an I/O error.
    pub fn record_command_group(&self, pgid: Option<u32>) -> Result<(), Error> {
        let resource = self.held.resource;
        self.held.has_command.store(pgid.is_some(), Ordering::Release);
        self.held.call("record the command's process group", |store, component| {
            component.insomnia_consolidation_lock().held().call_record_command_group(store, resource, pgid)
        })
    }

    /// Commits the run, deletes the consumed entries, then the lock. From the commit on, which is one
    /// rename, the entries are consumed: whatever happens to this process then, no run gets them again,
    /// and the next owner of the lock deletes what is left. Entries that can't be deleted are in the
    /// report.
    ///
    /// # Errors
    ///
    /// [`LockLost`](crate::ErrorCode::LockLost): another owner has taken over; the run is not committed, and
    /// nothing was deleted. Any other error: the message says whether the run is committed; the lock
    /// may still be on disk.
    pub fn release_with_cleanup(self) -> Result<ReleaseReport, Error> {
        const OPERATION: &str = "release the lock with cleanup";
        let mut deleted = Vec::new();
        while self.held.consumed.load(Ordering::Acquire) > u64::from(CLEAN_UP_ENTRIES) {
            let resource = self.held.resource;
            let report = self.held.call(OPERATION, |store, component| {
                component.insomnia_consolidation_lock().held().call_clean_up(
                    store,
                    resource,
                    CLEAN_UP_ENTRIES,
                )
            });
            match report {
                Ok(report) => {
                    self.held.consumed.store(report.left, Ordering::Release);
                    deleted.push(report);
                }
                // The release that follows says so too, and takes down what is ours: returned from here, a
                // lock that nobody can release any more would stay on disk.
                Err(error) if error.guest().is_some() => break,
                Err(error) => return Err(error),
            }
        }
        let workspace = Arc::clone(&self.held.workspace);
        let mut report =
            self.release(OPERATION, |lock, store, resource| lock.call_release_with_cleanup(store, resource))?;
        for earlier in deleted {
            report.removed += earlier.removed;
            report.missing += earlier.missing;
            report.failed.extend(earlier.failed.into_iter().map(Into::into));
            report.note = earlier.note.or(report.note);
        }
        warn_of(workspace.root(), report.note.as_deref());
        for failed in &report.failed {
            tracing::warn!(
                root = %workspace.root().display(),
                id = failed.id,
                reason = failed.reason,
                "could not delete a consumed entry; the next run tries again"
            );
        }
        if report.lost {
            tracing::warn!(
                root = %workspace.root().display(),
                "the lock was another's by the time the entries were deleted; the run had been committed"
            );
        }
        Ok(report)
    }

    /// Deletes the lock and nothing else: the entries stay. If a run had begun, because entries were
    /// recorded, its outcome says that it failed, and this reason.
    ///
    /// # Errors
    ///
    /// [`LockLost`](crate::ErrorCode::LockLost): another owner has taken over. An I/O error: the lock may still
    /// be on disk.
    pub fn release_only(self, reason: Option<&str>) -> Result<ReleaseReport, Error> {
        let workspace = Arc::clone(&self.held.workspace);
        let report = self.release("release the lock", |lock, store, resource| {
            lock.call_release_only(store, resource, reason)
        })?;
        warn_of(workspace.root(), report.note.as_deref());
        Ok(report)
    }

    fn release(
        mut self,
        operation: &'static str,
        release: impl FnOnce(
            crate::bindings::lock::GuestHeld<'_>,
            &mut Store<State>,
            ResourceAny,
        ) -> Answer<crate::bindings::lock::ReleaseReport>
        + Send,
    ) -> Result<ReleaseReport, Error> {
        // From here on the keeper does not begin a refresh; one that is under way is waited for.
        self.registration = None;
        let held = &self.held;
        let resource = held.resource;
        let released = held.call(operation, |store, component| {
            release(component.insomnia_consolidation_lock().held(), store, resource)
        });
        let instance = held.seat().take();
        let root = held.workspace.root().display();
        match released {
            Ok(report) => {
                // The guest's handle went with the call, so the instance holds nothing of ours.
                if let Some(instance) = instance {
                    held.workspace.check_in(instance);
                }
                tracing::debug!(
                    %root,
                    removed = report.removed,
                    missing = report.missing,
                    "released the lock"
                );
                Ok(report.into())
            }
            Err(error) => {
                drop(instance);
                // The handle is gone and nobody can try again with it. What is another's is left.
                if matches!(error, Error::Guest(_)) {
                    held.workspace.abandon(&held.token);
                }
                Err(error)
            }
        }
    }
}

/// Says what people should know of a run that is committed.
fn warn_of(root: &Path, note: Option<&str>) {
    if let Some(note) = note {
        tracing::warn!(root = %root.display(), note, "the run is committed");
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lock")
            .field("path", &self.path)
            .field("took_over", &self.took_over)
            .field("is_lost", &self.is_lost())
            .finish_non_exhaustive()
    }
}

impl Held {
    pub(crate) fn call<T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        self.call_in(self.seat(), operation, call)
    }

    /// Renews the lease, unless a call is in progress.
    pub(crate) fn refresh(&self) -> Refresh {
        let seat = match self.seat.try_lock() {
            Ok(seat) => seat,
            Err(TryLockError::Poisoned(seat)) => seat.into_inner(),
            Err(TryLockError::WouldBlock) => return Refresh::Busy,
        };
        let refreshed = self.call_in(seat, "renew the lease of the lock", |store, component| {
            component.insomnia_consolidation_lock().held().call_refresh(store, self.resource)
        });
        match refreshed {
            Ok(()) => Refresh::Done,
            Err(_) if self.is_lost() => Refresh::Over,
            Err(error) => {
                tracing::warn!(
                    root = %self.workspace.root().display(),
                    %error,
                    "could not renew the lease of the lock; trying again"
                );
                Refresh::Failed
            }
        }
    }

    fn call_in<T: Send>(
        &self,
        mut seat: MutexGuard<'_, Option<Instance>>,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        // Taken out, so that a panic leaves the seat empty: what the instance was doing is unknown.
        let Some(mut instance) = seat.take() else {
            let cause = self.failure.get().cloned();
            return Err(Error::Dead { operation, root: self.workspace.root().to_owned(), cause });
        };
        match instance.call(call) {
            Ok(answer) => {
                *seat = Some(instance);
                answer.map_err(|error| {
                    if error.code == types::ErrorCode::LockLost {
                        self.report_lost(&error);
                    }
                    Error::guest_error(operation, self.workspace.root(), error)
                })
            }
            // The call did not begin.
            Err(fault @ Fault::Host(_)) => {
                *seat = Some(instance);
                Err(fault.into_error(operation, self.workspace.root()))
            }
            Err(fault) => {
                drop(instance);
                self.lost.store(true, Ordering::Release);
                let error = self.workspace.report_fault(operation, fault);
                let _ = self.failure.set(error.to_string());
                self.abandon();
                Err(error)
            }
        }
    }

    pub(crate) fn workspace(&self) -> &Shared {
        &self.workspace
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// After a panic in a refresh: the seat is empty.
    pub(crate) fn give_up(&self) {
        self.lost.store(true, Ordering::Release);
        self.abandon();
    }

    /// Clears what the instance that is gone held. Not while a command works: the next owner's would run
    /// beside it. Then the lock counts as held until this process has ended and the command too.
    fn abandon(&self) {
        if !self.has_command.load(Ordering::Acquire) {
            self.workspace.abandon(&self.token);
        }
    }

    fn report_lost(&self, error: &types::Error) {
        if self.lost.swap(true, Ordering::AcqRel) {
            return;
        }
        let owner = error.owner.as_ref();
        tracing::warn!(
            root = %self.workspace.root().display(),
            owner_pid = owner.map(|owner| owner.pid),
            owner_pod = owner.map(|owner| owner.pod_name.as_str()),
            reason = error.message,
            "lost the lock: the one on disk is not ours"
        );
    }

    fn seat(&self) -> MutexGuard<'_, Option<Instance>> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
