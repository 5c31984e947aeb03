//! `consolidate run`: one consolidation by a command. Invariant: entries are deleted only after the
//! command exited 0 without having been interrupted, and only those that it was given.

use super::command::{Command, Event, Events};
use super::list::{BATCH_BYTES, BATCH_ENTRIES};
use super::output::{Failure, Output, count, printable};
use crate::{AcquireOptions, ErrorCode, Limits, Lock, LockSnapshot, ReleaseReport, UnusableFile, Workspace};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
CMD gets the entries as JSON Lines on standard input, oldest first:
{\"id\": ..., \"source\": ..., ...}. Exit status 0 says that it has dealt with all of them, also if
it did not read them all: they are consumed and deleted. Any other status, or a signal, keeps them:
the next run gets them again. So does a crash while CMD runs, or just after it, before its success
is on the disk: CMD must bear to see an entry twice. SIGINT, SIGTERM and SIGHUP are passed on to
CMD; a second one kills it.")]
pub(super) struct Arguments {
    /// Name of this pod in the lock; the host name if left out
    #[arg(long, value_name = "NAME", env = "CONSOLIDATION_POD")]
    pod: Option<String>,

    /// Wait so long for the lock; without it a lock in use is an error at once
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds, allow_negative_numbers = true)]
    wait: Duration,

    /// After how many seconds without a sign of life of this process those who can't look at it
    /// (in another container or on another machine) may take the lock over; 0: never, then a crash
    /// needs `unlock --force` there
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_whole::<u32>, allow_negative_numbers = true)]
    lease: u32,

    /// Take at most so many entries; the rest waits for the next run
    #[arg(long, value_name = "N", value_parser = parse_at_least_one::<u64>, allow_negative_numbers = true)]
    max_entries: Option<u64>,

    /// Take entries of at most so many bytes, but at least one; the rest waits
    #[arg(long, value_name = "B", value_parser = parse_whole::<u64>, allow_negative_numbers = true)]
    max_bytes: Option<u64>,

    /// The command that consolidates, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

pub(super) fn run(
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let events = Events::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    let lock = acquire(workspace, arguments, coexist, output, &events)?;
    let limits = Limits { max_entries: arguments.max_entries, max_bytes: arguments.max_bytes };
    match consolidate(&lock, limits, arguments, output, &events) {
        Ok(Ended::Success { entries, left, unusable }) => {
            let report = lock
                .release_with_cleanup()
                .map_err(|error| Failure::from(error).because("the command succeeded"))?;
            consolidated(output, entries, left, &unusable, &report)
                .map_err(|failure| failure.because("the run is done and its entries are deleted"))
        }
        Ok(Ended::NothingToDo { left, unusable }) => {
            lock.release_only(None)?;
            let document = json!({
                "outcome": "nothing_to_do", "entries": 0, "removed": 0, "missing": 0, "failed": [], "left": left,
                "unusable": unusable, "lock_lost": false,
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
        Err(failure) => match lock.release_only(Some(failure.cause())) {
            Ok(_) => Err(failure),
            // That the lock was lost is said once, and matters more than what it did to the command.
            // Whether its entries are still staged is then up to whoever has, or had, the lock.
            Err(error) if error.code() == ErrorCode::LockLost => Err(if failure.is_about_the_lock() {
                failure
            } else {
                Failure::from(error).because(failure.cause().to_owned()).about(failure)
            }),
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
    coexist: bool,
    output: &Output,
    events: &Events,
) -> Result<Lock, Failure> {
    let pod = pod_name(arguments.pod.as_deref());
    let mut announced = false;
    let mut interrupted = false;
    let lease = (arguments.lease > 0).then(|| Duration::from_secs(arguments.lease.into()));
    let options = AcquireOptions { lease, coexist, ..AcquireOptions::new(pod) };
    let lock = workspace.acquire_within(&options, arguments.wait, |error, pause| {
        if !announced {
            announced = true;
            let why = error.guest().map_or_else(|| error.to_string(), |error| error.message.clone());
            output.note(format_args!("waiting up to {:?}: {why}", arguments.wait));
        }
        interrupted = matches!(events.next_within(pause), Some(Event::Signal(_)));
        !interrupted
    });
    if interrupted {
        return Err(Failure::interrupted("interrupted while waiting for the lock; nothing was done"));
    }
    lock.map_err(|error| {
        let failure = Failure::from(error);
        if arguments.wait.is_zero() {
            failure.if_in_use("`run --wait SECONDS` waits for it, `status` shows it")
        } else {
            failure.if_in_use(format_args!("waited {:?} for it; `status` shows it", arguments.wait))
        }
    })
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
    let mut reader = Reader { output, unusable: Vec::new(), entries: 0, done: false };
    reader.leave_out(snapshot.unusable()?);
    let first = reader.next(&mut snapshot)?;
    if first.is_empty() {
        return Ok(Ended::NothingToDo { left, unusable: reader.unusable });
    }
    // The lock names them before the command sees the first of them.
    lock.record_snapshot(&snapshot)?;
    let status = supervise(lock, &mut snapshot, &mut reader, first, arguments, events)?;
    if !status.success() {
        return Err(failed(&how_it_ended(status), status, None, &snapshot));
    }
    // A command may exit 0 and leave input unread. It answers for that, but not for files that are not
    // usable: they must be told from the others before anything is deleted.
    while !reader.done {
        reader.next(&mut snapshot)?;
    }
    lock.record_snapshot(&snapshot)?;
    Ok(Ended::Success { entries: reader.entries, left, unusable: reader.unusable })
}

/// Reads a snapshot batch by batch.
struct Reader<'a> {
    output: &'a Output,
    unusable: Vec<UnusableFile>,
    entries: u64,
    done: bool,
}

impl Reader<'_> {
    /// Tells people of files that are no part of the run.
    fn leave_out(&mut self, files: Vec<UnusableFile>) {
        for file in &files {
            self.output.note(format_args!(
                "left out: {}: {}",
                printable(&file.name),
                printable(&file.reason)
            ));
        }
        self.unusable.extend(files);
    }

    /// The next usable entries as lines; empty if there are no more.
    fn next(&mut self, snapshot: &mut LockSnapshot<'_>) -> Result<Vec<u8>, Failure> {
        let mut lines = Vec::new();
        while lines.is_empty() && !self.done {
            let batch = snapshot.next_batch(BATCH_ENTRIES, BATCH_BYTES)?;
            self.entries += batch.entries.len() as u64;
            self.leave_out(batch.unusable);
            self.done = batch.done;
            for entry in batch.entries {
                lines.extend_from_slice(entry.json.as_bytes());
                lines.push(b'\n');
            }
        }
        Ok(lines)
    }
}

/// Runs the command to its end. An interrupted one has failed, whatever its exit status, and so has one
/// whose lock was lost: it is stopped, since another owner's command may be at work beside it.
fn supervise(
    lock: &Lock,
    snapshot: &mut LockSnapshot<'_>,
    reader: &mut Reader<'_>,
    first: Vec<u8>,
    arguments: &Arguments,
    events: &Events,
) -> Result<ExitStatus, Failure> {
    let mut command = Command::start(&arguments.command, lock.root(), reader.output.is_json(), events)
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
    let mut lost_since = None;
    loop {
        let Some(event) = events.next_within(LOOK_AT_LOCK) else {
            if lock.is_lost() {
                let since = *lost_since.get_or_insert_with(|| {
                    reader.output.note("the lock was lost; the command is stopped");
                    Instant::now()
                });
                command.signal(if since.elapsed() < GRACE { TERMINATE } else { KILL });
            }
            continue;
        };
        match event {
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
                    (None, Some(&signal)) => {
                        let how = format!(
                            "was interrupted by {} and {}",
                            signal_name(signal),
                            how_it_ended(status)
                        );
                        Err(failed(&how, status, Some(signal), snapshot).coded("interrupted"))
                    }
                    (None, None) => Ok(status),
                };
            }
        }
    }
}

/// How often to see whether the lock is still ours, and how long a command may take to end if it is not.
const LOOK_AT_LOCK: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(5);

const TERMINATE: i32 = 15;
const KILL: i32 = 9;

fn signal_name(signal: i32) -> String {
    match signal {
        1 => "SIGHUP".into(),
        2 => "SIGINT".into(),
        3 => "SIGQUIT".into(),
        6 => "SIGABRT".into(),
        9 => "SIGKILL".into(),
        11 => "SIGSEGV".into(),
        13 => "SIGPIPE".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}"),
    }
}

/// The signal that ended it, if one did.
fn ending_signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    return {
        let _ = status;
        None
    };
}

fn how_it_ended(status: ExitStatus) -> String {
    if let Some(signal) = ending_signal(status) {
        return format!("was killed by {}", signal_name(signal));
    }
    match status.code() {
        Some(126) => "exited with status 126: may it be executed?".into(),
        Some(127) => "exited with status 127: is it installed, and spelled right?".into(),
        Some(code) => format!("exited with status {code}"),
        None => "ended without a status".into(),
    }
}

fn failed(
    how: &str,
    status: ExitStatus,
    interrupted_by: Option<i32>,
    snapshot: &LockSnapshot<'_>,
) -> Failure {
    let entries = snapshot.len().unwrap_or_default();
    Failure::consolidator(
        format!(
            "the command {how}; {} staged",
            count(entries, "entry of this run stays", "entries of this run stay")
        ),
        format!("the command {how}"),
        json!({
            "outcome": "failed", "how": how, "entries": entries,
            "status": status.code(),
            "signal": ending_signal(status),
            "interrupted_by": interrupted_by,
        }),
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
        "failed": report.failed, "left": left, "unusable": unusable, "lock_lost": report.lost,
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
        if report.lost {
            writeln!(
                out,
                "the lock was another's by the time they were deleted; the run was committed before"
            )?;
        }
        for failed in &report.failed {
            writeln!(out, "not deleted, the next run tries again: {}: {}", failed.id, failed.reason)?;
        }
        Ok(())
    })
}

/// The name of this pod: as given, else from the environment, else the host name.
pub(super) fn pod_name(given: Option<&str>) -> String {
    if let Some(name) = given {
        return name.to_owned();
    }
    let name = std::env::var("CONSOLIDATION_POD").unwrap_or_else(|_| crate::sys::command::host_name());
    if name.is_empty() { "consolidate".into() } else { name }
}

/// A whole number that is not negative.
pub(super) fn parse_whole<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number, 0 or more".to_owned())
}

/// A whole number from 1.
pub(super) fn parse_at_least_one<T: std::str::FromStr + PartialEq + From<u8>>(
    text: &str,
) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number != T::from(0) => Ok(number),
        _ => Err("expected a whole number, 1 or more".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds, 0 or more, for example 30 or 1.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
