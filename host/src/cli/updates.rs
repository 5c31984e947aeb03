//! A command that prints updates, as a consolidator: a process for each batch. Invariant: what it printed
//! counts only if it ended with exit status 0; whatever else happens, it and its process group are gone
//! or on their way, and the batch has failed.

use super::command::{Command, Event, Events, Printed};
use super::run::{GRACE, KILL, LOOK_AT_LOCK, TERMINATE, how_it_ended, signal_name};
use crate::{Consolidator, ConsolidatorError, Draft, Entry, Error, ErrorCode, Lock, Update, Workspace};
use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// How many bytes it may print.
const MAX_PRINTED: u64 = 64 << 20;

/// For how long its output may stay open when it has ended. Processes that it left behind hold it.
const LINGER: Duration = Duration::from_secs(5);

/// EX_TEMPFAIL of sysexits.h: it may go better later.
const TRY_AGAIN: i32 = 75;
/// As shells have it: the command can't be run, or was not found.
const CANNOT_RUN: i32 = 126;
const NOT_FOUND: i32 = 127;

/// The command.
#[derive(Clone, Copy)]
pub(super) struct UpdatesCommand<'a> {
    command: &'a [OsString],
    workspace: &'a Workspace,
    /// None in a dry run.
    lock: Option<&'a Lock>,
    events: &'a Events,
    timeout: Option<Duration>,
}

impl<'a> UpdatesCommand<'a> {
    pub(super) fn new(
        command: &'a [OsString],
        workspace: &'a Workspace,
        events: &'a Events,
        timeout: Option<Duration>,
    ) -> Self {
        UpdatesCommand { command, workspace, lock: None, events, timeout }
    }

    /// The same, under a lock, which names its process group while it runs.
    pub(super) fn under<'b>(&self, lock: &'b Lock) -> UpdatesCommand<'b>
    where
        'a: 'b,
    {
        UpdatesCommand { lock: Some(lock), ..*self }
    }

    /// Runs it over some lines and gives what it printed.
    fn run(&self, lines: Vec<u8>) -> Result<Vec<u8>, ConsolidatorError> {
        let (root, printed) = (self.workspace.root(), Printed::Collected(MAX_PRINTED));
        let mut command = Command::start(self.command, root, printed, self.events)
            .map_err(|error| ConsolidatorError::Workspace(Error::engine("start the command", error)))?;
        let recorded = self.record_group(Some(command.group()));
        match recorded {
            Ok(()) => command.open_gate(),
            // The gate reads the end of its input and never becomes the command.
            Err(_) => command.end_input(),
        }
        let watched = self.watch(&mut command, lines);
        recorded?;
        let (how, printed) = watched?;
        if self.lock.is_some_and(Lock::is_lost) {
            // Says who has it.
            self.record_group(None)?;
        }
        if let Some(signal) = self.events.taken_signal() {
            let how = format!("the command was interrupted by {}", signal_name(signal));
            return Err(ConsolidatorError::Temporary(how));
        }
        self.record_group(None)?;
        // Whatever it made of that: it could not go on.
        if let Some(Ok(None)) = printed {
            let how = format!("the command printed more than {} MiB and was killed", MAX_PRINTED >> 20);
            return Err(ConsolidatorError::Batch(how));
        }
        match how {
            How::Ended(status) => judge(status)?,
            How::TimedOut(after) => {
                let how = format!("the command took longer than {after:?} and was killed");
                return Err(ConsolidatorError::Batch(how));
            }
        }
        match printed {
            Some(Ok(printed)) => Ok(printed.unwrap_or_default()),
            Some(Err(error)) => {
                Err(ConsolidatorError::Batch(format!("cannot read what the command prints: {error}")))
            }
            None => Err(ConsolidatorError::Batch(
                "the command ended and left a process behind that keeps its output open".into(),
            )),
        }
    }

    /// Feeds it, and waits until it has ended and everything that it printed is there.
    fn watch(
        &self,
        command: &mut Command,
        lines: Vec<u8>,
    ) -> Result<(How, Option<Collected>), ConsolidatorError> {
        let begun = Instant::now();
        let mut lines = Some(lines);
        let mut printed = None;
        let mut ended: Option<(ExitStatus, Instant)> = None;
        let mut lost_since = None;
        let mut timed_out = None;
        loop {
            match self.events.next_within(self.glance(begun, timed_out.is_some())) {
                None => {}
                Some(Event::Hungry) => match lines.take() {
                    Some(lines) => command.give(lines),
                    None => command.end_input(),
                },
                Some(Event::Printed(all)) => {
                    // Nobody reads what it prints from here on.
                    if !matches!(all, Ok(Some(_))) {
                        command.signal(KILL);
                    }
                    printed = Some(all);
                }
                // Whoever asks twice wants an end now.
                Some(Event::Signal(signal)) => {
                    command.signal(if self.events.take_signal(signal) { signal } else { KILL });
                }
                Some(Event::Ended(Ok(status))) => ended = Some((status, Instant::now())),
                Some(Event::Ended(Err(error))) => {
                    return Err(ConsolidatorError::Broken(format!("cannot wait for the command: {error}")));
                }
            }
            if let Some((status, since)) = ended {
                let over = since.elapsed() >= LINGER;
                if printed.is_some() || over {
                    let how = timed_out.map_or(How::Ended(status), How::TimedOut);
                    return Ok((how, printed));
                }
            }
            if let Some(after) = self.timeout.filter(|after| begun.elapsed() >= *after)
                && ended.is_none()
            {
                timed_out = Some(after);
                command.signal(KILL);
            }
            if self.lock.is_some_and(Lock::is_lost) {
                let since = *lost_since.get_or_insert_with(Instant::now);
                command.signal(if since.elapsed() < GRACE { TERMINATE } else { KILL });
            }
        }
    }

    /// How long to wait for an event before looking at the lock and the clock again.
    fn glance(&self, begun: Instant, is_timed_out: bool) -> Duration {
        match self.timeout {
            Some(timeout) if !is_timed_out => LOOK_AT_LOCK.min(timeout.saturating_sub(begun.elapsed())),
            _ => LOOK_AT_LOCK,
        }
    }

    fn record_group(&self, group: Option<u32>) -> Result<(), ConsolidatorError> {
        match self.lock {
            Some(lock) => lock.record_command_group(group).map_err(ConsolidatorError::Workspace),
            None => Ok(()),
        }
    }
}

type Collected = io::Result<Option<Vec<u8>>>;

/// How it came to its end.
enum How {
    Ended(ExitStatus),
    TimedOut(Duration),
}

fn judge(status: ExitStatus) -> Result<(), ConsolidatorError> {
    let how = format!("the command {}", how_it_ended(status));
    Err(match status.code() {
        Some(0) => return Ok(()),
        Some(TRY_AGAIN) => ConsolidatorError::Temporary(how),
        Some(CANNOT_RUN | NOT_FOUND) => ConsolidatorError::Broken(how),
        _ => ConsolidatorError::Batch(how),
    })
}

impl Consolidator for UpdatesCommand<'_> {
    fn name(&self) -> String {
        "the command".into()
    }

    fn reads_files(&self) -> bool {
        true
    }

    fn consolidate(&mut self, batch: &[Entry], _: &Draft<'_>) -> Result<Vec<Update>, ConsolidatorError> {
        let mut lines = Vec::new();
        for entry in batch {
            lines.extend_from_slice(entry.json.as_bytes());
            lines.push(b'\n');
        }
        let printed = self.run(lines)?;
        let printed = String::from_utf8(printed).map_err(|error| {
            let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            ConsolidatorError::Batch(format!("line {line} of its output is not UTF-8"))
        })?;
        self.workspace.parse_updates(&printed).map_err(no_updates)
    }
}

fn no_updates(error: Error) -> ConsolidatorError {
    let reason = error.guest().map_or_else(|| error.to_string(), |error| error.message.clone());
    match (&error, error.code(), error.index()) {
        (_, ErrorCode::InvalidInput, Some(index)) => {
            ConsolidatorError::Batch(format!("line {} of its output is no update: {reason}", index + 1))
        }
        (_, ErrorCode::InvalidInput, None) | (Error::OutOfMemory { .. } | Error::Timeout { .. }, _, _) => {
            ConsolidatorError::Batch(format!("its output can't be read: {reason}"))
        }
        _ => ConsolidatorError::Workspace(error),
    }
}
