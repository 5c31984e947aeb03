//! `consolidate run`: one consolidation by a command. Invariant: entries are deleted only after the
//! command exited 0 without having been interrupted, and only those that it was given.

use super::command::{Command, Event, Events};
use super::list::{BATCH_BYTES, BATCH_ENTRIES};
use super::output::{Failure, Output, count, printable};
use crate::{AcquireOptions, Limits, Lock, LockSnapshot, ReleaseReport, UnusableFile, Workspace};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
CMD gets the entries as JSON Lines on standard input, oldest first:
{\"id\": ..., \"source\": ..., ...}. Exit status 0 says that it has dealt with all of them, also if
it did not read them all: they are deleted. Any other status, or a signal, keeps them: the next
run gets them again. So does a crash at any moment, also one between the command's end and the
deletes; CMD must bear to see an entry twice. SIGINT, SIGTERM and SIGHUP are passed on to CMD; a
second one kills it.")]
pub(super) struct Arguments {
    /// Name of this pod in the lock; the host name if left out
    #[arg(long, value_name = "NAME", env = "CONSOLIDATION_POD")]
    pod: Option<String>,

    /// Wait so long for the lock; without it a lock in use is an error at once
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds)]
    wait: Duration,

    /// After how many seconds without a sign of life of this process those who can't look at it
    /// (in another container or on another machine) may take the lock over; 0: never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    lease: u32,

    /// Take at most so many entries; the rest waits for the next run
    #[arg(long, value_name = "N")]
    max_entries: Option<u64>,

    /// Take entries of at most so many bytes, but at least one; the rest waits
    #[arg(long, value_name = "B")]
    max_bytes: Option<u64>,

    /// The command that consolidates, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(workspace: &Workspace, arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let events = Events::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    let lock = acquire(workspace, arguments, output, &events)?;
    let limits = Limits { max_entries: arguments.max_entries, max_bytes: arguments.max_bytes };
    match consolidate(&lock, limits, arguments, output, &events) {
        Ok(Ended::Success { entries, left, unusable }) => {
            let report = lock.release_with_cleanup()?;
            consolidated(output, entries, left, &unusable, &report)
        }
        Ok(Ended::NothingToDo { left, unusable }) => {
            lock.release_only()?;
            let document = json!({
                "outcome": "nothing_to_do", "entries": 0, "removed": 0, "missing": 0, "failed": [], "left": left,
                "unusable": unusable,
            });
            output.result(&document, |out| match left {
                0 => writeln!(out, "nothing to do: no usable entry is staged"),
                _ => writeln!(
                    out,
                    "nothing to do: the caps leave no entry for this run; {}",
                    count(left, "waits", "wait")
                ),
            })
        }
        Err(failure) => match lock.release_only() {
            Ok(_) => Err(failure),
            // Both matter: what failed first, and that the lock is not as it should be.
            Err(error) => Err(failure.because(error)),
        },
    }
}

/// How the part under the lock went well.
enum Ended {
    Success { entries: u64, left: u64, unusable: Vec<UnusableFile> },
    NothingToDo { left: u64, unusable: Vec<UnusableFile> },
}

fn acquire(
    workspace: &Workspace,
    arguments: &Arguments,
    output: &Output,
    events: &Events,
) -> Result<Lock, Failure> {
    let pod = arguments.pod.clone().unwrap_or_else(default_pod_name);
    let mut announced = false;
    let mut interrupted = false;
    let lease = (arguments.lease > 0).then(|| Duration::from_secs(arguments.lease.into()));
    let options = AcquireOptions { lease, ..AcquireOptions::new(pod) };
    let lock = workspace.acquire_within(&options, arguments.wait, |error, pause| {
        if !announced {
            announced = true;
            output.note(format_args!("{error}; waiting up to {:?} for it", arguments.wait));
        }
        interrupted = matches!(events.next_within(pause), Some(Event::Signal(_)));
        !interrupted
    });
    if interrupted {
        return Err(Failure::interrupted("interrupted while waiting for the lock; nothing was done"));
    }
    Ok(lock?)
}

fn consolidate(
    lock: &Lock,
    limits: Limits,
    arguments: &Arguments,
    output: &Output,
    events: &Events,
) -> Result<Ended, Failure> {
    let mut snapshot = lock.snapshot(limits)?;
    let left = snapshot.left()?;
    let mut reader = Reader { unusable: snapshot.unusable()?, entries: 0, done: false };
    let first = reader.next(&mut snapshot)?;
    if first.is_empty() {
        return Ok(Ended::NothingToDo { left, unusable: reader.unusable });
    }
    // Recorded before the command sees the first of them.
    lock.record_snapshot(&snapshot)?;
    let recorded = snapshot.len()?;
    for file in &reader.unusable {
        output.note(format_args!("left out: {}: {}", printable(&file.name), file.reason));
    }
    let status = supervise(lock, &mut snapshot, &mut reader, first, arguments, output, events)?;
    if !status.success() {
        return Err(failed(&how_it_ended(status), &snapshot));
    }
    // A command may exit 0 and leave input unread. It answers for that, but not for files that are not
    // usable: they must be told from the others before anything is deleted.
    while !reader.done {
        reader.next(&mut snapshot)?;
    }
    if snapshot.len()? != recorded {
        lock.record_snapshot(&snapshot)?;
    }
    Ok(Ended::Success { entries: reader.entries, left, unusable: reader.unusable })
}

/// Reads a snapshot batch by batch.
struct Reader {
    unusable: Vec<UnusableFile>,
    entries: u64,
    done: bool,
}

impl Reader {
    /// The next usable entries as lines; empty if there are no more.
    fn next(&mut self, snapshot: &mut LockSnapshot<'_>) -> Result<Vec<u8>, Failure> {
        let mut lines = Vec::new();
        while lines.is_empty() && !self.done {
            let batch = snapshot.next_batch(BATCH_ENTRIES, BATCH_BYTES)?;
            self.entries += batch.entries.len() as u64;
            self.unusable.extend(batch.unusable);
            self.done = batch.done;
            for entry in batch.entries {
                lines.extend_from_slice(entry.json.as_bytes());
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }
}

/// Runs the command to its end. An interrupted one has failed, whatever its exit status.
fn supervise(
    lock: &Lock,
    snapshot: &mut LockSnapshot<'_>,
    reader: &mut Reader,
    first: Vec<u8>,
    arguments: &Arguments,
    output: &Output,
    events: &Events,
) -> Result<ExitStatus, Failure> {
    let mut command = Command::start(&arguments.command, output.is_json(), events)
        .map_err(|error| Failure::io(format!("cannot start the command: {error}")))?;
    let mut trouble = None;
    match lock.record_command_group(Some(command.group())) {
        Ok(()) => command.open_gate(),
        Err(error) => {
            // The gate reads the end of its input and never becomes the command.
            command.end_input();
            trouble = Some(Failure::from(error));
        }
    }
    let mut next = Some(first);
    let mut signals = Vec::new();
    loop {
        match events.next() {
            Event::Hungry if trouble.is_none() => match next.take() {
                Some(chunk) if !chunk.is_empty() => {
                    command.give(chunk);
                    match reader.next(snapshot) {
                        Ok(chunk) => next = Some(chunk),
                        Err(failure) => {
                            command.signal(TERMINATE);
                            trouble = Some(failure);
                        }
                    }
                }
                _ => command.end_input(),
            },
            Event::Hungry => command.end_input(),
            Event::Signal(signal) => {
                // Whoever asks twice wants an end now.
                command.signal(if signals.is_empty() { signal } else { KILL });
                signals.push(signal);
            }
            Event::Ended(status) => {
                let status =
                    status.map_err(|error| Failure::io(format!("cannot wait for the command: {error}")))?;
                return match (trouble, signals.first()) {
                    (Some(failure), _) => Err(failure),
                    (None, Some(signal)) => {
                        let how = format!("was interrupted by signal {signal} and {}", how_it_ended(status));
                        Err(failed(&how, snapshot))
                    }
                    (None, None) => Ok(status),
                };
            }
        }
    }
}

const TERMINATE: i32 = 15;
const KILL: i32 = 9;

fn how_it_ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("was killed by signal {signal}");
    }
    match status.code() {
        Some(127) => "exited with status 127: is it installed, and spelled right?".into(),
        Some(code) => format!("exited with status {code}"),
        None => "ended without a status".into(),
    }
}

fn failed(how: &str, snapshot: &LockSnapshot<'_>) -> Failure {
    let entries = snapshot.len().unwrap_or_default();
    Failure::consolidator(
        format!(
            "the command {how}; {} staged",
            count(entries, "entry of this run stays", "entries of this run stay")
        ),
        json!({ "outcome": "failed", "how": how, "entries": entries }),
    )
}

fn consolidated(
    output: &Output,
    entries: u64,
    left: u64,
    unusable: &[UnusableFile],
    report: &ReleaseReport,
) -> Result<(), Failure> {
    let document = json!({
        "outcome": "consolidated", "entries": entries, "removed": report.removed, "missing": report.missing,
        "failed": report.failed, "left": left, "unusable": unusable,
    });
    output.result(&document, |out| {
        write!(out, "consolidated {}", count(entries, "entry", "entries"))?;
        if report.missing > 0 {
            write!(out, ", {} of them already gone", report.missing)?;
        }
        if left > 0 {
            write!(out, "; {} for the next run", count(left, "more waits", "more wait"))?;
        }
        writeln!(out)?;
        for failed in &report.failed {
            writeln!(out, "not deleted, it comes back in the next run: {}: {}", failed.id, failed.reason)?;
        }
        Ok(())
    })
}

/// The name of this pod if none is given.
pub(super) fn default_pod_name() -> String {
    let name = crate::sys::command::host_name();
    if name.is_empty() { "consolidate".into() } else { name }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
