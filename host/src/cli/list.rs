//! `consolidate list`. Invariant: shows what a run would take at this moment, in the same order.

use super::output::{Failure, Output, duration, printable};
use crate::{Limits, Workspace};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much the component reads in one call.
pub(super) const BATCH_ENTRIES: u32 = 1_000;
pub(super) const BATCH_BYTES: u64 = 1024 * 1024;

#[derive(Serialize)]
struct Row {
    id: String,
    staged_at_ms: u64,
    bytes: u64,
    source: RowSource,
}

#[derive(Serialize)]
struct RowSource {
    segment_id: String,
    range: [u64; 2],
}

pub(super) fn run(workspace: &Workspace, output: &Output) -> Result<(), Failure> {
    let snapshot = workspace.snapshot(Limits::default())?;
    let mut unusable = snapshot.unusable()?;
    let mut rows = Vec::new();
    loop {
        let batch = snapshot.next_batch(BATCH_ENTRIES, BATCH_BYTES)?;
        unusable.extend(batch.unusable);
        rows.extend(batch.entries.into_iter().map(|entry| Row {
            id: entry.id,
            staged_at_ms: entry.staged_at_ms,
            bytes: entry.bytes,
            source: RowSource {
                segment_id: entry.source.segment_id,
                range: [entry.source.start, entry.source.end],
            },
        }));
        if batch.done {
            break;
        }
    }
    let document = serde_json::json!({ "entries": rows, "unusable": unusable });
    output.result(&document, |out| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        for Row { id, staged_at_ms, bytes, source } in &rows {
            let age = u64::try_from(now).unwrap_or(0).saturating_sub(*staged_at_ms) / 1_000;
            let RowSource { segment_id, range: [start, end] } = source;
            writeln!(
                out,
                "{id}  {:>9}  {bytes:>8} B  {} {start}..{end}",
                duration(age),
                printable(segment_id)
            )?;
        }
        for file in &unusable {
            writeln!(out, "unusable: {}: {}", printable(&file.name), printable(&file.reason))?;
        }
        if rows.is_empty() && unusable.is_empty() {
            writeln!(out, "nothing is staged")?;
        }
        Ok(())
    })
}
