//! `consolidate status`. Invariant: looks and changes nothing, and opens no entry unless it is asked to.

use super::output::{Failure, Output, count, duration, printable};
use crate::{Holder, LockStatus, Workspace};
use serde_json::json;
use std::io::{self, Write};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
It counts files by their names and types, and opens none. How many bytes the entries have, and which
of them can't be used, it says with --check; `doctor` reads them always.")]
pub(super) struct Arguments {
    /// Read every entry too: count their bytes, and name those that can't be used
    #[arg(long)]
    check: bool,
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let summary = if arguments.check { workspace.check_entries() } else { workspace.summarize() }?;
    let lock = workspace.lock_status()?;
    let oldest_seconds = summary.oldest_ms.map(|oldest| summary.now_ms.saturating_sub(oldest) / 1_000);
    let document = json!({
        "entries": summary.entries,
        "checked": arguments.check,
        "bytes": summary.bytes,
        "oldest_age_seconds": oldest_seconds,
        "unusable_count": summary.unusable_count,
        "unusable": summary.unusable,
        "consumed_not_deleted": summary.consumed,
        "quarantined": summary.quarantined,
        "lock": lock,
    });
    output.result(&document, |out| {
        write!(out, "entries   {}", summary.entries)?;
        if let Some(seconds) = oldest_seconds {
            if let Some(bytes) = summary.bytes {
                write!(out, ", {bytes} bytes")?;
            }
            write!(out, ", the oldest {} old", duration(seconds))?;
        }
        writeln!(out)?;
        write!(out, "unusable  {}", summary.unusable_count)?;
        if !arguments.check && summary.entries > 0 {
            write!(out, " by name or type; `status --check` reads the entries too")?;
        }
        writeln!(out)?;
        for file in &summary.unusable {
            writeln!(out, "          {}: {}", printable(&file.name), printable(&file.reason))?;
        }
        if summary.unusable_count > summary.unusable.len() as u64 {
            let more = summary.unusable_count - summary.unusable.len() as u64;
            writeln!(out, "          and {}", count(more, "more file", "more files"))?;
        }
        if summary.consumed > 0 {
            let who = match lock {
                LockStatus::Held(_) | LockStatus::Unknown(_) => "whoever holds the lock is at it",
                _ => "the next run tries again",
            };
            let entries = count(summary.consumed, "entry", "entries");
            writeln!(out, "consumed  {entries}, not deleted yet; {who}")?;
        }
        if summary.quarantined > 0 {
            let entries = count(summary.quarantined, "entry", "entries");
            writeln!(out, "failed    {entries} in the quarantine; `quarantine list` shows why")?;
        }
        write_lock(out, &lock)
    })
}

fn write_lock(out: &mut dyn Write, lock: &LockStatus) -> io::Result<()> {
    match lock {
        LockStatus::Free => writeln!(out, "lock      free"),
        LockStatus::Held(holder) => write_holder(out, "held", holder),
        LockStatus::Unknown(holder) => write_holder(out, "held as far as can be told from here,", holder),
        LockStatus::Stale(holder) => {
            write_holder(out, "stale, the next run takes it over; it was held", holder)
        }
        LockStatus::Unreadable(lock) => {
            writeln!(
                out,
                "lock      unreadable, taken over once it has not changed for 5 s: {}",
                lock.reason
            )?;
            if !lock.content.is_empty() {
                writeln!(out, "          it begins: {}", lock.content)?;
            }
            Ok(())
        }
        LockStatus::Blocked(lock) => writeln!(out, "lock      blocked, {}: {}", lock.path, lock.reason),
    }
}

fn write_holder(
    out: &mut dyn Write,
    state: &str,
    Holder { owner, consumed_count, reason }: &Holder,
) -> io::Result<()> {
    write!(out, "lock      {state} by pid {} (pod {:?})", owner.pid, owner.pod_name)?;
    // Who was killed before it had written its record has none.
    match owner.started_at.as_str() {
        "" => writeln!(out)?,
        time => writeln!(out, " since {time}")?,
    }
    writeln!(out, "          {reason}; it took {}", count(*consumed_count, "entry", "entries"))
}
