//! A workspace and its instances. Invariant: an instance works for one caller at a time, and one
//! that trapped, timed out or was left by a panic is never used again.

use crate::bindings::{Consolidation, list, lock, types};
use crate::draft::Draft;
use crate::engine::Runtime;
use crate::error::{Error, Fault};
use crate::keeper::Keeper;
use crate::lock::Lock;
use crate::sandbox::{Instance, State};
use crate::snapshot::Snapshot;
use crate::types::{
    AcquireOptions, ChangedRecord, Durability, Entry, EntryId, Finding, Gates, History, Limits, LockStatus,
    MemoryRecord, QuarantinedEntry, RecordListing, RecoveredRun, Run, Source, Summary, Takeover, Update,
    UpdateLimits,
};
use crate::wasi::Root;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasmtime::Store;

/// How many instances wait for the next call. More may be in use at the same time.
const MAX_IDLE: usize = 4;

/// What a call of an export comes to: an answer or the component's error, unless it traps.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, types::Error>>;

/// One workspace: its staging directory and its consolidation lock. Cheap to clone, and any number
/// of threads may use it at the same time.
///
/// The calls block, for file operations and, where a lock is taken, for some seconds. From async
/// code, use them on a thread that may block (`tokio::task::spawn_blocking`): on a runtime's worker
/// they work too, and block it.
#[derive(Clone)]
pub struct Workspace {
    shared: Arc<Shared>,
    durability: Durability,
}

/// What the clones of a workspace and its handles have in common.
pub(crate) struct Shared {
    runtime: Runtime,
    root: PathBuf,
    directory: Root,
    idle: Mutex<Vec<Instance>>,
    keeper: Keeper,
    /// The most memory that one instance has had, in bytes.
    peak_memory: Arc<AtomicUsize>,
}

impl Workspace {
    /// Opens the workspace in the directory `root`, which must exist, with a runtime that all
    /// workspaces of the process share. The directory is opened once: if it is renamed later, the
    /// workspace follows it.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if `root` is no directory or can't be opened; [`Error::Engine`] if wasmtime
    /// can't run on this machine.
    pub fn open(root: impl AsRef<Path>) -> Result<Workspace, Error> {
        Runtime::shared()?.open(root)
    }

    pub(crate) fn with_runtime(runtime: Runtime, root: &Path) -> Result<Workspace, Error> {
        let open = || {
            let canonical = root.canonicalize()?;
            let directory = Root::open(&canonical)?;
            Ok((canonical, directory))
        };
        let (canonical, directory) =
            open().map_err(|source| Error::Open { path: root.to_owned(), source })?;
        Ok(Workspace {
            shared: Arc::new(Shared {
                runtime,
                root: canonical,
                directory,
                idle: Mutex::default(),
                keeper: Keeper::default(),
                peak_memory: Arc::default(),
            }),
            durability: Durability::default(),
        })
    }

    /// The workspace root, absolute and without symbolic links, as it was when it was opened.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The most memory, in bytes, that one instance of the component has had in this workspace since it was
    /// opened: see [`RuntimeBuilder::memory_limit`](crate::RuntimeBuilder::memory_limit).
    #[must_use]
    pub fn peak_memory(&self) -> usize {
        self.shared.peak_memory.load(Ordering::Relaxed)
    }

    /// The same workspace with another durability, for what is staged through this handle and for the
    /// runs under locks that are taken through it. See [`Durability`].
    pub fn with_durability(&self, durability: Durability) -> Workspace {
        Workspace { shared: Arc::clone(&self.shared), durability }
    }

    /// Stages one payload, a JSON object with a `source`, and returns its id.
    ///
    /// # Errors
    ///
    /// A payload that is not usable, or an I/O error; nothing is staged then.
    pub fn stage(&self, payload: &str) -> Result<EntryId, Error> {
        let durability = self.durability.into();
        self.call("stage an entry", |store, component| {
            component.insomnia_consolidation_staging().call_write(store, payload, None, durability)
        })
    }

    /// Stages several payloads and returns their ids in the same order; the ids ascend. With
    /// [`Durability::Full`] the directory is synchronised once. `default_source` is for payloads
    /// that have none.
    ///
    /// # Errors
    ///
    /// A payload that is not usable ([`Error::index`] says which): nothing is staged then. After an
    /// I/O error [`Error::staged`] names what is staged.
    pub fn stage_many(
        &self,
        payloads: &[impl AsRef<str>],
        default_source: Option<&Source>,
    ) -> Result<Vec<EntryId>, Error> {
        let durability = self.durability.into();
        let payloads = strings(payloads);
        let source = default_source.cloned().map(Into::into);
        let mut staged = Vec::new();
        let answer = self.call("stage entries", |store, component| {
            let staging = component.insomnia_consolidation_staging();
            let answer = staging.call_write_many(store, &payloads, source.as_ref(), durability)?;
            Ok(answer.map_err(|failure| {
                staged = failure.staged;
                failure.error
            }))
        });
        answer.map_err(|error| error.with_staged(staged))
    }

    /// Checks payloads by the rules of [`Workspace::stage_many`] and writes nothing.
    ///
    /// # Errors
    ///
    /// The first payload that is not usable; [`Error::index`] says which.
    pub fn check(&self, payloads: &[impl AsRef<str>], default_source: Option<&Source>) -> Result<(), Error> {
        let payloads = strings(payloads);
        let source = default_source.cloned().map(Into::into);
        self.call("check payloads", |store, component| {
            component.insomnia_consolidation_staging().call_check(store, &payloads, source.as_ref())
        })
    }

    /// The ids of all files that are entries by name and type, oldest first. Does not read them.
    ///
    /// # Errors
    ///
    /// An I/O error while listing; a listing is never cut short.
    pub fn list(&self) -> Result<Vec<EntryId>, Error> {
        self.call("list the entries", |store, component| {
            component.insomnia_consolidation_staging().call_list(store)
        })
    }

    /// Reads one entry.
    ///
    /// # Errors
    ///
    /// No such entry, a file that is not usable as one, or an I/O error.
    pub fn read(&self, id: &str) -> Result<Entry, Error> {
        let id = id.to_owned();
        self.call("read an entry", |store, component| {
            component.insomnia_consolidation_staging().call_read(store, &id)
        })
        .map(Into::into)
    }

    /// Counts the entries, by names and types: a look at the directory, whatever is in the files. See
    /// [`Workspace::check_entries`] for the bytes and for files that are unusable by their content.
    ///
    /// # Errors
    ///
    /// An I/O error while listing.
    pub fn summarize(&self) -> Result<Summary, Error> {
        self.summarize_by(false)
    }

    /// Counts the usable entries and their bytes and names the unusable files. Reads every file.
    ///
    /// # Errors
    ///
    /// An I/O error while listing.
    pub fn check_entries(&self) -> Result<Summary, Error> {
        self.summarize_by(true)
    }

    fn summarize_by(&self, read: bool) -> Result<Summary, Error> {
        self.call("summarize the entries", |store, component| {
            component.insomnia_consolidation_staging().call_summarize(store, read)
        })
        .map(Into::into)
    }

    /// Takes a snapshot outside of a lock, to look at the entries. To consume what it names, use
    /// [`Lock::snapshot`].
    ///
    /// # Errors
    ///
    /// An I/O error while listing.
    pub fn snapshot(&self, limits: Limits) -> Result<Snapshot<'static>, Error> {
        Snapshot::of_workspace(&self.shared, limits)
    }

    /// Is it worth to run? None if all gates are open, else why not, in one sentence. Counts files that
    /// are entries by name and type and does not read them. What it says may not hold any more when the
    /// lock is taken: ask again then.
    ///
    /// # Errors
    ///
    /// An I/O error while listing.
    pub fn closed_gate(&self, gates: &Gates) -> Result<Option<String>, Error> {
        let gates = (*gates).into();
        self.call("look whether a run is due", |store, component| {
            component.insomnia_consolidation_staging().call_gate(store, gates)
        })
    }

    /// One memory record; none if there is none.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorCode::InvalidInput) if the name can't be one,
    /// [`Unusable`](crate::ErrorCode::Unusable) if its file can't be read as a record, or an I/O error.
    pub fn memory_record(&self, kind: &str, slug: &str) -> Result<Option<MemoryRecord>, Error> {
        let (kind, slug) = (kind.to_owned(), slug.to_owned());
        self.call("read a memory record", |store, component| {
            component.insomnia_consolidation_memory().call_get(store, &kind, &slug)
        })
        .map(|record| record.map(Into::into))
    }

    /// All memory records, or those of one kind.
    ///
    /// # Errors
    ///
    /// As [`Workspace::memory_record`].
    pub fn memory_records(&self, kind: Option<&str>) -> Result<RecordListing, Error> {
        let kind = kind.map(str::to_owned);
        self.call("list the memory records", |store, component| {
            component.insomnia_consolidation_memory().call_list(store, kind.as_deref())
        })
        .map(Into::into)
    }

    /// Reads updates from JSON Lines, one object a line; blank lines are passed over.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorCode::InvalidInput) with the index, from 0, of the line at fault
    /// ([`Error::index`]).
    pub fn parse_updates(&self, lines: &str) -> Result<Vec<Update>, Error> {
        let lines = lines.to_owned();
        self.call("read updates", |store, component| {
            component.insomnia_consolidation_memory().call_parse_updates(store, &lines)
        })
        .map(list)
    }

    /// The JSON Schema of one line of updates.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn update_schema(&self) -> Result<String, Error> {
        self.call("print the schema", |store, component| {
            component.insomnia_consolidation_memory().call_update_schema(store).map(Ok)
        })
    }

    /// Begins a draft that shows what updates would change, and changes nothing.
    ///
    /// # Errors
    ///
    /// Only a failure of the component.
    pub fn draft(&self, limits: UpdateLimits) -> Result<Draft<'static>, Error> {
        Draft::of_workspace(&self.shared, limits)
    }

    /// The entries in the quarantine, oldest first.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn quarantined(&self) -> Result<Vec<QuarantinedEntry>, Error> {
        self.call("list the quarantine", |store, component| {
            component.insomnia_consolidation_quarantine().call_list(store)
        })
        .map(list)
    }

    /// Stages entries of the quarantine again, with no attempts counted.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorCode::NotFound) with the index of the first that is not there; an I/O
    /// error. Those before it are staged.
    pub fn retry_quarantined(&self, ids: &[impl AsRef<str>]) -> Result<(), Error> {
        let (ids, durability) = (strings(ids), self.durability.into());
        self.call("stage entries of the quarantine", |store, component| {
            component.insomnia_consolidation_quarantine().call_retry(store, &ids, durability)
        })
    }

    /// Deletes entries of the quarantine for good.
    ///
    /// # Errors
    ///
    /// As [`Workspace::retry_quarantined`]; those before it are deleted.
    pub fn drop_quarantined(&self, ids: &[impl AsRef<str>]) -> Result<(), Error> {
        let ids = strings(ids);
        self.call("delete entries of the quarantine", |store, component| {
            component.insomnia_consolidation_quarantine().call_drop(store, &ids)
        })
    }

    /// The state of the lock. Changes nothing.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn lock_status(&self) -> Result<LockStatus, Error> {
        self.call("inspect the lock", |store, component| {
            component.insomnia_consolidation_lock().call_inspect(store)
        })
        .map(Into::into)
    }

    /// Takes the lock for a pod, with a lease of 60 seconds. See [`Workspace::acquire_with`].
    ///
    /// # Errors
    ///
    /// As [`Workspace::acquire_with`].
    pub fn acquire(&self, pod_name: &str) -> Result<Lock, Error> {
        self.acquire_with(&AcquireOptions::new(pod_name))
    }

    /// Takes the lock, or says who has it. A dead owner's lock is taken over. Waits about 2 seconds
    /// at the most for contenders, and 6 for an unreadable lock. After `InUse` wait a moment before the
    /// next try, as [`Workspace::acquire_within`] does: contenders that come back at once stand in
    /// each other's way.
    ///
    /// # Errors
    ///
    /// [`InUse`](crate::ErrorCode::InUse) if another owner holds it or may hold it
    /// ([`Error::owner`] says who), or an I/O error.
    pub fn acquire_with(&self, options: &AcquireOptions) -> Result<Lock, Error> {
        Lock::acquire(&self.shared, options, self.durability)
    }

    /// Removes a stale lock by the rules of [`Workspace::acquire_with`] and says what it removed; none
    /// if there was no lock. With `force` it is removed whoever holds it, and that is noted among the
    /// outcomes of runs, with the reason.
    ///
    /// # Errors
    ///
    /// [`InUse`](crate::ErrorCode::InUse) if the owner lives or may live and `force` is not set, or
    /// an I/O error.
    pub fn unlock(
        &self,
        options: impl Into<AcquireOptions>,
        force: bool,
        reason: Option<&str>,
    ) -> Result<Option<Takeover>, Error> {
        const OPERATION: &str = "remove the lock";
        let token = token()?;
        let options = lock_options(&options.into(), self.durability, &token);
        let removed = self
            .shared
            .call(OPERATION, Some(&token), |store, component| {
                component.insomnia_consolidation_lock().call_unlock(store, &options, force, reason)
            })?
            .map(Takeover::from);
        if let Some(takeover) = &removed {
            self.shared.report_takeover(takeover);
        }
        Ok(removed)
    }

    /// What is left over or out of order, sorted by kind and path. Changes nothing. Reads every entry.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn examine(&self) -> Result<Vec<Finding>, Error> {
        self.call("examine the workspace", |store, component| {
            component.insomnia_consolidation_doctor().call_examine(store)
        })
        .map(list)
    }

    /// Takes the lock, removes what is left over, releases the lock, and says of everything that was
    /// found whether it is mended.
    ///
    /// # Errors
    ///
    /// As [`Workspace::acquire_with`].
    pub fn mend(&self, options: &AcquireOptions) -> Result<Vec<Finding>, Error> {
        let token = token()?;
        let options = lock_options(options, self.durability, &token);
        self.shared
            .call("mend the workspace", Some(&token), |store, component| {
                component.insomnia_consolidation_doctor().call_mend(store, &options)
            })
            .map(list)
    }

    /// The runs of which something is known, the one that ended last first; at most so many, those that
    /// began last. Outcomes are kept for 30 days, and at most 10,000 of them.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn runs(&self, max: u32) -> Result<History, Error> {
        self.call("list the runs", |store, component| {
            component.insomnia_consolidation_runs().call_list(store, max)
        })
        .map(Into::into)
    }

    /// One run.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorCode::NotFound) if nothing is known of it,
    /// [`Unusable`](crate::ErrorCode::Unusable) if its outcome can't be read, or an I/O error.
    pub fn run(&self, id: &str) -> Result<Run, Error> {
        let id = id.to_owned();
        self.call("look at a run", |store, component| {
            component.insomnia_consolidation_runs().call_get(store, &id)
        })
        .map(Into::into)
    }

    /// The entries that a run took, oldest first. If it was consolidated they are consumed.
    ///
    /// # Errors
    ///
    /// As [`Workspace::run`].
    pub fn run_entries(&self, id: &str) -> Result<Vec<EntryId>, Error> {
        let id = id.to_owned();
        self.call("read the entries of a run", |store, component| {
            component.insomnia_consolidation_runs().call_entries(store, &id)
        })
    }

    /// The records that a run changed, by kind and slug.
    ///
    /// # Errors
    ///
    /// As [`Workspace::run`].
    pub fn run_changes(&self, id: &str) -> Result<Vec<ChangedRecord>, Error> {
        let id = id.to_owned();
        self.call("read the changes of a run", |store, component| {
            component.insomnia_consolidation_runs().call_changes(store, &id)
        })
        .map(list)
    }

    fn call<T: Send>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        self.shared.call(operation, None, call)
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Workspace")
            .field("root", &self.shared.root)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// One call in an instance of the pool. `token` is what the call may leave behind if it traps.
    pub(crate) fn call<T: Send>(
        &self,
        operation: &'static str,
        token: Option<&str>,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<T, Error> {
        let (instance, value) = self.call_and_keep(operation, token, call)?;
        self.check_in(instance);
        Ok(value)
    }

    /// As `call`, but the caller keeps the instance if the call succeeds.
    pub(crate) fn call_and_keep<T: Send>(
        &self,
        operation: &'static str,
        token: Option<&str>,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> Answer<T> + Send,
    ) -> Result<(Instance, T), Error> {
        let mut instance = self.check_out().map_err(|fault| self.report_fault(operation, fault))?;
        match instance.call(call) {
            Ok(Ok(value)) => Ok((instance, value)),
            Ok(Err(error)) => {
                self.check_in(instance);
                // A plain refusal leaves nothing. After anything else a flag may stand that could not be
                // removed just now, and it would count for as long as this process lives.
                if let Some(token) = token.filter(|_| error.code != types::ErrorCode::InUse) {
                    self.abandon(token);
                }
                Err(Error::guest_error(operation, &self.root, error))
            }
            Err(fault) => {
                drop(instance);
                let error = self.report_fault(operation, fault);
                if let Some(token) = token {
                    self.abandon(token);
                }
                Err(error)
            }
        }
    }

    fn check_out(&self) -> Result<Instance, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        match idle {
            Some(instance) => Ok(instance),
            None => Instance::new(&self.runtime, &self.directory, &self.peak_memory),
        }
    }

    /// Takes back an instance whose last call came to its end. It must hold no resources.
    pub(crate) fn check_in(&self, instance: Instance) {
        if !instance.is_reusable() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(instance);
        }
    }

    /// Clears the flag and the lock that an instance left behind. It must be gone already: a guest's
    /// destructors don't run when it traps, and to everybody else its flag would look like that of a
    /// live owner for as long as this process lives.
    pub(crate) fn abandon(&self, token: &str) {
        const OPERATION: &str = "clear an abandoned lock";
        let abandoned =
            Instance::new(&self.runtime.with_default_limits(), &self.directory, &self.peak_memory)
                .and_then(|mut instance| {
                    instance.call(|store, component| {
                        component.insomnia_consolidation_lock().call_abandon(store, token)
                    })
                })
                .map_err(|fault| self.report_fault(OPERATION, fault))
                .and_then(|cleared| {
                    cleared.map_err(|error| Error::guest_error(OPERATION, &self.root, error))
                });
        match abandoned {
            Ok(true) => tracing::warn!(
                root = %self.root.display(),
                "cleared the lock that a failed call left behind; the entries stay"
            ),
            Ok(false) => {}
            Err(error) => tracing::warn!(
                root = %self.root.display(),
                %error,
                "could not clear the lock that a failed call left behind; it may stay for as long as this process lives"
            ),
        }
    }

    pub(crate) fn report_fault(&self, operation: &'static str, fault: Fault) -> Error {
        let error = fault.into_error(operation, &self.root);
        tracing::warn!(
            root = %self.root.display(),
            operation,
            %error,
            "a call did not come to its end; its instance is dropped"
        );
        error
    }

    pub(crate) fn report_recovered(&self, recovered: &[RecoveredRun]) {
        let root = self.root.display();
        for run in recovered {
            tracing::warn!(
                %root,
                run = run.id,
                pod = run.owner.pod_name,
                pid = run.owner.pid,
                outcome = run.ending.as_str(),
                removed = run.removed,
                not_deleted = run.failed.len(),
                note = run.note,
                "went on with a run that its owner had left unfinished"
            );
        }
    }

    pub(crate) fn report_takeover(&self, takeover: &Takeover) {
        let root = self.root.display();
        match takeover {
            Takeover::Stale(stale) => tracing::warn!(
                %root,
                stale_pid = stale.owner.pid,
                stale_pod = stale.owner.pod_name,
                started_at = stale.owner.started_at,
                reason = stale.reason,
                "removed the lock of a dead owner"
            ),
            Takeover::Unreadable(lock) => tracing::warn!(
                %root,
                reason = lock.reason,
                content = lock.content,
                "removed an unreadable lock"
            ),
            Takeover::Forced(forced) => tracing::warn!(
                %root,
                owner_pid = forced.owner.pid,
                owner_pod = forced.owner.pod_name,
                started_at = forced.owner.started_at,
                reason = forced.reason,
                "removed by force the lock of an owner that is not proved to be dead"
            ),
        }
    }
}

/// A fresh token. The host picks it, so that it can clear what the guest leaves behind in a trap.
pub(crate) fn token() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::engine("draw a lock token", error))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

pub(crate) fn lock_options(how: &AcquireOptions, durability: Durability, token: &str) -> lock::Options {
    lock::Options {
        pod_name: how.pod_name.clone(),
        lease_seconds: how.lease.map(whole_seconds),
        token: Some(token.to_owned()),
        durability: durability.into(),
        coexist: how.coexist,
    }
}

/// A lease as the record states it: rounded up, at least 1.
pub(crate) fn whole_seconds(lease: Duration) -> u32 {
    let seconds = lease.as_secs().saturating_add(u64::from(lease.subsec_nanos() > 0));
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

pub(crate) fn strings(items: &[impl AsRef<str>]) -> Vec<String> {
    items.iter().map(|item| item.as_ref().to_owned()).collect()
}
