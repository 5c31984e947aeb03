//! The shipped binary: processes that stage, run, look and unlock all the time, and one thread that
//! kills, stops and interrupts them and the commands of the runs.
//!
//! A command notes by itself whether it is alone, by two locks of the kernel's that end with whoever
//! holds them: `alone`, which only its first process holds, and `group`, which all of its processes hold.
//! The first one must never be held by two. The second one tells whether a command whose `consolidate`
//! was killed keeps the lock while any process of it lives; a run that lives does not wait for processes
//! that its command leaves behind, so what was struck under a living run proves nothing. Invariant:
//! a signal that may end a command is noted before it is sent.

use super::checker::{Event, Run};
use super::{Chance, Odd, Scene, count, counts, for_the_time, number_of, payload, run_of};
use crate::cli::process::{PATIENCE, Program, Ran, ids_in};
use crate::support::names;
use consolidation_guest::layout::EntryId;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, setpriority_process, waitid,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How many there are at the most.
const MAX_PROCESSES: usize = 32;

/// So many entries wait at the most before nobody stages any more.
const MAX_BACKLOG: u64 = 3_000;

/// Notes whether it is alone, then what it gets, and at its very end that it has dealt with it.
const COMMAND: &str = r#"
    exec > /dev/null 2>&1 3> "$LOGS/alone" 4> "$LOGS/group"
    log() { echo "$*" >> "$LOGS/log"; }
    flock -n -E 99 3 4>&-
    case $? in 0) ;; 99) log overlap "$RUN" ;; *) exit 1 ;; esac
    flock -n -E 99 4 3>&-
    case $? in 0) ;; 99) log leftover "$RUN" ;; *) exit 1 ;; esac
    log entered "$RUN"
    log command "$RUN" "$$"
    if [ "$MODE" = partial ]; then head -n 3 > "$LOGS/got.$RUN" 3>&-; exit 1; fi
    cat > "$LOGS/got.$RUN" 3>&- || exit 1
    if [ "$PACE" != 0 ]; then sleep "$PACE" 3>&- || exit 1; fi
    if [ "$MODE" = fail ]; then exit 3; fi
    log done "$RUN""#;

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Stage,
    Run(Run),
    Look,
}

/// A process that was started and not yet waited for: its id is not another's.
struct Process {
    pid: Pid,
    kind: Kind,
    signals: Vec<Signal>,
}

/// The first process of a command.
#[derive(Clone, Copy)]
struct Command {
    run: Run,
    pid: Pid,
}

/// What is continued later.
enum Stopped {
    Process(u64),
    Group(Pid),
}

counts!(
    Counts: processes, stagings, acknowledged, runs, consolidated, removed, in_use, failed, takeovers, looks,
    kills, stops, interrupts, commands_struck, orphans, ambushes
);

struct Torture<'a> {
    scene: &'a Scene,
    logs: PathBuf,
    log: File,
    processes: Mutex<BTreeMap<u64, Process>>,
    /// Who is stopped, and until when.
    stopped: Mutex<Vec<(Instant, Stopped)>>,
    /// Runs whose command got a signal, from us or by way of its `consolidate`.
    hit: Mutex<HashSet<Run>>,
    odd: Odd,
    counts: Counts,
    /// How many may be there at this moment.
    wanted: AtomicUsize,
    over: AtomicBool,
    next_process: AtomicU64,
    next_run: AtomicU32,
    next_number: AtomicU64,
    /// How many entries are there, lately.
    waiting: AtomicU64,
}

impl<'a> Torture<'a> {
    fn new(scene: &'a Scene) -> Self {
        let logs = scene.root().join("torture");
        fs::create_dir(&logs).expect("a directory for notes");
        let log = File::options().append(true).create(true).open(logs.join("log")).expect("a log");
        Torture {
            scene,
            logs,
            log,
            processes: Mutex::default(),
            stopped: Mutex::default(),
            hit: Mutex::default(),
            odd: Odd::default(),
            counts: Counts::default(),
            wanted: AtomicUsize::new(2),
            over: AtomicBool::new(false),
            next_process: AtomicU64::new(0),
            next_run: AtomicU32::new(0),
            next_number: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
        }
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn processes(&self) -> MutexGuard<'_, BTreeMap<u64, Process>> {
        self.processes.lock().expect("no panic in between")
    }

    fn hit(&self, run: Run) {
        self.hit.lock().expect("no panic in between").insert(run);
    }

    /// Appends lines to the log, in one piece.
    fn note(&self, events: impl IntoIterator<Item = Event>) {
        let lines: String = events.into_iter().map(|event| format!("{event}\n")).collect();
        (&self.log).write_all(lines.as_bytes()).expect("the log grows");
    }

    /// Does what one of many does, as long as it is wanted.
    fn work(&self, place: usize, mut chance: Chance) {
        while !self.over() {
            if place >= self.wanted.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            // The first two see to it that all goes on when nobody else is there.
            match (place, chance.within(0..100)) {
                (0, _) | (2.., 0..35) if self.waiting.load(Ordering::Relaxed) < MAX_BACKLOG => {
                    self.stage(&mut chance);
                }
                (0 | 2.., 0..50) => self.look(&mut chance),
                _ => self.run(&mut chance),
            }
            chance.pause(Duration::from_millis(10));
        }
    }

    /// Starts a process and waits for its end. Returns what signals it got.
    fn supervise(&self, program: Program, kind: Kind) -> (Ran, Vec<Signal>) {
        count(&self.counts.processes);
        let mut running = program.start();
        let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a process id")).expect("a process id");
        // Other tests run at the same time. It may have ended already.
        let _ = setpriority_process(Some(pid), 5);
        let key = self.next_process.fetch_add(1, Ordering::Relaxed);
        self.processes().insert(key, Process { pid, kind, signals: Vec::new() });
        while let Err(Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        }
        let signals = {
            // Whoever sends signals has this lock: until here the id is not another's.
            let mut processes = self.processes();
            assert!(running.has_ended(), "it was waited for");
            processes.remove(&key).expect("it stands there").signals
        };
        (running.finish(), signals)
    }

    fn unexpected(&self, kind: Kind, ran: &Ran, signals: &[Signal]) {
        self.odd.note(format!("{kind:?} got {signals:?} and ended unexpectedly: {ran:?}"));
    }

    /// Whatever it did, it did not panic and ended by its own will or by a signal that was sent.
    fn look_at_end(&self, kind: Kind, ran: &Ran, signals: &[Signal]) {
        let killed_by_nobody =
            ran.status.signal().is_some_and(|by| !signals.iter().any(|signal| signal.as_raw() == by));
        if killed_by_nobody || ran.err.contains("panicked") {
            self.unexpected(kind, ran, signals);
        }
        if ran.err.contains("removed the lock of a dead owner") {
            count(&self.counts.takeovers);
        }
        // Without force nobody ever loses a lock.
        if ["by force", "lock was lost", "no longer ours", "unreadable"]
            .iter()
            .any(|words| ran.err.contains(words))
        {
            self.unexpected(kind, ran, signals);
        }
    }

    fn stage(&self, chance: &mut Chance) {
        let many = if chance.one_in(40) { chance.within(100..800) } else { chance.within(1..30) };
        let first = self.next_number.fetch_add(many, Ordering::Relaxed);
        self.note([Event::Intended { first, count: many }]);
        let input: String = (first..first + many).map(|number| payload(number) + "\n").collect();
        let program = self.scene.consolidate(["stage"]).input(input).env(DURABILITY, durability(chance));
        let (ran, signals) = self.supervise(program, Kind::Stage);
        self.look_at_end(Kind::Stage, &ran, &signals);
        if ran.status.code().is_some_and(|code| code != 0) {
            self.unexpected(Kind::Stage, &ran, &signals);
        }
        // A killed one may have printed some of the ids. A line that is whole is an acknowledgement.
        let lines = ran.out.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let ids: Option<Vec<EntryId>> = lines.map(EntryId::parse).collect();
        let Some(ids) = ids.filter(|ids| if ran.status.success() { ids.len() as u64 == many } else { true })
        else {
            return self.unexpected(Kind::Stage, &ran, &signals);
        };
        self.note((first..).zip(&ids).map(|(number, &id)| Event::Staged { number, id }));
        count(&self.counts.stagings);
        self.counts.acknowledged.fetch_add(ids.len() as u64, Ordering::Relaxed);
    }

    fn run(&self, chance: &mut Chance) {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        let kind = Kind::Run(run);
        let mode = match chance.within(0..20) {
            0 | 1 => "fail",
            2 => "partial",
            _ => "well",
        };
        let pace = *chance.of(&["0", "0", "0", "0.002", "0.01", "0.03", "0.15"]);
        let wait = *chance.of(&["0", "0", "0.05", "0.2", "1", "5"]);
        let lease = *chance.of(&["0", "1", "60"]);
        let mut options = vec!["--wait".to_owned(), wait.into(), "--lease".into(), lease.into()];
        match chance.within(0..4) {
            0 => options.extend(["--max-entries".into(), chance.within(1..100).to_string()]),
            1 => options.extend(["--max-bytes".into(), chance.within(1..100_000).to_string()]),
            _ => {}
        }
        let program = self.run_command(run, &options, mode, pace).env(DURABILITY, durability(chance));
        count(&self.counts.runs);
        let (ran, signals) = self.supervise(program, kind);
        self.look_at_end(kind, &ran, &signals);
        // One that was killed at its end may have printed its report.
        let document: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        match (document["outcome"].as_str(), document["error"]["code"].as_str(), ran.status.code()) {
            (Some("consolidated"), None, Some(0) | None) => self.take_report(run, &document, &ran, &signals),
            (Some("nothing_to_do"), None, Some(0) | None) => {}
            (None, Some("in_use"), Some(75) | None) => {
                count(&self.counts.in_use);
                self.note([Event::Kept { run }]);
            }
            (None, Some("interrupted"), Some(70 | 75) | None) if !signals.is_empty() => {
                self.note([Event::Kept { run }]);
            }
            (None, Some("consolidator_failed"), Some(70) | None)
                if mode != "well" || self.hit.lock().expect("no panic in between").contains(&run) =>
            {
                count(&self.counts.failed);
                self.note([Event::Kept { run }]);
            }
            (None, None, None) => {}
            _ => self.unexpected(kind, &ran, &signals),
        }
    }

    /// `consolidate run` with a command that notes what it gets.
    fn run_command(&self, run: Run, options: &[String], mode: &str, pace: &str) -> Program {
        self.scene
            .consolidate(["--json", "run", "--pod", &format!("pod-{run}")])
            .args(options)
            .args(["--", "sh", "-c", COMMAND])
            .env("RUN", run.to_string())
            .env("LOGS", &self.logs)
            .env("MODE", mode)
            .env("PACE", pace)
    }

    fn take_report(&self, run: Run, report: &Value, ran: &Ran, signals: &[Signal]) {
        let removed = report["removed"].as_u64();
        let all = removed.is_some() && report["entries"].as_u64() == removed && report["missing"] == 0;
        let none = |list: &str| report[list] == json!([]);
        if !all || !none("failed") || !none("unusable") || report["lock_lost"] != false {
            self.unexpected(Kind::Run(run), ran, signals);
        }
        let removed = removed.unwrap_or_default();
        self.note([Event::Reported { run, removed }]);
        count(&self.counts.consolidated);
        self.counts.removed.fetch_add(removed, Ordering::Relaxed);
    }

    fn look(&self, chance: &mut Chance) {
        let what = *chance.of(&["status", "list", "unlock", "log", "doctor", "doctor --fix"]);
        let program = self.scene.consolidate(what.split(' ')).args(["--json"]);
        let (ran, signals) = self.supervise(program, Kind::Look);
        count(&self.counts.looks);
        self.look_at_end(Kind::Look, &ran, &signals);
        let Some(code) = ran.status.code() else { return };
        let document = ran.json();
        let fits = match what {
            "status" => {
                let state = document["lock"]["state"].as_str();
                code == 0
                    && document["unusable"] == json!([])
                    && state.is_some_and(|state| ["free", "held", "stale"].contains(&state))
            }
            "list" => code == 0 && document["unusable"] == json!([]),
            "log" => code == 0 && document["unreadable"] == json!([]),
            "doctor" | "doctor --fix" if code < 2 => {
                // What dies is left over, and nothing is ever spoilt.
                let left_over = ["stale_lock", "dead_flag", "temporary", "unfinished_run"];
                let findings = document["findings"].as_array();
                findings.is_some_and(|findings| {
                    findings.iter().all(|finding| left_over.iter().any(|kind| finding["kind"] == *kind))
                })
            }
            _ if code == 0 => document["removed"].is_null() || document["removed"]["kind"] == "stale",
            _ => code == 75 && document["error"]["code"] == "in_use",
        };
        if !fits {
            self.unexpected(Kind::Look, &ran, &signals);
        }
    }
}

/// The disturbance.
impl Torture<'_> {
    fn torment(&self, mut chance: Chance, time: Duration) {
        let begun = Instant::now();
        let mut tail = Tail::new(&self.logs.join("log"));
        let mut commands = VecDeque::new();
        let (mut change, mut look) = (begun, begun);
        let mut sizes = [2, MAX_PROCESSES, 4, 16, 8].into_iter();
        while begun.elapsed() < time && !self.over() {
            if change <= Instant::now() {
                change += (time / 8).clamp(Duration::from_millis(500), Duration::from_secs(4));
                let size = sizes.next().unwrap_or_else(|| *chance.of(&[2, 4, 8, 16, MAX_PROCESSES]));
                self.wanted.store(size, Ordering::Relaxed);
            }
            if look <= Instant::now() {
                look = Instant::now() + Duration::from_millis(100);
                self.waiting.store(self.scene.ids().len() as u64, Ordering::Relaxed);
            }
            tail.follow(&mut commands);
            match chance.within(0..100) {
                0..35 => self.send_to_any(&mut chance, Signal::KILL),
                35..65 => self.stop(&mut chance),
                65..75 => {
                    let signal = *chance.of(&[Signal::TERM, Signal::INT, Signal::HUP]);
                    self.send_to_any(&mut chance, signal);
                }
                75..77 => self.strike(&mut chance, &commands),
                77..79 => self.stop_command(&mut chance, &commands),
                79..81 => self.orphan(&mut chance, &commands),
                81..87 => self.ambush(&mut chance, &mut tail, &mut commands),
                _ => {}
            }
            chance.pause(Duration::from_millis(15));
            self.resume(Instant::now());
        }
    }

    /// Sends a signal, if the process is there still.
    fn send(&self, key: u64, signal: Signal) -> bool {
        let mut processes = self.processes();
        let Some(process) = processes.get_mut(&key) else { return false };
        if let Kind::Run(run) = process.kind
            && [Signal::TERM, Signal::INT, Signal::HUP].contains(&signal)
        {
            // It passes it on.
            self.hit(run);
            self.note([Event::Struck { run }]);
        }
        process.signals.push(signal);
        kill_process(process.pid, signal).expect("the signal is sent");
        let counts = &self.counts;
        match signal {
            Signal::KILL => count(&counts.kills),
            Signal::STOP => count(&counts.stops),
            Signal::CONT => {}
            _ => count(&counts.interrupts),
        }
        true
    }

    /// Any process, or none where there could be one: few are not disturbed more often than many.
    fn any_process(&self, chance: &mut Chance) -> Option<u64> {
        let keys: Vec<u64> = self.processes().keys().copied().collect();
        let at = chance.within(0..MAX_PROCESSES as u64);
        keys.get(usize::try_from(at).expect("an index")).copied()
    }

    fn send_to_any(&self, chance: &mut Chance, signal: Signal) {
        if let Some(key) = self.any_process(chance) {
            self.send(key, signal);
        }
    }

    fn stop(&self, chance: &mut Chance) {
        if let Some(key) = self.any_process(chance)
            && self.send(key, Signal::STOP)
        {
            self.resume_later(chance, Stopped::Process(key));
        }
    }

    fn resume_later(&self, chance: &mut Chance, who: Stopped) {
        // Most of the time soon, and sometimes later than contenders wait for each other.
        let longest = if chance.one_in(20) { 2_500 } else { 100 };
        let until = Instant::now() + chance.shorter_than(Duration::from_millis(longest));
        self.stopped.lock().expect("no panic in between").push((until, who));
    }

    /// Lets those go on who were to be stopped until then.
    fn resume(&self, now: Instant) {
        self.stopped.lock().expect("no panic in between").retain(|(until, who)| {
            if *until > now {
                return true;
            }
            match who {
                Stopped::Process(key) => {
                    self.send(*key, Signal::CONT);
                }
                // Its first process may be gone while others wait. If the group is another's by now it
                // does not mind. ESRCH: it ended.
                Stopped::Group(group) => {
                    let _ = kill_process_group(*group, Signal::CONT);
                }
            }
            false
        });
    }

    /// Is this process the first one of the run's command, and no other that got its id?
    fn is_there(&self, command: Command) -> bool {
        let path = format!("/proc/{}/environ", command.pid.as_raw_nonzero());
        let Ok(environment) = fs::read(path) else { return false };
        let has =
            |variable: String| environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes());
        has(format!("RUN={}", command.run)) && has(format!("LOGS={}", self.logs.display()))
    }

    fn any_command(&self, chance: &mut Chance, commands: &VecDeque<Command>) -> Option<Command> {
        let there: Vec<Command> =
            commands.iter().copied().filter(|command| self.is_there(*command)).collect();
        (!there.is_empty()).then(|| *chance.of(&there))
    }

    /// Ends a command, or one process of it.
    fn strike(&self, chance: &mut Chance, commands: &VecDeque<Command>) {
        let Some(command) = self.any_command(chance, commands) else { return };
        self.hit(command.run);
        self.note([Event::Struck { run: command.run }]);
        let signal = *chance.of(&[Signal::KILL, Signal::KILL, Signal::TERM]);
        let _ = match chance.within(0..3) {
            0 => kill_process(command.pid, signal),
            1 => kill_process_group(command.pid, signal),
            _ => child_of(command.pid).map_or(Ok(()), |child| kill_process(child, signal)),
        };
        count(&self.counts.commands_struck);
    }

    fn stop_command(&self, chance: &mut Chance, commands: &VecDeque<Command>) {
        let Some(command) = self.any_command(chance, commands) else { return };
        let _ = match chance.one_in(2) {
            true => kill_process(command.pid, Signal::STOP),
            false => kill_process_group(command.pid, Signal::STOP),
        };
        self.resume_later(chance, Stopped::Group(command.pid));
        count(&self.counts.stops);
    }

    /// Kills the run of a command, and sometimes then the first process of the command: the others keep
    /// the lock.
    fn orphan(&self, chance: &mut Chance, commands: &VecDeque<Command>) {
        let Some(command) = self.any_command(chance, commands) else { return };
        let Some(key) = self.process_of(command.run) else { return };
        self.send(key, Signal::KILL);
        count(&self.counts.orphans);
        if chance.one_in(2) {
            return;
        }
        let begun = Instant::now();
        while self.processes().contains_key(&key) {
            // It is reaped by a thread that has nothing else to do.
            if begun.elapsed() > PATIENCE {
                return self.odd.note(format!("run {} was killed and is still there", command.run));
            }
            thread::sleep(Duration::from_micros(200));
        }
        chance.pause(Duration::from_millis(5));
        self.hit(command.run);
        self.note([Event::OrphanStruck { run: command.run }]);
        if self.is_there(command) {
            let _ = kill_process(command.pid, Signal::KILL);
        }
    }

    fn process_of(&self, run: Run) -> Option<u64> {
        self.processes().iter().find(|(_, process)| process.kind == Kind::Run(run)).map(|(key, _)| *key)
    }

    /// Waits for the next command that begins or ends, and disturbs its run right then, or a moment later,
    /// or when it commits: after the end of a command come the commit, the deletes and the release.
    fn ambush(&self, chance: &mut Chance, tail: &mut Tail, commands: &mut VecDeque<Command>) {
        let run = within(Duration::from_millis(100), || {
            thread::sleep(Duration::from_micros(100));
            tail.follow(commands)
        });
        let Some(run) = run else { return };
        let Some(key) = self.process_of(run) else { return };
        match chance.within(0..4) {
            0 => {}
            1 => chance.pause(Duration::from_millis(3)),
            _ => {
                let unfinished = self.scene.unfinished();
                let ending = *chance.of(&[".open", ".committed"]);
                within(Duration::from_millis(10), || {
                    names(&unfinished).iter().any(|name| name.ends_with(ending)).then_some(())
                });
            }
        }
        let signal = *chance.of(&[Signal::KILL, Signal::KILL, Signal::KILL, Signal::STOP, Signal::TERM]);
        if self.send(key, signal) {
            count(&self.counts.ambushes);
            if signal == Signal::STOP {
                self.resume_later(chance, Stopped::Process(key));
            }
        }
    }

    /// Waits until all processes have ended, which they do.
    fn settle(&self) {
        let begun = Instant::now();
        while !self.processes().is_empty() {
            if begun.elapsed() > PATIENCE {
                for process in self.processes().values() {
                    let what =
                        format!("{:?}, pid {:?}, signals {:?}", process.kind, process.pid, process.signals);
                    self.odd.note(format!("does not end: {what}"));
                    let _ = kill_process(process.pid, Signal::KILL);
                }
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

const DURABILITY: &str = "CONSOLIDATION_DURABILITY";

fn durability(chance: &mut Chance) -> &'static str {
    if chance.one_in(3) { "none" } else { "full" }
}

/// What there is to see, if it can be seen in time. Looks without a break: some of it is there for less
/// than a sleep takes.
fn within<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let seen = look();
        if seen.is_some() || begun.elapsed() > time {
            return seen;
        }
        thread::yield_now();
    }
}

/// The first child, if there is any. Only Linux can tell.
fn child_of(pid: Pid) -> Option<Pid> {
    let pid = pid.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)
}

/// Reads on in a log that grows.
struct Tail {
    file: File,
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: &Path) -> Self {
        Tail { file: File::open(path).expect("the log is there"), rest: Vec::new() }
    }

    /// Takes note of commands that began and ended, and names the last of them.
    fn follow(&mut self, commands: &mut VecDeque<Command>) -> Option<Run> {
        self.file.read_to_end(&mut self.rest).expect("the log is read");
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        let lines = String::from_utf8(lines).expect("the log is text");
        let mut last = None;
        for line in lines.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["command", run, pid] => {
                    let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a process id");
                    let run = run.parse().expect("a run");
                    commands.push_back(Command { run, pid });
                    last = Some(run);
                }
                ["done", run] => {
                    let run = run.parse().expect("a run");
                    commands.retain(|command| command.run != run);
                    last = Some(run);
                }
                _ => {}
            }
        }
        while commands.len() > 2 * MAX_PROCESSES {
            commands.pop_front();
        }
        last
    }
}

/// The end.
impl Torture<'_> {
    /// What the runs came to, as it stands on the disk.
    fn outcomes(&self) -> Vec<Event> {
        let log = self.scene.consolidate(["log", "--json", "-n", "1000000"]).run().exits(0).json();
        if log["unreadable"] != json!([]) {
            self.odd.note(format!("outcomes that can't be read: {}", log["unreadable"]));
        }
        let (mut events, mut runs) = (Vec::new(), HashSet::new());
        for row in log["runs"].as_array().expect("a list") {
            if row["ending"] == "aborted" && row["owner"]["pid"] == 0 {
                // Its owner was killed before it had written who it is.
                continue;
            }
            let run = row["owner"]["pod_name"].as_str().and_then(run_of);
            let Some(run) = run.filter(|run| runs.insert(*run) && row["pending"] == false) else {
                self.odd.note(format!("an odd outcome: {row}"));
                continue;
            };
            let ids = row["entry_ids"].as_array().expect("a list").iter();
            let ids: Vec<EntryId> =
                ids.map(|id| id.as_str().and_then(EntryId::parse).expect("an id")).collect();
            match row["ending"].as_str() {
                Some("consolidated") => events.extend(ids.iter().map(|&id| Event::Committed { run, id })),
                Some("failed" | "aborted") => {}
                _ => self.odd.note(format!("an odd outcome: {row}")),
            }
        }
        events
    }

    /// The last run takes everything and leaves nothing.
    fn drain(&self) {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        self.scene.let_temporaries_age();
        let stage = self.next_number.fetch_add(1, Ordering::Relaxed);
        self.note([Event::Intended { first: stage, count: 1 }]);
        let staged = self.scene.consolidate(["stage"]).input(payload(stage)).run().exits(0).lines();
        self.note([Event::Staged { number: stage, id: EntryId::parse(&staged[0]).expect("an id") }]);
        let ran = self.run_command(run, &["--wait".into(), "60".into()], "well", "0").run();
        match ran.status.code() {
            Some(0) => self.take_report(run, &ran.json(), &ran, &[]),
            _ => self.odd.note(format!("the last run: {ran:?}")),
        }
        self.scene.note_what_is_left(&self.odd);
        let found = self.scene.consolidate(["doctor", "--json"]).run();
        if !found.status.success() {
            self.odd.note(format!("something is out of order: {}", found.out));
        }
    }

    /// All that was noted, by us and by the commands.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut done = Vec::new();
        for line in fs::read_to_string(self.logs.join("log")).expect("the log is read").lines() {
            if let Some(run) = line.strip_prefix("done ") {
                done.push(run.parse().expect("a run"));
            } else if !line.starts_with("command ") {
                match line.parse() {
                    Ok(event) => events.push(event),
                    Err(no_event) => self.odd.note(format!("{no_event:?}")),
                }
            }
        }
        let mut handed: BTreeMap<Run, Vec<EntryId>> = BTreeMap::new();
        for run in 0..self.next_run.load(Ordering::Relaxed) {
            let Ok(lines) = fs::read_to_string(self.logs.join(format!("got.{run}"))) else { continue };
            // The last one may be cut off.
            for line in lines.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let id = EntryId::parse(&ids_in(line)[0]).expect("an id");
                match number_of(line) {
                    Some(number) => events.push(Event::Handed { run, number, id }),
                    None => self.odd.note(format!("run {run} got {line}")),
                }
                handed.entry(run).or_default().push(id);
            }
        }
        // A command that came to its end has dealt with all that it got.
        for run in done {
            let ids = handed.get(&run).into_iter().flatten();
            events.extend(ids.map(|&id| Event::Consumed { run, id }));
        }
        events.extend(self.outcomes());
        let left = self.scene.ids();
        events.extend(left.iter().filter_map(|id| EntryId::parse(id)).map(|id| Event::Left { id }));
        events
    }
}

/// Whatever happens to one thread, all come to an end, and nothing stays stopped.
struct Stop<'a>(&'a Torture<'a>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        let torture = self.0;
        torture.over.store(true, Ordering::Relaxed);
        let far = Instant::now() + PATIENCE;
        if !thread::panicking() {
            torture.resume(far);
            return;
        }
        for (_, who) in torture.stopped.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Stopped::Group(group) = who {
                let _ = kill_process_group(*group, Signal::CONT);
            }
        }
        for process in torture.processes.lock().unwrap_or_else(PoisonError::into_inner).values() {
            let _ = kill_process(process.pid, Signal::KILL);
        }
    }
}

fn round(mut chance: Chance, time: Duration) {
    let scene = Scene::new();
    let torture = Torture::new(&scene);
    let begun = Instant::now();
    thread::scope(|scope| {
        for place in 0..MAX_PROCESSES {
            let (torture, chance) = (&torture, chance.fork());
            scope.spawn(move || {
                let _stop = Stop(torture);
                torture.work(place, chance);
            });
        }
        let stop = Stop(&torture);
        torture.torment(chance, time);
        drop(stop);
        torture.settle();
    });
    let temporaries = scene.temporaries().len();
    torture.drain();
    let events = torture.events();
    let counts = &torture.counts;
    let (mut committed, mut reported) = (HashSet::new(), HashSet::new());
    for event in &events {
        match event {
            Event::Committed { run, .. } => committed.insert(*run),
            Event::Reported { run, .. } => reported.insert(*run),
            _ => false,
        };
    }
    eprintln!(
        "{:?}: {counts}, {} committed and killed, {temporaries} temporaries, {} events",
        begun.elapsed(),
        committed.difference(&reported).count(),
        events.len()
    );
    scene.judge(&events, torture.odd.take());
    // Else there was no torture.
    for (number, what) in [
        (&counts.consolidated, "run succeeded"),
        (&counts.in_use, "run was refused"),
        (&counts.kills, "process was killed"),
        (&counts.stops, "process was stopped"),
        (&counts.takeovers, "dead owner was replaced"),
    ] {
        assert!(number.load(Ordering::Relaxed) > 0, "no {what}");
    }
}

#[test]
fn processes_that_are_killed_and_stopped_at_random_exclude_each_other_and_lose_nothing() {
    if !Program::shell("flock --version").run().status.success() {
        eprintln!("skipped: there is no flock command, by which the commands see whether they are alone");
        return;
    }
    for_the_time("processes", Duration::from_secs(20), Duration::from_secs(30), round);
}
