//! The command that consolidates: a child process, its input, its end, and the signals meant for it.
//! Invariant: everything that can happen arrives as an [`Event`] at one place, so that nothing is ever
//! waited for that may not come: a command may read nothing, close its input or never end.

use super::gate::GO;
use crate::sys::command as sys;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// What happens while a command runs.
#[derive(Debug)]
pub(super) enum Event {
    /// The last input that was given is written; more can be given.
    Hungry,
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

/// Where events come together.
pub(super) struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    /// From now on SIGINT, SIGTERM and SIGHUP are events, also for the first process of a container,
    /// for which the system has no default action.
    pub(super) fn new() -> io::Result<Self> {
        let (sender, receiver) = channel();
        #[cfg(unix)]
        {
            use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
            let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
            let sender = sender.clone();
            thread::Builder::new().name("signals".into()).spawn(move || {
                for signal in signals.forever() {
                    if sender.send(Event::Signal(signal)).is_err() {
                        break;
                    }
                }
            })?;
        }
        Ok(Events { sender, receiver })
    }

    /// The next event, if there is one within this time.
    pub(super) fn next_within(&self, time: std::time::Duration) -> Option<Event> {
        self.receiver.recv_timeout(time).ok()
    }
}

impl Command {
    /// Starts the gate that becomes the command once [`Command::open_gate`] is called.
    pub(super) fn start(
        command: &[OsString],
        root: &Path,
        output_to_stderr: bool,
        events: &Events,
    ) -> io::Result<Self> {
        let mut gate = std::process::Command::new(own_executable()?);
        gate.arg("__gate").arg("--").args(command).stdin(Stdio::piped());
        // For a command that stages something itself, or asks for the status.
        gate.env("CONSOLIDATION_WORKSPACE", root);
        if output_to_stderr {
            gate.stdout(sys::stderr_as_stdio()?);
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut gate, 0);
        let mut child = gate.spawn()?;
        let group = child.id();
        let stdin = child.stdin.take();
        let (input, chunks) = sync_channel(1);
        if let Some(stdin) = stdin {
            let events = events.sender.clone();
            thread::Builder::new().name("input".into()).spawn(move || feed(stdin, &chunks, &events))?;
        }
        let ended = events.sender.clone();
        thread::Builder::new().name("command".into()).spawn(move || wait(child, &ended))?;
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

fn feed(mut stdin: ChildStdin, chunks: &Receiver<Vec<u8>>, events: &Sender<Event>) {
    for chunk in chunks {
        // EPIPE: it reads no more. What it was given is given; its exit status decides.
        if stdin.write_all(&chunk).is_err() || events.send(Event::Hungry).is_err() {
            return;
        }
    }
}

fn wait(mut child: Child, events: &Sender<Event>) {
    // The receiver is gone only when this process is about to end.
    let _ = events.send(Event::Ended(child.wait()));
}

/// This program, also if its file was replaced or removed since it was started.
fn own_executable() -> io::Result<PathBuf> {
    let link = Path::new("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() {
        return Ok(link.to_owned());
    }
    std::env::current_exe()
}
