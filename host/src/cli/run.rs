//! `consolidate run`: its arguments, and a consolidation by a command that answers for all entries of a
//! run. Invariant: entries are deleted only after the command exited 0 without having been interrupted, and
//! only those that it was given.

use super::batched;
use super::command::{Command, Event, Events, Printed};
use super::list::{BATCH_BYTES, BATCH_ENTRIES};
use super::output::{Failure, Output, count, printable};
use crate::{
    AcquireOptions, ErrorCode, Gates, Limits, Lock, LockSnapshot, ReleaseReport, Runtime, UnusableFile,
    Workspace,
};
use serde_json::json;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
#[command(
    override_usage = "consolidate run [OPTIONS] -- CMD...\n       \
                      consolidate run [OPTIONS] --updates -- CMD...\n       \
                      consolidate run [OPTIONS] --plugin FILE",
    group = clap::ArgGroup::new("consolidator").args(["plugin", "updates"]),
    after_help = "\
One of three does the work:

`-- CMD` gets all entries of the run as JSON Lines on standard input, oldest first: {\"id\": ...,
\"source\": ..., ...}. Exit status 0 says that it has dealt with all of them, also if it did not
read them all: they are consumed and deleted. Any other status, or a signal, keeps them: the next
run gets them again.

`--updates -- CMD` gets the entries batch by batch, in a process for each, and prints what memory
records are to be, as JSON Lines on standard output (`consolidate schema` has the form of a line).
Exit status 0 with no output says that nothing is to change; 75, that it may go better later: the
run ends and no entry is blamed. So it does with 126 and 127: CMD can't be run. With any other
status, a signal, or a line that is no update the batch has failed.

`--plugin FILE` gets them batch by batch too. It is a WebAssembly component in a sandbox: no file,
no network, no environment, no clock and no randomness, but for what --grant names.

With these two, the records of memory are changed and the entries of the run consumed by one
commit, or neither. A batch that failed is tried in smaller parts, until the entries at fault are
found; they are left out, and after --max-attempts runs they go to the quarantine. If nothing at
all succeeds, the run fails.

A crash while it works, or just after it, before its success is on the disk, brings the entries
again: CMD and plugins must bear to see an entry twice. SIGINT, SIGTERM and SIGHUP are passed on
to CMD, and a second one kills it; a plugin is stopped, and what it was doing has no effect. What
is not committed by then stays staged."
)]
pub(super) struct Arguments {
    /// Name of this pod in the lock; the host name if left out
    #[arg(long, value_name = "NAME", env = "CONSOLIDATION_POD")]
    pub(super) pod: Option<String>,

    /// Wait so long for the lock; without it a lock in use is an error at once
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse_seconds, allow_negative_numbers = true)]
    pub(super) wait: Duration,

    /// After how many seconds without a sign of life of this process those who can't look at it
    /// (in another container or on another machine) may take the lock over; 0: never, then a crash
    /// needs `unlock --force` there
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse_whole::<u32>, allow_negative_numbers = true)]
    pub(super) lease: u32,

    /// Take at most so many entries; the rest waits for the next run
    #[arg(long, value_name = "N", value_parser = parse_at_least_one::<u64>, allow_negative_numbers = true)]
    max_entries: Option<u64>,

    /// Take entries of at most so many bytes, but at least one; the rest waits
    #[arg(long, value_name = "B", value_parser = parse_whole::<u64>, allow_negative_numbers = true)]
    max_bytes: Option<u64>,

    /// Go on with another run until nothing is left, also with what is staged meanwhile
    #[arg(long)]
    pub(super) drain: bool,

    /// Do nothing unless at least so many entries are staged
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        help_heading = "Gates (one that is closed: nothing is done, exit code 0)"
    )]
    min_entries: Option<u64>,

    /// Do nothing unless their files have at least so many bytes
    #[arg(
        long,
        value_name = "B",
        allow_negative_numbers = true,
        help_heading = "Gates (one that is closed: nothing is done, exit code 0)"
    )]
    min_bytes: Option<u64>,

    /// Do nothing unless the oldest was staged at least so long ago
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = parse_seconds,
        allow_negative_numbers = true,
        help_heading = "Gates (one that is closed: nothing is done, exit code 0)"
    )]
    min_age: Option<Duration>,

    /// Do nothing unless the last run that was consolidated ended at least so long ago
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = parse_seconds,
        allow_negative_numbers = true,
        help_heading = "Gates (one that is closed: nothing is done, exit code 0)"
    )]
    min_interval: Option<Duration>,

    #[command(flatten)]
    pub(super) batched: batched::Arguments,

    /// The command that consolidates, and its arguments
    #[arg(last = true, conflicts_with = "plugin", value_name = "CMD", help_heading = "Arguments")]
    pub(super) command: Vec<OsString>,
}

impl Arguments {
    pub(super) fn has_plugin(&self) -> bool {
        self.batched.has_plugin()
    }

    /// What clap would say of one of the three ways only.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.command.is_empty() && !self.batched.has_plugin() {
            return Err(Failure::usage(
                "nothing was given that consolidates: `run --plugin FILE.wasm`, `run --updates -- CMD` or `run -- CMD`; \
                 see `run --help`",
            ));
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { max_entries: self.max_entries, max_bytes: self.max_bytes }
    }

    pub(super) fn gates(&self) -> Gates {
        Gates {
            min_entries: self.min_entries,
            min_bytes: self.min_bytes,
            min_age: self.min_age,
            min_interval: self.min_interval,
        }
    }

    pub(super) fn lock(&self, coexist: bool) -> AcquireOptions {
        let lease = (self.lease > 0).then(|| Duration::from_secs(self.lease.into()));
        AcquireOptions { lease, coexist, ..AcquireOptions::new(pod_name(self.pod.as_deref())) }
    }
}

pub(super) fn run(
    runtime: &Runtime,
    workspace: &Workspace,
    arguments: &Arguments,
    coexist: bool,
    output: &Output,
) -> Result<(), Failure> {
    let events = Events::new().map_err(|error| Failure::io(format!("cannot handle signals: {error}")))?;
    if arguments.batched.is_asked_for() {
        return batched::run(runtime, workspace, arguments, coexist, output, &events);
    }
    let gates = arguments.gates();
    if let Some(reason) = closed_gate(workspace, &gates)? {
        return skipped(output, &reason);
    }
    let lock = acquire(workspace, arguments, coexist, output, &events)?;
    // Somebody else's run may have come first.
    match closed_gate(workspace, &gates) {
        Ok(None) => {}
        Ok(Some(reason)) => {
            lock.release_only(None)?;
            return skipped(output, &reason);
        }
        Err(failure) => return Err(give_up(lock, failure)),
    }
    let mut done = Done::default();
    // Of one listing, from which one run after another takes its entries.
    let mut listed: Option<LockSnapshot<'_>> = None;
    loop {
        let is_new = listed.is_none();
        match consolidate(&lock, &mut listed, arguments, output, &events) {
            Ok(Ended::Success { entries, left, unusable }) if arguments.drain => match lock.finish_run() {
                Ok(report) => {
                    done.add(entries, left, unusable, report);
                    if left == 0 {
                        // What was staged meanwhile is in the next listing.
                        listed = None;
                    }
                }
                Err(error) => {
                    let failure = Failure::from(error).because("the command succeeded");
                    drop(listed);
                    return Err(give_up(lock, done.before(failure)));
                }
            },
            Ok(Ended::NothingToDo { left: 0, .. }) if !is_new => listed = None,
            Ok(Ended::Success { entries, left, unusable }) => {
                drop(listed);
                let report = lock
                    .release_with_cleanup()
                    .map_err(|error| Failure::from(error).because("the command succeeded"))?;
                done.add(entries, left, unusable, report);
                return consolidated(output, &done);
            }
            Ok(Ended::NothingToDo { left, unusable }) => {
                drop(listed);
                match lock.release_only(None) {
                    Ok(_) => {}
                    Err(error) if error.code() == ErrorCode::LockLost && done.runs > 0 => {
                        done.report.lost = true;
                    }
                    Err(error) => return Err(done.before(error.into())),
                }
                if done.runs == 0 {
                    return nothing_to_do(output, left, &unusable);
                }
                done.unusable = unusable;
                return consolidated(output, &done);
            }
            Err(failure) => {
                drop(listed);
                return Err(give_up(lock, done.before(failure)));
            }
        }
    }
}

fn closed_gate(workspace: &Workspace, gates: &Gates) -> Result<Option<String>, Failure> {
    Ok(if *gates == Gates::default() { None } else { workspace.closed_gate(gates)? })
}

fn give_up(lock: Lock, failure: Failure) -> Failure {
    match lock.release_only(Some(failure.cause())) {
        Ok(_) => failure,
        // That the lock was lost is said once, and matters more than what it did to the command.
        // Whether its entries are still staged is then up to whoever has, or had, the lock.
        Err(error) if error.code() == ErrorCode::LockLost => {
            if failure.is_about_the_lock() {
                failure
            } else {
                Failure::from(error).because(failure.cause().to_owned()).about(failure)
            }
        }
        // Both matter: what failed first, and that the lock is not as it should be.
        Err(error) => failure.because(error),
    }
}

/// The runs of one call that are done.
struct Done {
    runs: u64,
    entries: u64,
    left: u64,
    unusable: Vec<UnusableFile>,
    report: ReleaseReport,
}

impl Default for Done {
    fn default() -> Self {
        let report = ReleaseReport::default();
        Done { runs: 0, entries: 0, left: 0, unusable: Vec::new(), report }
    }
}

impl Done {
    fn add(&mut self, entries: u64, left: u64, unusable: Vec<UnusableFile>, report: ReleaseReport) {
        self.runs += 1;
        self.entries += entries;
        // Every run comes upon the same unusable files.
        (self.left, self.unusable) = (left, unusable);
        self.report.removed += report.removed;
        self.report.missing += report.missing;
        self.report.failed.extend(report.failed);
        self.report.lost |= report.lost;
    }

    /// A failure of a later run.
    fn before(&self, failure: Failure) -> Failure {
        if self.runs == 0 {
            return failure;
        }
        let entries = count(self.entries, "entry was", "entries were");
        failure.because(format_args!("{entries} consolidated before"))
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
    let mut announced = false;
    let mut interrupted = false;
    let lock = workspace.acquire_within(&arguments.lock(coexist), arguments.wait, |error, pause| {
        interrupted = !wait_for_lock(error, pause, arguments.wait, &mut announced, output, events);
        !interrupted
    });
    if interrupted {
        return Err(interrupted_while_waiting());
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

/// Waits for the next try, and says so once. False if a signal came.
pub(super) fn wait_for_lock(
    in_use: &crate::Error,
    pause: Duration,
    at_most: Duration,
    announced: &mut bool,
    output: &Output,
    events: &Events,
) -> bool {
    if !std::mem::replace(announced, true) {
        let why = in_use.guest().map_or_else(|| in_use.to_string(), |error| error.message.clone());
        output.note(format_args!("waiting up to {at_most:?}: {why}"));
    }
    !matches!(events.next_within(pause), Some(Event::Signal(_)))
}

pub(super) fn interrupted_while_waiting() -> Failure {
    Failure::interrupted("interrupted while waiting for the lock; nothing was done")
}

fn consolidate<'lock>(
    lock: &'lock Lock,
    listed: &mut Option<LockSnapshot<'lock>>,
    arguments: &Arguments,
    output: &Output,
    events: &Events,
) -> Result<Ended, Failure> {
    let mut reader = Reader { output, unusable: Vec::new(), entries: 0, done: false };
    let snapshot = match listed {
        Some(snapshot) => {
            snapshot.advance(arguments.limits())?;
            snapshot
        }
        None => {
            let snapshot = listed.insert(lock.snapshot(arguments.limits())?);
            reader.leave_out(snapshot.unusable()?);
            snapshot
        }
    };
    let first = reader.next(snapshot)?;
    if first.is_empty() {
        return Ok(Ended::NothingToDo { left: snapshot.left()?, unusable: reader.unusable });
    }
    // The lock names them before the command sees the first of them.
    lock.record_snapshot(snapshot)?;
    let status = supervise(lock, snapshot, &mut reader, first, arguments, events)?;
    if !status.success() {
        return Err(failed(&how_it_ended(status), status, None, snapshot));
    }
    // A command may exit 0 and leave input unread. It answers for that, but not for files that are not
    // usable: they must be told from the others before anything is deleted.
    while !reader.done {
        reader.next(snapshot)?;
    }
    lock.record_snapshot(snapshot)?;
    Ok(Ended::Success { entries: reader.entries, left: snapshot.left()?, unusable: reader.unusable })
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
    fn next(&mut self, snapshot: &LockSnapshot<'_>) -> Result<Vec<u8>, Failure> {
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

impl Reader<'_> {
    /// As [`Reader::next`], with the lock naming the entries that came in for unusable ones, before the command
    /// sees them.
    fn go_on(
        &mut self,
        lock: &Lock,
        snapshot: &LockSnapshot<'_>,
        is_capped: bool,
    ) -> Result<Vec<u8>, Failure> {
        let unusable = self.unusable.len();
        let lines = self.next(snapshot)?;
        if is_capped && self.unusable.len() > unusable && !lines.is_empty() {
            lock.record_snapshot(snapshot)?;
        }
        Ok(lines)
    }
}

/// Runs the command to its end. An interrupted one has failed, whatever its exit status, and so has one
/// whose lock was lost: it is stopped, since another owner's command may be at work beside it.
fn supervise(
    lock: &Lock,
    snapshot: &LockSnapshot<'_>,
    reader: &mut Reader<'_>,
    first: Vec<u8>,
    arguments: &Arguments,
    events: &Events,
) -> Result<ExitStatus, Failure> {
    let printed = if reader.output.is_json() { Printed::ToStderr } else { Printed::Passed };
    let mut command = Command::start(&arguments.command, lock.root(), printed, events)
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
    let is_capped = arguments.limits() != Limits::default();
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
                    match reader.go_on(lock, snapshot, is_capped) {
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
            Event::Printed(_) => {}
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
pub(super) const LOOK_AT_LOCK: Duration = Duration::from_millis(500);
pub(super) const GRACE: Duration = Duration::from_secs(5);

pub(super) const TERMINATE: i32 = 15;
pub(super) const KILL: i32 = 9;

pub(super) fn signal_name(signal: i32) -> String {
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

pub(super) fn how_it_ended(status: ExitStatus) -> String {
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
        json!({
            "outcome": "failed", "how": how, "entries": entries,
            "status": status.code(),
            "signal": ending_signal(status),
            "interrupted_by": interrupted_by,
        }),
    )
    .caused_by(format!("the command {how}"))
}

pub(super) fn skipped(output: &Output, reason: &str) -> Result<(), Failure> {
    output.result(&json!({ "outcome": "skipped", "reason": reason, "entries": 0 }), |out| {
        writeln!(out, "skipped: {}", printable(reason))
    })
}

fn nothing_to_do(output: &Output, left: u64, unusable: &[UnusableFile]) -> Result<(), Failure> {
    let document = json!({
        "outcome": "nothing_to_do", "entries": 0, "removed": 0, "missing": 0, "failed": [], "left": left,
        "unusable": unusable, "lock_lost": false,
    });
    output.result(&document, |out| write_nothing_to_do(out, left))
}

pub(super) fn write_nothing_to_do(out: &mut dyn Write, left: u64) -> io::Result<()> {
    match left {
        0 => writeln!(out, "nothing to do: no usable entry is staged"),
        _ => writeln!(
            out,
            "nothing to do: the caps leave no entry for this run; {}",
            count(left, "waits", "wait")
        ),
    }
}

/// What is told of a run whose result can't be printed.
pub(super) const DONE: &str = "the run is done and its entries are deleted";

fn consolidated(output: &Output, done: &Done) -> Result<(), Failure> {
    let Done { entries, left, unusable, report, .. } = done;
    let document = json!({
        "outcome": "consolidated", "entries": entries, "removed": report.removed, "missing": report.missing,
        "failed": report.failed, "left": left, "unusable": unusable, "lock_lost": report.lost,
    });
    output.result_of(DONE, &document, |out| {
        write!(out, "consolidated {}", count(*entries, "entry", "entries"))?;
        write_rest(out, report, *left)
    })
}

/// The end of a line that says what was consolidated, and the lines after it.
pub(super) fn write_rest(out: &mut dyn Write, report: &ReleaseReport, left: u64) -> io::Result<()> {
    if report.missing > 0 {
        write!(out, ", {} of them already gone", report.missing)?;
    }
    if left > 0 {
        write!(out, "; {} for the next run", count(left, "more waits", "more wait"))?;
    }
    writeln!(out)?;
    if report.lost {
        writeln!(out, "the lock was another's by the time they were deleted; the run was committed before")?;
    }
    for failed in &report.failed {
        writeln!(out, "not deleted, the next run tries again: {}: {}", failed.id, failed.reason)?;
    }
    Ok(())
}

/// The name of this pod: as given, else from the environment, else the host name.
pub(super) fn pod_name(given: Option<&str>) -> String {
    // An empty one, as a variable without a value gives it, names nobody.
    let names = [
        given.map(str::to_owned),
        std::env::var("CONSOLIDATION_POD").ok(),
        Some(crate::sys::command::host_name()),
    ];
    names.into_iter().flatten().find(|name| !name.is_empty()).unwrap_or_else(|| "consolidate".into())
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

/// A number of seconds that is not 0.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_seconds(text)? {
        Duration::ZERO => Err("expected a number of seconds above 0".to_owned()),
        timeout => Ok(timeout),
    }
}

pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds, 0 or more, for example 30 or 1.5".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}
