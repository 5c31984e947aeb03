//! The exports of the component: conversions between the WIT types and the rules, and nothing else.
//! Invariant: no export panics; a trap would take the instance and every handle in it along.

use crate::doctor::{Finding, FindingKind};
use crate::durable::Durability;
use crate::entry::Source;
use crate::error::{Error, ErrorCode, Owner, Result};
use crate::gate::Gates;
use crate::layout::{EntryId, LOCK_PATH, RunId, Token, runs_path};
use crate::lock::{AcquireOptions, Held, Holder, ReleaseReport, Status, Takeover};
use crate::memory::draft::Draft;
use crate::memory::{self, Origin, Record, RecordListing, Status as RecordStatus, Update, UpdateLimits};
use crate::order;
use crate::outcome::{ChangedRecord, Ending};
use crate::prelude::*;
use crate::quarantine::{Attempt, Quarantined};
use crate::record::LockRecord;
use crate::runs::{Past, Recovered};
use crate::runtime::Single;
use crate::staging::{Entry, Limits, Snapshot, UnusableFile};
use crate::system::{Scope, System};
use crate::wasi::{WasiDir, WasiSystem};
use crate::workspace::Workspace;
use core::cell::{OnceCell, RefCell};

use crate::bindings::exports::insomnia::consolidation::{
    doctor as wit_doctor, lock as wit_lock, memory as wit_memory, quarantine as wit_quarantine,
    runs as wit_runs, staging as wit_staging,
};
use crate::bindings::insomnia::consolidation::{process, types as wit};

/// What the bindings call.
pub(crate) struct Component;

/// The workspace, opened by the first call.
static WORKSPACE: Single<OnceCell<Workspace<WasiDir, WasiSystem>>> = Single::new(OnceCell::new());

fn workspace() -> Result<&'static Workspace<WasiDir, WasiSystem>> {
    if let Some(workspace) = WORKSPACE.get() {
        return Ok(workspace);
    }
    let root = WasiDir::root().map_err(|error| Error::io("open the workspace root", ".", &error))?;
    Ok(WORKSPACE.get_or_init(|| Workspace::new(root, WasiSystem)))
}

/// What an export returns.
type Told<T, E = wit::Error> = core::result::Result<T, E>;

/// What comes of a call: all its errors become those of the WIT types in one place.
fn told<T, E: From<Error>>(work: impl FnOnce() -> Result<T>) -> Told<T, E> {
    work().map_err(E::from)
}

/// A snapshot and where it has been read to.
pub(crate) struct SnapshotState(RefCell<Snapshot<WasiDir>>);

/// A held lock.
pub(crate) struct HeldState(RefCell<Held<WasiDir, WasiSystem>>);

impl wit_staging::Guest for Component {
    type Snapshot = SnapshotState;

    fn check(payloads: Vec<String>, default_source: Option<wit_staging::Source>) -> Told<()> {
        told(|| {
            let source = default_source.map(Source::from);
            workspace()?.check_payloads(&payloads, source.as_ref())
        })
    }

    fn write(
        payload: String,
        default_source: Option<wit_staging::Source>,
        durability: wit::Durability,
    ) -> Told<String> {
        told(|| {
            let source = default_source.map(Source::from);
            let ids = workspace()?.stage(&[payload], source.as_ref(), durability.into())?;
            match ids.first() {
                Some(id) => Ok(id.text()),
                None => Err(Error::new(ErrorCode::Internal, "one payload gave no id")),
            }
        })
    }

    fn write_many(
        payloads: Vec<String>,
        default_source: Option<wit_staging::Source>,
        durability: wit::Durability,
    ) -> Told<Vec<String>, wit_staging::WriteError> {
        told(|| {
            let source = default_source.map(Source::from);
            let ids = workspace()?.stage(&payloads, source.as_ref(), durability.into())?;
            Ok(texts(&ids))
        })
    }

    fn list() -> Told<Vec<String>> {
        told(|| Ok(texts(&workspace()?.entry_ids()?)))
    }

    fn read(id: String) -> Told<wit_staging::Entry> {
        told(|| Ok(workspace()?.read_entry(entry_id(&id)?)?.into()))
    }

    fn summarize(read: bool) -> Told<wit_staging::Summary> {
        told(|| {
            let workspace = workspace()?;
            let summary = if read { workspace.check_entries() } else { workspace.summarize() }?;
            Ok(wit_staging::Summary {
                entries: summary.entries,
                bytes: summary.bytes,
                oldest_ms: summary.oldest_ms,
                now_ms: workspace.system().now().millis(),
                unusable_count: summary.unusable_count,
                unusable: unusable(&summary.unusable),
                consumed: summary.consumed,
                quarantined: summary.quarantined,
            })
        })
    }

    fn gate(gates: wit_staging::Gates) -> Told<Option<String>> {
        told(|| {
            let gates = Gates {
                min_entries: gates.min_entries,
                min_bytes: gates.min_bytes,
                min_age_ms: gates.min_age_ms,
                min_interval_ms: gates.min_interval_ms,
            };
            workspace()?.closed_gate(&gates)
        })
    }

    fn take_snapshot(limits: wit_staging::Limits, skip: Vec<String>) -> Told<wit_staging::Snapshot> {
        told(|| {
            let snapshot = workspace()?.take_snapshot_without(limits.into(), &entry_ids(&skip)?)?;
            Ok(wit_staging::Snapshot::new(SnapshotState(RefCell::new(snapshot))))
        })
    }
}

impl wit_staging::GuestSnapshot for SnapshotState {
    fn len(&self) -> u64 {
        self.0.borrow().ids().len() as u64
    }

    fn left(&self) -> u64 {
        self.0.borrow().left()
    }

    fn ids(&self) -> Vec<String> {
        texts(self.0.borrow().ids())
    }

    fn unusable(&self) -> Vec<wit::UnusableFile> {
        unusable(self.0.borrow().unusable())
    }

    fn next(&self, max_entries: u32, max_bytes: u64) -> Told<wit_staging::Batch> {
        told(|| {
            let mut snapshot = self.0.borrow_mut();
            snapshot.fill()?;
            let batch = snapshot.next_batch(max_entries, max_bytes);
            Ok(wit_staging::Batch {
                entries: batch.entries.into_iter().map(Into::into).collect(),
                unusable: unusable(&batch.unusable),
                done: batch.done,
            })
        })
    }

    fn keep(&self, ids: Vec<String>) -> Told<()> {
        told(|| {
            self.0.borrow_mut().keep(&entry_ids(&ids)?);
            Ok(())
        })
    }

    fn put_back(&self, count: u32) {
        self.0.borrow_mut().put_back(usize::try_from(count).unwrap_or(usize::MAX));
    }

    fn advance(&self, limits: wit_staging::Limits, goes_on: bool) -> Told<()> {
        told(|| self.0.borrow_mut().advance(limits.into(), goes_on))
    }
}

impl wit_lock::Guest for Component {
    type Held = HeldState;

    fn acquire(options: wit_lock::Options) -> Told<wit_lock::Acquired> {
        told(|| {
            let (held, took_over) = workspace()?.acquire(&acquire_options(options)?)?;
            let recovered = held.recovered().iter().map(Into::into).collect();
            Ok(wit_lock::Acquired {
                recovered,
                path: LOCK_PATH.to_owned(),
                lock: wit_lock::Held::new(HeldState(RefCell::new(held))),
                took_over: took_over.map(Into::into),
            })
        })
    }

    fn inspect() -> Told<wit_lock::Status> {
        told(|| {
            Ok(match workspace()?.lock_status()? {
                Status::Free => wit_lock::Status::Free,
                Status::Held(holder) => wit_lock::Status::Held(holder.into()),
                Status::Unknown(holder) => wit_lock::Status::Unknown(holder.into()),
                Status::Stale(holder) => wit_lock::Status::Stale(holder.into()),
                Status::Blocked(path, reason) => {
                    wit_lock::Status::Blocked(wit_lock::BlockedLock { path: path.into(), reason })
                }
                Status::Unreadable(reason, content) => {
                    wit_lock::Status::Unreadable(wit_lock::UnreadableLock { reason, content })
                }
            })
        })
    }

    fn unlock(
        options: wit_lock::Options,
        force: bool,
        reason: Option<String>,
    ) -> Told<Option<wit_lock::Takeover>> {
        told(|| {
            let removed = workspace()?.unlock(&acquire_options(options)?, force, reason.as_deref())?;
            Ok(removed.map(Into::into))
        })
    }

    fn abandon(token: String) -> Told<bool> {
        told(|| workspace()?.abandon(parse_token(&token)?))
    }
}

impl wit_lock::GuestHeld for HeldState {
    fn record(&self) -> wit_lock::LockRecord {
        self.0.borrow().record().into()
    }

    fn run(&self) -> Option<String> {
        self.0.borrow().record().run_id.clone()
    }

    fn record_consumed(&self, ids: Vec<String>) -> Told<()> {
        told(|| {
            let ids = entry_ids(&ids)?;
            workspace()?.record_consumed(&mut self.0.borrow_mut(), ids)
        })
    }

    fn record_snapshot(&self, snapshot: wit_lock::SnapshotBorrow<'_>) -> Told<()> {
        told(|| {
            let mut snapshot = snapshot.get::<SnapshotState>().0.borrow_mut();
            workspace()?.record_snapshot(&mut self.0.borrow_mut(), &mut snapshot)
        })
    }

    fn take_draft(&self, draft: wit_lock::DraftBorrow<'_>) -> Told<()> {
        told(|| {
            let changes = draft.get::<DraftState>().0.borrow_mut().take();
            self.0.borrow_mut().take_changes(changes)
        })
    }

    fn record_failures(
        &self,
        failures: Vec<wit_quarantine::EntryFailure>,
        max_attempts: u32,
    ) -> Told<Vec<wit_quarantine::Attempt>> {
        told(|| {
            let (ids, reasons): (Vec<String>, Vec<String>) =
                failures.into_iter().map(|failure| (failure.id, failure.reason)).unzip();
            let failures: Vec<_> = entry_ids(&ids)?.into_iter().zip(reasons).collect();
            let attempts = self.0.borrow_mut().record_failures(&failures, max_attempts)?;
            Ok(attempts.into_iter().map(Into::into).collect())
        })
    }

    fn undo(&self, run: String) -> Told<String> {
        told(|| Ok(self.0.borrow_mut().undo(run_id(&run)?)?.text()))
    }

    fn record_command_group(&self, pgid: Option<u32>) -> Told<()> {
        told(|| workspace()?.record_command_group(&mut self.0.borrow_mut(), pgid))
    }

    fn clean_up(&self, max_entries: u32) -> Told<wit_lock::ReleaseReport> {
        told(|| Ok(self.0.borrow_mut().clean_up(max_entries)?.into()))
    }

    fn refresh(&self) -> Told<()> {
        told(|| self.0.borrow().refresh())
    }

    fn release_with_cleanup(lock: wit_lock::Held) -> Told<wit_lock::ReleaseReport> {
        told(|| {
            let report = lock.into_inner::<HeldState>().0.into_inner().release_with_cleanup()?;
            Ok(report.into())
        })
    }

    fn release_only(lock: wit_lock::Held, reason: Option<String>) -> Told<wit_lock::ReleaseReport> {
        told(|| {
            let report = lock.into_inner::<HeldState>().0.into_inner().release_only(reason.as_deref())?;
            Ok(report.into())
        })
    }
}

impl wit_runs::Guest for Component {
    fn list(max: u32) -> Told<wit_runs::History> {
        told(|| {
            let (past, unreadable) = workspace()?.past_runs(usize::try_from(max).unwrap_or(usize::MAX))?;
            Ok(wit_runs::History {
                runs: past.into_iter().map(Into::into).collect(),
                unreadable: unreadable
                    .into_iter()
                    .map(|(run, reason)| wit_runs::UnreadableRun { id: run.text(), reason })
                    .collect(),
            })
        })
    }

    fn get(id: String) -> Told<wit_runs::Run> {
        told(|| Ok(past_run(&id)?.into()))
    }

    fn entries(id: String) -> Told<Vec<String>> {
        told(|| Ok(texts(&past_run(&id)?.outcome.entry_ids)))
    }

    fn changes(id: String) -> Told<Vec<wit_runs::ChangedRecord>> {
        told(|| {
            let convert = |change: ChangedRecord| {
                let ChangedRecord { kind, slug, created, removed } = change;
                wit_runs::ChangedRecord { kind, slug, created, removed }
            };
            let mut changes: Vec<_> = past_run(&id)?.outcome.changes.into_iter().map(convert).collect();
            order::sort_by(&mut changes, |one, other| {
                (&one.kind, &one.slug).cmp(&(&other.kind, &other.slug))
            });
            Ok(changes)
        })
    }
}

/// A draft.
pub(crate) struct DraftState(RefCell<Draft>);

impl wit_memory::Guest for Component {
    type Draft = DraftState;

    fn get(kind: String, slug: String) -> Told<Option<wit_memory::MemoryRecord>> {
        told(|| Ok(workspace()?.memory_record(&kind, &slug)?.map(Into::into)))
    }

    fn list(kind: Option<String>) -> Told<wit_memory::Listing> {
        told(|| Ok(workspace()?.memory_records(kind.as_deref())?.into()))
    }

    fn parse_updates(lines: String) -> Told<Vec<wit_memory::Update>> {
        told(|| Ok(memory::update::parse_lines(&lines)?.into_iter().map(Into::into).collect()))
    }

    fn update_schema() -> String {
        memory::update::SCHEMA.to_owned()
    }
}

impl wit_memory::GuestDraft for DraftState {
    fn new(limits: wit_memory::UpdateLimits) -> Self {
        let wit_memory::UpdateLimits { max_updates, max_update_bytes } = limits;
        DraftState(RefCell::new(Draft::new(UpdateLimits { max_updates, max_update_bytes })))
    }

    fn get(&self, kind: String, slug: String) -> Told<Option<wit_memory::MemoryRecord>> {
        told(|| Ok(self.0.borrow_mut().record(workspace()?, &kind, &slug)?.map(Into::into)))
    }

    fn list(&self, kind: Option<String>) -> Told<wit_memory::Listing> {
        told(|| Ok(self.0.borrow().records(workspace()?, kind.as_deref())?.into()))
    }

    fn watch(&self) -> Told<()> {
        told(|| self.0.borrow_mut().watch(workspace()?))
    }

    fn propose(&self, origins: Vec<wit_memory::Origin>, updates: Vec<wit_memory::Update>) -> Told<()> {
        told(|| {
            let origin = |origin: wit_memory::Origin| -> Result<Origin> {
                Ok(Origin { id: entry_id(&origin.id)?, source: origin.source.into() })
            };
            let origins = origins.into_iter().map(origin).collect::<Result<Vec<_>>>()?;
            let updates: Vec<Update> = updates.into_iter().map(Into::into).collect();
            self.0.borrow_mut().propose(workspace()?, &origins, &updates)
        })
    }

    fn len(&self) -> u32 {
        u32::try_from(self.0.borrow().len()).unwrap_or(u32::MAX)
    }

    fn size(&self) -> u64 {
        self.0.borrow().size()
    }

    fn change(&self, index: u32) -> Option<wit_memory::Change> {
        let draft = self.0.borrow();
        let change = draft.change(usize::try_from(index).ok()?)?;
        Some(wit_memory::Change {
            kind: change.name.kind().to_owned(),
            slug: change.name.slug().to_owned(),
            before: change.before.clone(),
            after: change.after.clone(),
        })
    }
}

impl wit_quarantine::Guest for Component {
    fn list() -> Told<Vec<wit_quarantine::QuarantinedEntry>> {
        told(|| Ok(workspace()?.quarantined()?.into_iter().map(Into::into).collect()))
    }

    fn retry(ids: Vec<String>, durability: wit::Durability) -> Told<()> {
        told(|| workspace()?.retry_quarantined(&entry_ids(&ids)?, durability.into()))
    }

    fn drop(ids: Vec<String>) -> Told<()> {
        told(|| workspace()?.drop_quarantined(&entry_ids(&ids)?))
    }
}

impl wit_doctor::Guest for Component {
    fn examine() -> Told<Vec<wit_doctor::Finding>> {
        told(|| Ok(workspace()?.examine()?.into_iter().map(Into::into).collect()))
    }

    fn mend(options: wit_lock::Options) -> Told<Vec<wit_doctor::Finding>> {
        told(|| {
            let findings = workspace()?.mend(&acquire_options(options)?)?;
            Ok(findings.into_iter().map(Into::into).collect())
        })
    }
}

fn run_id(id: &str) -> Result<RunId> {
    RunId::parse(id).ok_or_else(|| {
        let message = format!("{id:?} is no id of a run: a UUIDv7 in lower case with hyphens is");
        Error::new(ErrorCode::InvalidInput, message)
    })
}

fn past_run(id: &str) -> Result<Past> {
    let run = run_id(id)?;
    workspace()?.past_run(run)?.ok_or_else(|| {
        let path = runs_path(&run.file_name());
        Error::new(ErrorCode::NotFound, format!("there is no outcome {path}")).at(path)
    })
}

fn texts(ids: &[EntryId]) -> Vec<String> {
    ids.iter().map(EntryId::to_string).collect()
}

fn unusable(files: &[UnusableFile]) -> Vec<wit::UnusableFile> {
    let convert =
        |file: &UnusableFile| wit::UnusableFile { name: file.name.clone(), reason: file.reason.clone() };
    files.iter().map(convert).collect()
}

fn entry_id(text: &str) -> Result<EntryId> {
    EntryId::parse(text).ok_or_else(|| {
        let message = format!("{text:?} is no id of an entry: a UUIDv7 in lower case with hyphens is");
        Error::new(ErrorCode::InvalidInput, message)
    })
}

/// Ids of entries; an error has the index of the first that is none.
fn entry_ids(texts: &[String]) -> Result<Vec<EntryId>> {
    let parse = |(index, id): (usize, &String)| entry_id(id).map_err(|error| error.at_index(index));
    texts.iter().enumerate().map(parse).collect()
}

fn parse_token(text: &str) -> Result<Token> {
    Token::parse(text).ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidInput,
            format!("{text:?} is no token: 32 lower-case hexadecimal digits are"),
        )
    })
}

fn acquire_options(options: wit_lock::Options) -> Result<AcquireOptions> {
    Ok(AcquireOptions {
        pod_name: options.pod_name,
        lease_seconds: options.lease_seconds,
        token: options.token.as_deref().map(parse_token).transpose()?,
        durability: options.durability.into(),
        coexist: options.coexist,
    })
}

impl From<wit_staging::Source> for Source {
    fn from(source: wit_staging::Source) -> Self {
        Source { segment_id: source.segment_id, start: source.start, end: source.end }
    }
}

impl From<wit_staging::Limits> for Limits {
    fn from(limits: wit_staging::Limits) -> Self {
        Limits { max_entries: limits.max_entries, max_bytes: limits.max_bytes }
    }
}

impl From<wit::Durability> for Durability {
    fn from(durability: wit::Durability) -> Self {
        match durability {
            wit::Durability::Full => Durability::Full,
            wit::Durability::None => Durability::None,
        }
    }
}

impl From<Entry> for wit_staging::Entry {
    fn from(entry: Entry) -> Self {
        let Source { segment_id, start, end } = entry.source;
        wit_staging::Entry {
            id: entry.id.text(),
            json: entry.json,
            bytes: entry.bytes,
            staged_at_ms: entry.id.millis(),
            source: wit_staging::Source { segment_id, start, end },
        }
    }
}

impl From<Owner> for wit::Owner {
    fn from(owner: Owner) -> Self {
        wit::Owner { pid: owner.pid, pod_name: owner.pod_name, started_at: owner.started_at }
    }
}

impl From<Holder> for wit_lock::Holder {
    fn from(holder: Holder) -> Self {
        wit_lock::Holder {
            owner: holder.owner.into(),
            consumed_count: holder.consumed,
            reason: holder.reason,
        }
    }
}

impl From<Takeover> for wit_lock::Takeover {
    fn from(takeover: Takeover) -> Self {
        match takeover {
            Takeover::Stale(owner, reason) => {
                wit_lock::Takeover::Stale(wit_lock::StaleOwner { owner: owner.into(), reason })
            }
            Takeover::Forced(owner, reason) => {
                wit_lock::Takeover::Forced(wit_lock::StaleOwner { owner: owner.into(), reason })
            }
            Takeover::Unreadable(reason, content) => {
                wit_lock::Takeover::Unreadable(wit_lock::UnreadableLock { reason, content })
            }
        }
    }
}

impl From<ReleaseReport> for wit_lock::ReleaseReport {
    fn from(report: ReleaseReport) -> Self {
        wit_lock::ReleaseReport {
            removed: report.removed,
            missing: report.missing,
            left: report.left,
            lost: report.lost,
            failed: failed(&report.failed),
            note: report.note,
        }
    }
}

fn failed(failed: &[(EntryId, String)]) -> Vec<wit_runs::FailedDelete> {
    let convert =
        |(id, reason): &(EntryId, String)| wit_runs::FailedDelete { id: id.text(), reason: reason.clone() };
    failed.iter().map(convert).collect()
}

impl From<Ending> for wit_runs::Ending {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Consolidated => wit_runs::Ending::Consolidated,
            Ending::Failed => wit_runs::Ending::Failed,
            Ending::Aborted => wit_runs::Ending::Aborted,
            Ending::Unlocked => wit_runs::Ending::Unlocked,
            Ending::Undone => wit_runs::Ending::Undone,
        }
    }
}

impl From<Finding> for wit_doctor::Finding {
    fn from(finding: Finding) -> Self {
        let Finding { kind, path, detail, mendable, mended } = finding;
        let kind = match kind {
            FindingKind::StaleLock => wit_doctor::FindingKind::StaleLock,
            FindingKind::UnreadableLock => wit_doctor::FindingKind::UnreadableLock,
            FindingKind::LockAside => wit_doctor::FindingKind::LockAside,
            FindingKind::DeadFlag => wit_doctor::FindingKind::DeadFlag,
            FindingKind::Temporary => wit_doctor::FindingKind::Temporary,
            FindingKind::OrphanNote => wit_doctor::FindingKind::OrphanNote,
            FindingKind::UnfinishedRun => wit_doctor::FindingKind::UnfinishedRun,
            FindingKind::OldOutcome => wit_doctor::FindingKind::OldOutcome,
            FindingKind::UnreadableOutcome => wit_doctor::FindingKind::UnreadableOutcome,
            FindingKind::UnusableEntry => wit_doctor::FindingKind::UnusableEntry,
            FindingKind::UnreadableRecord => wit_doctor::FindingKind::UnreadableRecord,
            FindingKind::DoubtfulRecord => wit_doctor::FindingKind::DoubtfulRecord,
            FindingKind::KeptEdit => wit_doctor::FindingKind::KeptEdit,
            FindingKind::Foreign => wit_doctor::FindingKind::Foreign,
        };
        wit_doctor::Finding { kind, path, detail, mendable, mended }
    }
}

impl From<Past> for wit_runs::Run {
    fn from(Past { run, outcome, pending }: Past) -> Self {
        wit_runs::Run {
            id: run.text(),
            ending: outcome.outcome.into(),
            owner: outcome.owner().into(),
            entry_count: outcome.entry_ids.len() as u64,
            change_count: outcome.changes.len() as u64,
            undoes: outcome.undoes.clone(),
            ended_at: outcome.ended_at,
            ended_by: outcome.ended_by.map(|by| wit::Owner {
                pid: by.pid,
                pod_name: by.pod_name,
                started_at: String::new(),
            }),
            reason: outcome.reason,
            pending,
        }
    }
}

impl From<&Recovered> for wit_runs::RecoveredRun {
    fn from(recovered: &Recovered) -> Self {
        wit_runs::RecoveredRun {
            id: recovered.run.text(),
            ending: recovered.ending.into(),
            owner: recovered.owner.clone().into(),
            removed: recovered.removed,
            failed: failed(&recovered.failed),
            note: recovered.note.clone(),
        }
    }
}

impl From<&Scope> for process::Scope {
    fn from(scope: &Scope) -> Self {
        process::Scope {
            machine: scope.machine.clone(),
            boot: scope.boot.clone(),
            pid_namespace: scope.pid_namespace.clone(),
        }
    }
}

impl From<&LockRecord> for wit_lock::LockRecord {
    fn from(record: &LockRecord) -> Self {
        wit_lock::LockRecord {
            pid: record.pid,
            pod_name: record.pod_name.clone(),
            started_at: record.started_at.clone(),
            consumed_ids: record.consumed_ids.texts(),
            token: record.token.clone(),
            process_start: record.process_start.clone(),
            scope: record.scope.as_ref().map(Into::into),
            lease_seconds: record.lease_seconds,
            command_group: record.command_group,
            run_id: record.run_id.clone(),
        }
    }
}

impl From<Error> for wit::Error {
    #[cold]
    #[inline(never)]
    fn from(error: Error) -> Self {
        let error = error.into_failure();
        wit::Error {
            code: match error.code {
                ErrorCode::InUse => wit::ErrorCode::InUse,
                ErrorCode::LockLost => wit::ErrorCode::LockLost,
                ErrorCode::InvalidInput => wit::ErrorCode::InvalidInput,
                ErrorCode::NotFound => wit::ErrorCode::NotFound,
                ErrorCode::Unusable => wit::ErrorCode::Unusable,
                ErrorCode::WrongFileType => wit::ErrorCode::WrongFileType,
                ErrorCode::PermissionDenied => wit::ErrorCode::PermissionDenied,
                ErrorCode::ReadOnly => wit::ErrorCode::ReadOnly,
                ErrorCode::NoSpace => wit::ErrorCode::NoSpace,
                ErrorCode::Unsupported => wit::ErrorCode::Unsupported,
                ErrorCode::Io => wit::ErrorCode::Io,
                ErrorCode::Conflict => wit::ErrorCode::Conflict,
                ErrorCode::Internal => wit::ErrorCode::Internal,
            },
            message: error.message,
            path: error.path,
            owner: error.owner.map(Into::into),
            index: error.index,
        }
    }
}

impl From<Error> for wit_staging::WriteError {
    fn from(error: Error) -> Self {
        wit_staging::WriteError { staged: texts(&error.staged), error: error.into() }
    }
}

impl From<Source> for wit_staging::Source {
    fn from(source: Source) -> Self {
        let Source { segment_id, start, end } = source;
        wit_staging::Source { segment_id, start, end }
    }
}

impl From<Record> for wit_memory::MemoryRecord {
    fn from(record: Record) -> Self {
        wit_memory::MemoryRecord {
            kind: record.name.kind().to_owned(),
            slug: record.name.slug().to_owned(),
            title: record.title,
            status: record.status,
            sources: record.sources.into_iter().map(Into::into).collect(),
            created: record.created,
            updated: record.updated,
            replaced_by: record.replaced_by,
            body: record.body,
        }
    }
}

impl From<RecordListing> for wit_memory::Listing {
    fn from(listing: RecordListing) -> Self {
        let head = |record: Record| wit_memory::RecordHead {
            kind: record.name.kind().to_owned(),
            slug: record.name.slug().to_owned(),
            title: record.title,
            status: record.status,
            updated: record.updated,
        };
        let unreadable = |(path, reason)| wit_memory::UnreadableRecord { path, reason };
        wit_memory::Listing {
            records: listing.records.into_iter().map(head).collect(),
            unreadable: listing.unreadable.into_iter().map(unreadable).collect(),
        }
    }
}

impl From<wit_memory::Update> for Update {
    fn from(update: wit_memory::Update) -> Self {
        Update {
            kind: update.kind,
            slug: update.slug,
            title: update.title,
            body: update.body,
            status: update.status.map(|status| match status {
                wit_memory::RecordStatus::Active => RecordStatus::Active,
                wit_memory::RecordStatus::Replaced => RecordStatus::Replaced,
                wit_memory::RecordStatus::Retired => RecordStatus::Retired,
            }),
            replaced_by: update.replaced_by,
            entries: update.entries,
        }
    }
}

impl From<Update> for wit_memory::Update {
    fn from(update: Update) -> Self {
        wit_memory::Update {
            kind: update.kind,
            slug: update.slug,
            title: update.title,
            body: update.body,
            status: update.status.map(|status| match status {
                RecordStatus::Active => wit_memory::RecordStatus::Active,
                RecordStatus::Replaced => wit_memory::RecordStatus::Replaced,
                RecordStatus::Retired => wit_memory::RecordStatus::Retired,
            }),
            replaced_by: update.replaced_by,
            entries: update.entries,
        }
    }
}

impl From<Attempt> for wit_quarantine::Attempt {
    fn from(attempt: Attempt) -> Self {
        let Attempt { id, attempts, quarantined } = attempt;
        wit_quarantine::Attempt { id: id.text(), attempts, quarantined }
    }
}

impl From<Quarantined> for wit_quarantine::QuarantinedEntry {
    fn from(entry: Quarantined) -> Self {
        let Quarantined { id, reason, attempts, since, bytes } = entry;
        wit_quarantine::QuarantinedEntry { id: id.text(), reason, attempts, since, bytes }
    }
}
