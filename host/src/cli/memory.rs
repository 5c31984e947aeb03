//! `consolidate memory`. Invariant: looks and changes nothing; a record that can't be read is named, and
//! hides no other.

use super::output::{Failure, Output, printable};
use crate::{MemoryRecord, Workspace};
use serde_json::json;
use std::io::{self, Write};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// List the records of this kind, or show this record
    #[arg(value_name = "KIND | KIND/SLUG")]
    name: Option<String>,
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    match arguments.name.as_deref().map(|name| name.split_once('/').ok_or(name)) {
        None => list(workspace, None, output),
        Some(Err(kind)) => list(workspace, Some(kind), output),
        Some(Ok((kind, slug))) => show(workspace, kind, slug, output),
    }
}

fn list(workspace: &Workspace, kind: Option<&str>, output: &Output) -> Result<(), Failure> {
    let listing = workspace.memory_records(kind)?;
    if !output.is_json() {
        for record in &listing.unreadable {
            output.note(format_args!(
                "unreadable: {}: {}",
                printable(&record.path),
                printable(&record.reason)
            ));
        }
    }
    output.result(&listing, |out| {
        let name = |kind: &str, slug: &str| format!("{kind}/{slug}");
        let widest = listing.records.iter().map(|record| record.kind.len() + 1 + record.slug.len()).max();
        for record in &listing.records {
            writeln!(
                out,
                "{:width$}  {:<8}  {}",
                name(&record.kind, &record.slug),
                printable(&record.status),
                printable(&record.title),
                width = widest.unwrap_or(0)
            )?;
        }
        match (listing.records.is_empty(), kind) {
            (true, Some(kind)) => writeln!(out, "there is no record of the kind {}", printable(kind)),
            (true, None) => writeln!(out, "there is no record"),
            (false, _) => Ok(()),
        }
    })
}

fn show(workspace: &Workspace, kind: &str, slug: &str, output: &Output) -> Result<(), Failure> {
    let Some(record) = workspace.memory_record(kind, slug)? else {
        return Err(Failure::not_found(format!("there is no record {kind}/{slug}; `memory` lists them")));
    };
    let sources: Vec<_> = record
        .sources
        .iter()
        .map(|source| json!({ "segment_id": source.segment_id, "range": [source.start, source.end] }))
        .collect();
    let document = json!({
        "kind": record.kind, "slug": record.slug, "title": record.title, "status": record.status,
        "sources": sources, "created": record.created, "updated": record.updated,
        "replaced_by": record.replaced_by, "body": record.body,
    });
    output.result(&document, |out| write_record(out, &record))
}

fn write_record(out: &mut dyn Write, record: &MemoryRecord) -> io::Result<()> {
    writeln!(out, "record    {}/{}", record.kind, record.slug)?;
    writeln!(out, "title     {}", printable(&record.title))?;
    write!(out, "status    {}", printable(&record.status))?;
    if let Some(successor) = &record.replaced_by {
        write!(out, " by {}", printable(successor))?;
    }
    writeln!(out)?;
    for (name, time) in [("created", &record.created), ("updated", &record.updated)] {
        if !time.is_empty() {
            writeln!(out, "{name:<8}  {}", printable(time))?;
        }
    }
    for source in &record.sources {
        writeln!(out, "source    {} {}..{}", printable(&source.segment_id), source.start, source.end)?;
    }
    writeln!(out)?;
    for line in record.body.lines() {
        writeln!(out, "{}", line.split('\t').map(printable).collect::<Vec<_>>().join("\t"))?;
    }
    Ok(())
}
