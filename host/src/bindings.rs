//! The bindings that wasmtime generates from the WIT package, and the conversions between their
//! types and the public ones. Invariant: every conversion is total; the meaning of a value is
//! decided on neither side of it.

use crate::types as plain;

#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    dead_code,
    reason = "generated from the documented WIT files, and private to this crate"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "consolidation",
    });
}

pub(crate) use generated::exports::insomnia::consolidation::{
    doctor, lock, memory, quarantine, runs, staging,
};
pub(crate) use generated::insomnia::consolidation::{process, types};
pub(crate) use generated::{Consolidation, ConsolidationPre};

/// The value of a record with the same fields in the other of the two type families.
macro_rules! convert {
    ($from:path => $to:path { $($field:ident),* $(,)? }) => {
        impl From<$from> for $to {
            fn from(value: $from) -> Self {
                Self { $($field: value.$field.into()),* }
            }
        }
    };
}

convert!(types::Owner => plain::Owner { pid, pod_name, started_at });
convert!(types::UnusableFile => plain::UnusableFile { name, reason });
convert!(staging::Source => plain::Source { segment_id, start, end });
convert!(staging::Entry => plain::Entry { id, json, bytes, staged_at_ms, source });
convert!(plain::Source => staging::Source { segment_id, start, end });
convert!(plain::Limits => staging::Limits { max_entries, max_bytes });
convert!(process::Scope => plain::Scope { machine, boot, pid_namespace });
convert!(lock::StaleOwner => plain::StaleOwner { owner, reason });
convert!(lock::UnreadableLock => plain::UnreadableLock { reason, content });
convert!(lock::BlockedLock => plain::BlockedLock { path, reason });
convert!(lock::Holder => plain::Holder { owner, consumed_count, reason });
convert!(doctor::Finding => plain::Finding { kind, path, detail, mendable, mended });
convert!(runs::FailedDelete => plain::FailedDelete { id, reason });
convert!(runs::UnreadableRun => plain::UnreadableRun { id, reason });
convert!(runs::ChangedRecord => plain::ChangedRecord { kind, slug, created, removed });
convert!(memory::RecordHead => plain::RecordHead { kind, slug, title, status, updated });
convert!(memory::UnreadableRecord => plain::UnreadableRecord { path, reason });
convert!(memory::Change => plain::Change { kind, slug, before, after });
convert!(plain::UpdateLimits => memory::UpdateLimits { max_updates, max_update_bytes });
convert!(plain::EntryFailure => quarantine::EntryFailure { id, reason });
convert!(quarantine::Attempt => plain::Attempt { id, attempts, quarantined });
convert!(quarantine::QuarantinedEntry => plain::QuarantinedEntry { id, reason, attempts, since, bytes });

/// A list, item by item.
pub(crate) fn list<A: Into<B>, B>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(Into::into).collect()
}

impl From<staging::Summary> for plain::Summary {
    fn from(summary: staging::Summary) -> Self {
        Self {
            entries: summary.entries,
            bytes: summary.bytes,
            oldest_ms: summary.oldest_ms,
            now_ms: summary.now_ms,
            unusable_count: summary.unusable_count,
            unusable: list(summary.unusable),
            consumed: summary.consumed,
            quarantined: summary.quarantined,
        }
    }
}

impl From<staging::Batch> for plain::Batch {
    fn from(batch: staging::Batch) -> Self {
        Self { entries: list(batch.entries), unusable: list(batch.unusable), done: batch.done }
    }
}

impl From<lock::LockRecord> for plain::LockRecord {
    fn from(record: lock::LockRecord) -> Self {
        Self {
            pid: record.pid,
            pod_name: record.pod_name,
            started_at: record.started_at,
            consumed_ids: record.consumed_ids,
            token: record.token,
            process_start: record.process_start,
            scope: record.scope.map(Into::into),
            lease_seconds: record.lease_seconds,
            command_group: record.command_group,
            run_id: record.run_id,
        }
    }
}

impl From<lock::ReleaseReport> for plain::ReleaseReport {
    fn from(report: lock::ReleaseReport) -> Self {
        Self {
            removed: report.removed,
            missing: report.missing,
            failed: list(report.failed),
            left: report.left,
            lost: report.lost,
            note: report.note,
        }
    }
}

impl From<doctor::FindingKind> for plain::FindingKind {
    fn from(kind: doctor::FindingKind) -> Self {
        match kind {
            doctor::FindingKind::StaleLock => Self::StaleLock,
            doctor::FindingKind::UnreadableLock => Self::UnreadableLock,
            doctor::FindingKind::LockAside => Self::LockAside,
            doctor::FindingKind::DeadFlag => Self::DeadFlag,
            doctor::FindingKind::Temporary => Self::Temporary,
            doctor::FindingKind::OrphanNote => Self::OrphanNote,
            doctor::FindingKind::UnfinishedRun => Self::UnfinishedRun,
            doctor::FindingKind::OldOutcome => Self::OldOutcome,
            doctor::FindingKind::UnreadableOutcome => Self::UnreadableOutcome,
            doctor::FindingKind::UnusableEntry => Self::UnusableEntry,
            doctor::FindingKind::UnreadableRecord => Self::UnreadableRecord,
            doctor::FindingKind::DoubtfulRecord => Self::DoubtfulRecord,
            doctor::FindingKind::KeptEdit => Self::KeptEdit,
            doctor::FindingKind::Foreign => Self::Foreign,
        }
    }
}

impl From<runs::Ending> for plain::Ending {
    fn from(ending: runs::Ending) -> Self {
        match ending {
            runs::Ending::Consolidated => Self::Consolidated,
            runs::Ending::Failed => Self::Failed,
            runs::Ending::Aborted => Self::Aborted,
            runs::Ending::Unlocked => Self::Unlocked,
            runs::Ending::Undone => Self::Undone,
        }
    }
}

impl From<runs::Run> for plain::Run {
    fn from(run: runs::Run) -> Self {
        Self {
            id: run.id,
            ending: run.ending.into(),
            owner: run.owner.into(),
            ended_at: run.ended_at,
            ended_by: run.ended_by.map(Into::into),
            reason: run.reason,
            entry_count: run.entry_count,
            change_count: run.change_count,
            undoes: run.undoes,
            pending: run.pending,
        }
    }
}

impl From<runs::History> for plain::History {
    fn from(history: runs::History) -> Self {
        Self { runs: list(history.runs), unreadable: list(history.unreadable) }
    }
}

impl From<runs::RecoveredRun> for plain::RecoveredRun {
    fn from(recovered: runs::RecoveredRun) -> Self {
        Self {
            id: recovered.id,
            ending: recovered.ending.into(),
            owner: recovered.owner.into(),
            removed: recovered.removed,
            failed: list(recovered.failed),
            note: recovered.note,
        }
    }
}

impl From<lock::Takeover> for plain::Takeover {
    fn from(takeover: lock::Takeover) -> Self {
        match takeover {
            lock::Takeover::Stale(owner) => Self::Stale(owner.into()),
            lock::Takeover::Unreadable(lock) => Self::Unreadable(lock.into()),
            lock::Takeover::Forced(owner) => Self::Forced(owner.into()),
        }
    }
}

impl From<lock::Status> for plain::LockStatus {
    fn from(status: lock::Status) -> Self {
        match status {
            lock::Status::Free => Self::Free,
            lock::Status::Held(holder) => Self::Held(holder.into()),
            lock::Status::Unknown(holder) => Self::Unknown(holder.into()),
            lock::Status::Stale(holder) => Self::Stale(holder.into()),
            lock::Status::Unreadable(lock) => Self::Unreadable(lock.into()),
            lock::Status::Blocked(lock) => Self::Blocked(lock.into()),
        }
    }
}

impl From<plain::Durability> for types::Durability {
    fn from(durability: plain::Durability) -> Self {
        match durability {
            plain::Durability::Full => Self::Full,
            plain::Durability::None => Self::None,
        }
    }
}

impl From<types::ErrorCode> for plain::ErrorCode {
    fn from(code: types::ErrorCode) -> Self {
        match code {
            types::ErrorCode::InUse => Self::InUse,
            types::ErrorCode::LockLost => Self::LockLost,
            types::ErrorCode::InvalidInput => Self::InvalidInput,
            types::ErrorCode::NotFound => Self::NotFound,
            types::ErrorCode::Unusable => Self::Unusable,
            types::ErrorCode::WrongFileType => Self::WrongFileType,
            types::ErrorCode::PermissionDenied => Self::PermissionDenied,
            types::ErrorCode::ReadOnly => Self::ReadOnly,
            types::ErrorCode::NoSpace => Self::NoSpace,
            types::ErrorCode::Unsupported => Self::Unsupported,
            types::ErrorCode::Io => Self::Io,
            types::ErrorCode::Conflict => Self::Conflict,
            types::ErrorCode::Internal => Self::Internal,
        }
    }
}

impl From<memory::MemoryRecord> for plain::MemoryRecord {
    fn from(record: memory::MemoryRecord) -> Self {
        Self {
            kind: record.kind,
            slug: record.slug,
            title: record.title,
            status: record.status,
            sources: list(record.sources),
            created: record.created,
            updated: record.updated,
            replaced_by: record.replaced_by,
            body: record.body,
        }
    }
}

impl From<memory::Listing> for plain::RecordListing {
    fn from(listing: memory::Listing) -> Self {
        Self { records: list(listing.records), unreadable: list(listing.unreadable) }
    }
}

impl From<memory::RecordStatus> for plain::RecordStatus {
    fn from(status: memory::RecordStatus) -> Self {
        match status {
            memory::RecordStatus::Active => Self::Active,
            memory::RecordStatus::Replaced => Self::Replaced,
            memory::RecordStatus::Retired => Self::Retired,
        }
    }
}

impl From<plain::RecordStatus> for memory::RecordStatus {
    fn from(status: plain::RecordStatus) -> Self {
        match status {
            plain::RecordStatus::Active => Self::Active,
            plain::RecordStatus::Replaced => Self::Replaced,
            plain::RecordStatus::Retired => Self::Retired,
        }
    }
}

impl From<memory::Update> for plain::Update {
    fn from(update: memory::Update) -> Self {
        Self {
            kind: update.kind,
            slug: update.slug,
            title: update.title,
            body: update.body,
            status: update.status.map(Into::into),
            replaced_by: update.replaced_by,
            entries: update.entries,
        }
    }
}

impl From<plain::Update> for memory::Update {
    fn from(update: plain::Update) -> Self {
        Self {
            kind: update.kind,
            slug: update.slug,
            title: update.title,
            body: update.body,
            status: update.status.map(Into::into),
            replaced_by: update.replaced_by,
            entries: update.entries,
        }
    }
}

impl From<plain::Gates> for staging::Gates {
    fn from(gates: plain::Gates) -> Self {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            min_entries: gates.min_entries,
            min_bytes: gates.min_bytes,
            min_age_ms: gates.min_age.map(millis),
            min_interval_ms: gates.min_interval.map(millis),
        }
    }
}
