//! Real processes. Invariant: every wait is bounded, and what a test started is gone when the test is
//! over, however it ends.

use crate::support::{TestWorkspace, names};
use consolidation_guest::layout::EntryId;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The command under test.
pub(crate) const CONSOLIDATE: &str = env!("CARGO_BIN_EXE_consolidate");

/// For how long anything is waited for. Far more than it takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether it is there.
const GLANCE: Duration = Duration::from_millis(2);

/// In the environment of everything that a test starts, also of what its children start.
const MARK: &str = "CONSOLIDATION_TEST_PROCESS";

/// Waits, not for ever.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(GLANCE);
    }
}

/// A program that is going to be started, with nothing on its standard input.
pub(crate) struct Program {
    command: Command,
    input: Option<Vec<u8>>,
    mark: String,
}

impl Program {
    /// Any program, in an environment that says nothing to `consolidate`.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}.{}.", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(program);
        for name in [
            "CONSOLIDATION_ROOT",
            "CONSOLIDATION_POD",
            "CONSOLIDATION_LOG",
            "CONSOLIDATION_DURABILITY",
            "CONSOLIDATION_COEXIST",
            "COLUMNS",
        ] {
            command.env_remove(name);
        }
        command.env(MARK, &mark);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { command, input: None, mark }
    }

    /// `consolidate` without a workspace.
    pub(crate) fn consolidate<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Program::new(CONSOLIDATE).args(arguments)
    }

    /// A shell script, with `$CONSOLIDATE` for the command under test.
    pub(crate) fn shell(script: &str) -> Self {
        Program::new("sh").args(["-c", script]).env("CONSOLIDATE", CONSOLIDATE)
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// What it reads from its standard input.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(input.into());
        self
    }

    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// What it prints is of no interest. Then nobody has to wait for processes that it leaves behind.
    pub(crate) fn silent(mut self) -> Self {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        self
    }

    /// Starts it.
    #[track_caller]
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let mut threads = Vec::new();
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), self.input) {
            // It may end without reading all of it.
            threads.push(thread::spawn(move || drop(stdin.write_all(&input))));
        }
        let stdout = collect(child.stdout.take(), &mut threads);
        let stderr = collect(child.stderr.take(), &mut threads);
        Running { child, threads, stdout, stderr, mark: self.mark, orderly: false }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Ran {
        self.start().finish()
    }
}

type Collected = Arc<Mutex<Vec<u8>>>;

fn collect(from: Option<impl Read + Send + 'static>, threads: &mut Vec<JoinHandle<()>>) -> Collected {
    let collected = Collected::default();
    if let Some(mut from) = from {
        let to = Arc::clone(&collected);
        threads.push(thread::spawn(move || {
            let mut chunk = [0; 8192];
            while let Ok(read @ 1..) = from.read(&mut chunk) {
                to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..read]);
            }
        }));
    }
    collected
}

fn text(collected: &Collected) -> String {
    String::from_utf8_lossy(&collected.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// A process. It is killed, with everything that it started, unless it came to its end.
pub(crate) struct Running {
    child: Child,
    threads: Vec<JoinHandle<()>>,
    stdout: Collected,
    stderr: Collected,
    mark: String,
    orderly: bool,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed on standard error up to now.
    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It was not waited for yet, so its id is not another's.
        kill_process(Pid::from_child(&self.child), signal).expect("the signal is sent");
    }

    /// `kill -9`, of this process alone, which then is a zombie until it is reaped.
    pub(crate) fn kill(&mut self) {
        // This sends nothing if it ended and was waited for: its id may be another's by now.
        self.child.kill().expect("the process is killed");
    }

    /// Ends it and what it started, and waits until all of it is gone.
    pub(crate) fn kill_all(mut self) {
        self.end();
        self.orderly = true;
        wait_until("everything that was started is gone", || marked(&self.mark).is_empty());
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Waits for its end, and for that of everything that still could print.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for")
                && self.threads.iter().all(JoinHandle::is_finished)
            {
                break status;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "it does not end; up to now it printed\n{}\n{}",
                text(&self.stdout),
                text(&self.stderr)
            );
            thread::sleep(GLANCE);
        };
        self.orderly = true;
        Ran { status, out: text(&self.stdout), err: text(&self.stderr) }
    }

    fn end(&mut self) {
        // Errors: it ended already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in marked(&self.mark) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.orderly {
            self.end();
        }
    }
}

/// The processes with this mark in their environment. Only Linux can tell.
fn marked(mark: &str) -> Vec<Pid> {
    let entry = format!("{MARK}={mark}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
            let environment = fs::read(process.path().join("environ")).ok()?;
            environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes()).then_some(pid)
        })
        .collect()
}

/// How a process ended and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Checks how it ended. Whatever happens, nothing panics and nothing is coloured.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let Ran { status, out, err } = &self;
        assert_eq!(status.code(), Some(code), "{status}\n--- stdout\n{out}--- stderr\n{err}");
        assert!(!err.contains("panicked at"), "{err}");
        assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}'), "colours: {out:?} {err:?}");
        self
    }

    /// The lines on standard output.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.out.lines().map(str::to_owned).collect()
    }

    /// What stands on standard output, which must be one JSON document on one line.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let lines: Vec<&str> = self.out.split_terminator('\n').collect();
        assert!(lines.len() == 1 && self.out.ends_with('\n'), "not one line: {:?}\n{}", self.out, self.err);
        serde_json::from_str(lines[0]).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// The error in the JSON document, whose exit code must be that of the process.
    #[track_caller]
    pub(crate) fn json_error(&self) -> serde_json::Value {
        let mut document = self.json();
        let error = document["error"].take();
        assert_eq!(error["exit"].as_i64(), self.status.code().map(i64::from), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        error
    }
}

impl TestWorkspace {
    /// `consolidate` for this workspace, started in its root.
    pub(crate) fn consolidate<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Program {
        Program::new(CONSOLIDATE)
            .args([OsStr::new("--root"), self.root().as_os_str()])
            .args(arguments)
            .current_dir(self.root())
            .env("CONSOLIDATE", CONSOLIDATE)
    }

    /// `consolidate run` with a shell script as the command, which works in the root.
    pub(crate) fn run_shell(&self, options: &[&str], script: &str) -> Program {
        self.consolidate(["run", "--pod", "test-pod"]).args(options).args(["--", "sh", "-c", script])
    }

    /// Stages so many payloads with the command line.
    #[track_caller]
    pub(crate) fn stage(&self, count: usize) -> Vec<String> {
        let ids = self.consolidate(["stage"]).input(payloads(0..count)).run().exits(0).lines();
        assert_eq!(ids.len(), count);
        ids
    }

    /// The ids of what is named like an entry, in their order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let names = names(&self.staging());
        names.iter().filter_map(|name| EntryId::from_file_name(name)).map(|id| id.to_string()).collect()
    }

    /// Is there such a file in the root?
    pub(crate) fn has(&self, name: &str) -> bool {
        self.root().join(name).exists()
    }

    /// The text of a file in the root; none if it is missing.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap_or_default()
    }

    /// A run that holds the lock until [`Self::let_go`].
    #[track_caller]
    pub(crate) fn hold(&self) -> Running {
        self.hold_as("holder")
    }

    /// The same of a pod with this name.
    #[track_caller]
    pub(crate) fn hold_as(&self, pod: &str) -> Running {
        if self.ids().is_empty() {
            self.stage(1);
        }
        let script = format!("cat > taken; touch ready.{pod}; while [ ! -e go.{pod} ]; do sleep 0.01; done");
        let holder = self.consolidate(["run", "--pod", pod, "--", "sh", "-c", &script]).start();
        wait_until("the holder's command runs", || self.has(&format!("ready.{pod}")));
        holder
    }

    /// Lets the command of [`Self::hold`] end.
    pub(crate) fn let_go(&self) {
        self.let_go_of("holder");
    }

    pub(crate) fn let_go_of(&self, pod: &str) {
        fs::write(self.root().join(format!("go.{pod}")), "").expect("a file in the root");
    }
}

/// A payload that is told from others by its range.
pub(crate) fn payload(number: usize) -> String {
    format!(r#"{{"source":{{"segment_id":"pod-a/run-1","range":[{number},{number}]}}}}"#)
}

/// Payloads as JSON Lines.
pub(crate) fn payloads(numbers: std::ops::Range<usize>) -> String {
    numbers.map(|number| payload(number) + "\n").collect()
}

/// The ids in JSON Lines as a consolidator gets them.
#[track_caller]
pub(crate) fn ids_in(lines: &str) -> Vec<String> {
    let id = |line: &str| {
        let rest = line.strip_prefix("{\"id\":\"").unwrap_or_else(|| panic!("the id is not first: {line}"));
        let id = &rest[..EntryId::TEXT_LEN];
        assert!(EntryId::parse(id).is_some(), "{line}");
        id.to_owned()
    };
    lines.lines().map(id).collect()
}

/// Text for a snapshot: without what differs from run to run.
pub(crate) fn tidy(text: &str, workspace: &TestWorkspace) -> String {
    let root = workspace.root().canonicalize().expect("the root is there");
    let text = text.replace(&root.display().to_string(), "<root>");
    let text = text.replace(&workspace.root().display().to_string(), "<root>");
    let mut tidy = String::new();
    let mut rest = text.as_str();
    while let Some(next) = rest.chars().next() {
        let (replacement, length) = if rest.get(..EntryId::TEXT_LEN).and_then(EntryId::parse).is_some() {
            ("<id>", EntryId::TEXT_LEN)
        } else if let Some(length) = timestamp(rest) {
            ("<time>", length)
        } else if let Some(digits) =
            rest.strip_prefix("pid ").map(leading_digits).filter(|length| *length > 0)
        {
            ("pid <pid>", 4 + digits)
        } else if let Some(digits) =
            rest.strip_prefix("\"pid\":").map(leading_digits).filter(|length| *length > 0)
        {
            ("\"pid\":<pid>", 6 + digits)
        } else if let Some(digits) =
            rest.strip_prefix("process ").map(leading_digits).filter(|length| *length > 0)
        {
            ("process <pid>", 8 + digits)
        } else {
            tidy.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        tidy.push_str(replacement);
        rest = &rest[length..];
    }
    tidy
}

fn leading_digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// How long the RFC 3339 time in UTC is with which the text begins.
fn timestamp(text: &str) -> Option<usize> {
    let seconds = text.get(..19)?;
    let fits = seconds.bytes().zip(b"0000-00-00T00:00:00").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        other => byte == *other,
    });
    let end = 19 + text[19..].bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    (fits && text[end..].starts_with('Z')).then_some(end + 1)
}
