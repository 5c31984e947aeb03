//! `consolidate log`. Invariant: looks and changes nothing.

use super::output::{Failure, Output, count, printable};
use super::run::parse_at_least_one;
use crate::{ChangedRecord, Ending, EntryId, Run, Workspace};
use serde::Serialize;
use std::io::{self, Write};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show this run alone, with the ids of the entries that it took and the records that it changed
    run: Option<String>,

    /// Show at most so many runs
    #[arg(short = 'n', long, value_name = "N", default_value = "20", value_parser = parse_at_least_one::<u32>, allow_negative_numbers = true)]
    max: u32,
}

/// A run as it stands in the document.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    run: Run,
    entry_ids: Vec<EntryId>,
    changes: Vec<ChangedRecord>,
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let row = |run: Run| {
        let entry_ids = workspace.run_entries(&run.id)?;
        let changes = if run.change_count > 0 { workspace.run_changes(&run.id)? } else { Vec::new() };
        Ok(Row { run, entry_ids, changes })
    };
    if let Some(id) = &arguments.run {
        let row = row(workspace.run(id)?)?;
        return output.result(&row, |out| {
            write_run(out, &row.run)?;
            row.entry_ids.iter().try_for_each(|id| writeln!(out, "  {id}"))?;
            row.changes.iter().try_for_each(|change| write_change(out, change))
        });
    }
    let history = workspace.runs(arguments.max)?;
    // Their ids are read for the document only: there may be very many.
    let rows = if output.is_json() {
        history.runs.iter().cloned().map(row).collect::<Result<Vec<_>, Failure>>()?
    } else {
        Vec::new()
    };
    let document = serde_json::json!({ "runs": rows, "unreadable": history.unreadable });
    output.result(&document, |out| {
        history.runs.iter().try_for_each(|run| write_run(out, run))?;
        for run in &history.unreadable {
            writeln!(out, "unreadable: {}: {}", run.id, printable(&run.reason))?;
        }
        if history.runs.is_empty() && history.unreadable.is_empty() {
            writeln!(out, "no run has ended here yet")?;
        }
        Ok(())
    })
}

fn write_run(out: &mut dyn Write, run: &Run) -> io::Result<()> {
    let Run { id, ending, owner, ended_at, ended_by, reason, entry_count, change_count, undoes, pending } =
        run;
    let what = match ending {
        Ending::Consolidated => "consolidated",
        Ending::Failed => "failed, had taken",
        Ending::Aborted => "aborted, had taken",
        Ending::Unlocked => "unlocked by force, had taken",
        Ending::Undone => "undone",
    };
    let records = || count(*change_count, "record", "records");
    write!(out, "{id}  {}  {what} ", printable(ended_at))?;
    match undoes {
        Some(run) => write!(out, "{run}, {} put back", records())?,
        None => write!(out, "{}", count(*entry_count, "entry", "entries"))?,
    }
    if *change_count > 0 && undoes.is_none() {
        write!(out, ", changed {}", records())?;
    }
    if owner.pid != 0 {
        write!(out, "; pod {:?}, pid {}", owner.pod_name, owner.pid)?;
    }
    if let Some(by) = ended_by {
        write!(out, "; ended by pod {:?}, pid {}", by.pod_name, by.pid)?;
    }
    if let Some(reason) = reason {
        write!(out, ": {}", printable(reason))?;
    }
    if *pending {
        write!(
            out,
            "; {}",
            if *change_count > 0 { "not all of it is done yet" } else { "not all of them are deleted yet" }
        )?;
    }
    writeln!(out)
}

fn write_change(out: &mut dyn Write, change: &ChangedRecord) -> io::Result<()> {
    let what = match (change.created, change.removed) {
        (true, _) => "created",
        (_, true) => "removed",
        _ => "changed",
    };
    writeln!(out, "  {what} {}/{}", change.kind, change.slug)
}
