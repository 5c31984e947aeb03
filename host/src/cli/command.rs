//! The command that consolidates: a child process, its input, its end, and the signals meant for it.
//! Invariant: everything that can happen arrives as an [`Event`] at one place, so that nothing is ever
//! waited for that may not come: a command may read nothing, close its input or never end. What is late
//! of one command is never taken for an event of the next.

use super::gate::GO;
use crate::sys::command as sys;
use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What happens while a command runs.
#[derive(Debug)]
pub(super) enum Event {
    /// The last input that was given is written; more can be given.
    Hungry,
    /// All that it printed, if that is collected; none: it is more than was allowed.
    Printed(io::Result<Option<Vec<u8>>>),
    /// It ended.
    Ended(io::Result<ExitStatus>),
    /// This process got a signal.
    Signal(i32),
}

/// A running command.
pub(super) struct Command {
    group: u32,
    input: Option<SyncSender<Vec<u8>>>,
}

/// What becomes of what a command prints on its standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    /// It goes to ours.
    Passed,
    /// It goes to our standard error.
    ToStderr,
    /// It is collected, at most so many bytes.
    Collected(u64),
}

/// Where events come together.
pub(super) struct Events {
    sender: Sender<Numbered>,
    receiver: Receiver<Numbered>,
    /// The number of the command that was started last.
    command: Cell<u64>,
    /// The first signal that was passed on to a command.
    taken: Cell<Option<i32>>,
    on_signal: Arc<Mutex<Option<OnSignal>>>,
}

/// With the number of the command that it is about; 0: of none.
type Numbered = (u64, Event);
type OnSignal = Box<dyn Fn(usize, i32) + Send>;

impl Events {
    /// From now on SIGINT, SIGTERM and SIGHUP are events, also for the first process of a container,
    /// for which the system has no default action.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = channel();
        let on_signal = Arc::<Mutex<Option<OnSignal>>>::default();
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
            let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
            let (sender, on_signal) = (sender.clone(), Arc::clone(&on_signal));
            thread::Builder::new().name("signals".into()).spawn(move || {
                for (count, signal) in signals.forever().enumerate() {
                    // First the event: what ends because of the act must find it.
                    let sent = sender.send((0, Event::Signal(signal)));
                    if let Some(act) = &*lock(&on_signal) {
                        act(count, signal);
                    }
                    if sent.is_err() {
                        break;
                    }
                }
            })?;
        }
        Ok(Events { sender, receiver, command: Cell::new(0), taken: Cell::new(None), on_signal })
    }

    /// What to do at once when a signal comes, on a thread of its own, with how many came before it: for
    /// work during which nobody waits for events.
    pub(super) fn on_signal(&self, act: impl Fn(usize, i32) + Send + 'static) {
        *lock(&self.on_signal) = Some(Box::new(act));
    }

    /// The next event, if there is one within this time.
    pub(super) fn next_within(&self, time: Duration) -> Option<Event> {
        let until = Instant::now().checked_add(time);
        loop {
            let left = until.map_or(time, |until| until.saturating_duration_since(Instant::now()));
            let (command, event) = self.receiver.recv_timeout(left).ok()?;
            if command == 0 || command == self.command.get() {
                return Some(event);
            }
        }
    }

    /// Notes a signal that a command is told of. False if it is not the first one.
    pub(super) fn take_signal(&self, signal: i32) -> bool {
        let is_first = self.taken.get().is_none();
        self.taken.set(self.taken.get().or(Some(signal)));
        is_first
    }

    /// The first signal that a command was told of.
    pub(super) fn taken_signal(&self) -> Option<i32> {
        self.taken.get()
    }

    /// The number of the next command, and where its events go.
    fn next_command(&self) -> (u64, Sender<Numbered>) {
        self.command.set(self.command.get() + 1);
        (self.command.get(), self.sender.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Command {
    /// Starts the gate that becomes the command once [`Command::open_gate`] is called.
    pub(super) fn start(
        command: &[OsString],
        root: &Path,
        printed: Printed,
        events: &Events,
    ) -> io::Result<Self> {
        // The gate is this program, which is there: what fails is refused by the system.
        Self::try_start(command, root, printed, events).map_err(|error| {
            io::Error::other(format!("{error}; look at the limits of this process (`ulimit -n`, `-u`, `-v`)"))
        })
    }

    fn try_start(command: &[OsString], root: &Path, printed: Printed, events: &Events) -> io::Result<Self> {
        let mut gate = std::process::Command::new(own_executable()?);
        gate.arg("__gate").arg("--").args(command).stdin(Stdio::piped());
        // For a command that stages something itself, or asks for the status.
        gate.env("CONSOLIDATION_WORKSPACE", root);
        match printed {
            Printed::Passed => {}
            Printed::ToStderr => drop(gate.stdout(sys::stderr_as_stdio()?)),
            Printed::Collected(_) => drop(gate.stdout(Stdio::piped())),
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut gate, 0);
        let mut child = gate.spawn()?;
        let group = child.id();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let (number, events) = events.next_command();
        let (input, chunks) = sync_channel(1);
        if let Some(stdin) = stdin {
            let events = events.clone();
            thread::Builder::new()
                .name("input".into())
                .spawn(move || feed(stdin, &chunks, number, &events))?;
        }
        if let (Some(stdout), Printed::Collected(most)) = (stdout, printed) {
            let events = events.clone();
            // The receiver is gone only when this process is about to end.
            let collect = move || drop(events.send((number, Event::Printed(collect(stdout, most)))));
            thread::Builder::new().name("output".into()).spawn(collect)?;
        }
        thread::Builder::new()
            .name("command".into())
            .spawn(move || drop(events.send((number, Event::Ended(child.wait())))))?;
        Ok(Command { group, input: Some(input) })
    }

    /// The process group of the command, which is the process id of its first process.
    pub(super) fn group(&self) -> u32 {
        self.group
    }

    /// Lets the command begin.
    pub(super) fn open_gate(&self) {
        self.give(vec![GO]);
    }

    /// Gives it input. Only when it is hungry, so this does not block.
    pub(super) fn give(&self, chunk: Vec<u8>) {
        if let Some(input) = &self.input {
            // If it closed its input, its exit status says what that means.
            let _ = input.send(chunk);
        }
    }

    /// There is no more input.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    /// Sends a signal to all processes of the command.
    pub(super) fn signal(&self, signal: i32) {
        sys::signal_group(self.group, signal);
    }
}

fn feed(mut stdin: ChildStdin, chunks: &Receiver<Vec<u8>>, number: u64, events: &Sender<Numbered>) {
    for chunk in chunks {
        // EPIPE: it reads no more. What it was given is given; its exit status decides.
        if stdin.write_all(&chunk).is_err() || events.send((number, Event::Hungry)).is_err() {
            return;
        }
    }
}

fn collect(stdout: ChildStdout, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut printed = Vec::new();
    stdout.take(most.saturating_add(1)).read_to_end(&mut printed)?;
    Ok((printed.len() as u64 <= most).then_some(printed))
}

/// This program, also if its file was replaced or removed since it was started.
fn own_executable() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe()
}
