//! A run that is stopped or killed at a step that is chosen, not met by chance. `strace` sends the signal
//! at the nth call of each kind that opens or changes a file, of the first thread, which makes all calls of the
//! protocol. Invariant: whatever the step, every entry is either still staged or was dealt with by a
//! command that came to its end, two commands never work at the same time, and the next run works.

use super::process::{CONSOLIDATE, PATIENCE, Program, Ran, Running, ids_in, wait_until};
use crate::support::{TestWorkspace, names, set_age};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// In the environment of a run that a test wants to find from outside of its namespace.
const MARK: &str = "CONSOLIDATION_TEST_STOPPED";

/// A shell script that runs `consolidate` in a process-id namespace of its own, as in a container.
const ISOLATED: &str = "exec unshare --pid --fork --kill-child --mount-proc";

/// The calls at which a run is stopped or killed. strace counts each kind by itself.
const CALLS: [&str; 8] =
    ["openat2", "linkat", "renameat", "unlinkat", "mkdirat", "pwrite64", "fsync", "fdatasync"];

/// Says that and why a test is skipped, if the script fails.
fn possible(what: &str, script: &str) -> bool {
    let ran = Program::shell(script).run();
    if !ran.status.success() {
        eprintln!("skipped: {what} here: {}", ran.err.trim());
    }
    ran.status.success()
}

fn namespaces() -> bool {
    possible("no process-id namespace can be made", "unshare --pid --fork --kill-child --mount-proc true")
}

fn strace() -> bool {
    possible(
        "there is no strace that may trace and inject signals",
        "strace -o /dev/null -e trace=openat2 -e inject=openat2:signal=CONT:when=1 true",
    )
}

fn mark() -> String {
    static MARKS: AtomicU64 = AtomicU64::new(0);
    format!("{}.{}", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed))
}

/// The `consolidate run` with this mark, by its number in our namespace.
fn find(mark: &str) -> Option<Pid> {
    let variable = format!("{MARK}={mark}");
    names(std::path::Path::new("/proc")).into_iter().find_map(|name| {
        let pid = Pid::from_raw(name.parse().ok()?)?;
        let content = |file: &str| fs::read(format!("/proc/{name}/{file}")).unwrap_or_default();
        let (environment, arguments) = (content("environ"), content("cmdline"));
        let mut arguments = arguments.split(|byte| *byte == 0);
        let is_it = environment.split(|byte| *byte == 0).any(|found| found == variable.as_bytes())
            && arguments.next() == Some(CONSOLIDATE.as_bytes())
            && arguments.next() == Some(b"run");
        is_it.then_some(pid)
    })
}

fn is_stopped(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// What every consolidator here does: `done.*` appears once it has dealt with what it was given.
fn consolidator(name: &str) -> String {
    format!(
        "mkdir guard 2> /dev/null || echo {name} >> overlaps; cat > got.{name}; sleep 0.02; \
         mv got.{name} done.{name}; rmdir guard"
    )
}

/// The ids that were dealt with by somebody.
fn dealt_with(workspace: &TestWorkspace) -> BTreeSet<String> {
    let done = names(workspace.root()).into_iter().filter(|name| name.starts_with("done."));
    done.flat_map(|name| ids_in(&workspace.text(&name))).collect()
}

/// Every entry is still there, or was dealt with.
#[track_caller]
fn assert_nothing_lost(workspace: &TestWorkspace, staged: &[String], what: &str) {
    let mut known = dealt_with(workspace);
    known.extend(workspace.ids());
    let lost: Vec<&String> = staged.iter().filter(|id| !known.contains(*id)).collect();
    assert!(lost.is_empty(), "{what}: lost: {lost:?}");
    assert_eq!(workspace.text("overlaps"), "", "{what}: two commands ran at the same time");
}

#[test]
fn holder_that_wakes_up_after_a_successor_finished_deletes_nothing_and_says_that_it_lost_the_lock() {
    if !namespaces() {
        return;
    }
    for third in [false, true] {
        let workspace = TestWorkspace::new();
        let ids = workspace.stage(2);
        let mark = mark();
        let script = format!(
            "{ISOLATED} \"$CONSOLIDATE\" run --pod first --lease 1 -- \
             sh -c 'cat > taken.first; touch ready; while [ ! -e go ]; do sleep 0.02; done'"
        );
        let first = Program::shell(&script).env(MARK, &mark).current_dir(workspace.root()).start();
        wait_until("the first command runs", || workspace.has("ready"));
        let stopped = find(&mark).expect("it runs");
        kill_process(stopped, Signal::STOP).expect("it is stopped");

        // For a while nobody can tell, and then it counts as dead.
        let second = workspace.run_shell(&["--wait", "30"], "cat > taken.second").run().exits(0);
        assert_eq!(second.out, "consolidated 2 entries\n");
        assert!(second.err.contains("has not renewed its lease of 1 s"), "{}", second.err);
        assert_eq!(ids_in(&workspace.text("taken.first")), ids);
        assert_eq!(ids_in(&workspace.text("taken.second")), ids);
        let late = workspace.stage(3);
        let holder = third.then(|| workspace.hold_as("third"));
        let before = (workspace.lock_bytes(), workspace.owners());

        kill_process(stopped, Signal::CONT).expect("it is woken up");
        fs::write(workspace.root().join("go"), "").expect("a file");
        let first = first.finish().exits(75);
        assert!(first.err.contains("is no longer ours"), "{}", first.err);
        assert_eq!(first.out, "");
        assert_eq!(workspace.ids(), late, "the entries of a later run are not its to delete");
        assert_eq!((workspace.lock_bytes(), workspace.owners()), before, "nor is another's lock");
        match holder {
            Some(holder) => {
                workspace.let_go_of("third");
                assert_eq!(holder.finish().exits(0).out, "consolidated 3 entries\n");
            }
            None => {
                workspace.run_shell(&[], "cat > taken.last").run().exits(0);
            }
        }
        workspace.assert_nothing_left();
    }
}

/// The number of the first process is the same in both, and so may be that of the namespace itself.
#[test]
fn container_that_restarts_gets_the_lock_within_the_lease() {
    if !namespaces() {
        return;
    }
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let isolated = |arguments: &str| {
        let script = format!("{ISOLATED} \"$CONSOLIDATE\" run --pod pod-a {arguments}");
        Program::shell(&script).current_dir(workspace.root())
    };
    for _ in 0..3 {
        let begun = Instant::now();
        let first = isolated("--wait 30 --lease 2 -- sh -c 'touch ready; exec sleep 60'").start();
        wait_until("the command in the container runs", || workspace.has("ready"));
        eprintln!("taken after {:?}", begun.elapsed());
        first.kill_all();
        fs::remove_file(workspace.root().join("ready")).expect("its command ran");
        assert_eq!(workspace.ids(), ids);
    }
    let last = isolated("--wait 30 --lease 2 -- sh -c 'cat > lines'").run().exits(0);
    assert_eq!(last.out, "consolidated 2 entries\n");
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    workspace.assert_nothing_left();
}

/// The moment at which a run gets a signal: at this call of this kind.
#[derive(Clone, Copy)]
struct Step {
    call: &'static str,
    number: usize,
}

impl Step {
    /// In words, and what strace has written.
    fn name(self, workspace: &TestWorkspace) -> String {
        let Step { call, number } = self;
        let log = workspace.text("strace.log");
        let last = log.lines().rev().find(|line| line.contains('(')).unwrap_or_default();
        format!("at {call} {number}: {last}")
    }

    /// Starts the run that gets it.
    fn start(self, workspace: &TestWorkspace, signal: &str, isolated: bool, mark: &str) -> Running {
        let Step { call, number } = self;
        let prefix = if isolated { ISOLATED } else { "exec" };
        let calls = CALLS.join(",");
        let script = format!(
            "{prefix} strace -o \"$LOG\" -e trace={calls} -e inject={call}:signal={signal}:when={number} \
             \"$CONSOLIDATE\" run --pod first --lease 1 -- sh -c \"$SCRIPT\""
        );
        Program::shell(&script)
            .env(MARK, mark)
            .env("LOG", workspace.root().join("strace.log"))
            .env("SCRIPT", consolidator("first"))
            .current_dir(workspace.root())
            .start()
    }
}

/// Does this at every step, several at a time since most of it is waiting. It answers whether the run
/// has such a step.
fn at_every_step(try_step: impl Fn(Step) -> bool + Sync) {
    const AT_ONCE: usize = 6;
    let (steps, next_call) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let numbers: Vec<AtomicUsize> = CALLS.iter().map(|_| AtomicUsize::new(1)).collect();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let kind = next_call.load(Ordering::SeqCst);
                    let Some(call) = CALLS.get(kind) else { return };
                    let number = numbers[kind].fetch_add(1, Ordering::SeqCst);
                    if try_step(Step { call, number }) {
                        steps.fetch_add(1, Ordering::SeqCst);
                    } else {
                        next_call.fetch_max(kind + 1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let steps = steps.into_inner();
    eprintln!("{steps} steps");
    assert!(steps > 20, "a run has more steps than {steps}");
}

/// Who comes afterwards: gets the lock, and whatever is still there.
#[track_caller]
fn successor(workspace: &TestWorkspace, name: &str, what: &str) -> Ran {
    let ran = workspace.run_shell(&["--wait", "25"], &consolidator(name)).run();
    assert_eq!(ran.status.code(), Some(0), "{what}: {}", ran.err);
    assert!(!ran.err.contains("panicked"), "{what}: {}", ran.err);
    ran
}

#[test]
fn run_that_is_stopped_at_any_step_until_a_successor_finished_harms_nobody() {
    if !namespaces() || !strace() {
        return;
    }
    at_every_step(|step| {
        let workspace = TestWorkspace::new();
        let mut staged = workspace.stage(2);
        let mark = mark();
        let mut first = step.start(&workspace, "STOP", true, &mark);
        let begun = Instant::now();
        let stopped = loop {
            if let Some(pid) = find(&mark).filter(|pid| is_stopped(*pid))
                && workspace.text("strace.log").contains("stopped by SIGSTOP")
            {
                break Some(pid);
            }
            if first.has_ended() {
                break None;
            }
            assert!(begun.elapsed() < PATIENCE, "it neither stops nor ends");
            thread::sleep(Duration::from_millis(5));
        };
        let Some(stopped) = stopped else {
            first.finish().exits(0);
            return false;
        };
        let what = step.name(&workspace);
        // Of a flag without a record nobody knows the lease: the usual one counts, a minute.
        let flags = || workspace.owners().into_iter().map(|flag| workspace.owner(&flag));
        flags()
            .filter(|flag| fs::read(flag).is_ok_and(|record| record.is_empty()))
            .for_each(|flag| set_age(&flag, 70));
        // What its command does, it does at most until its lease is over.
        wait_until("its command has come to its end, if it was begun", || !workspace.has("guard"));
        successor(&workspace, "second", &what);
        assert_nothing_lost(&workspace, &staged, &what);
        let late = workspace.stage(2);
        staged.extend(late.iter().cloned());

        kill_process(stopped, Signal::CONT).expect("it is woken up");
        let first = first.finish();
        let told = format!("{what}\n{}{}", first.out, first.err);
        assert_nothing_lost(&workspace, &staged, &told);
        let taken_late = ids_in(&workspace.text("done.first")).iter().any(|id| late.contains(id));
        match first.status.code() {
            // It was stopped before it held anything, or after it was committed.
            Some(0) => {}
            Some(75) => assert!(!taken_late, "{told}"),
            // Nor did it hold anything if its flag was removed while it was taking the lock.
            Some(74) if first.err.contains("cannot create the lock") => assert!(!taken_late, "{told}"),
            _ => panic!("{told}"),
        }
        if !taken_late {
            let ids = workspace.ids();
            assert!(late.iter().all(|id| ids.contains(id)), "{told}");
        }
        assert!(!told.contains("panicked"), "{told}");
        successor(&workspace, "last", &told);
        assert_nothing_lost(&workspace, &staged, &told);
        assert_eq!(workspace.ids(), [] as [String; 0], "{told}");
        workspace.assert_nothing_left_at(&told);
        true
    });
}

#[test]
fn run_that_is_killed_at_any_step_is_succeeded_at_once_and_loses_nothing() {
    if !strace() {
        return;
    }
    at_every_step(|step| {
        let workspace = TestWorkspace::new();
        let mut staged = workspace.stage(2);
        let first = step.start(&workspace, "KILL", false, &mark()).finish();
        if first.status.success() {
            return false;
        }
        let what = step.name(&workspace);
        assert_nothing_lost(&workspace, &staged, &what);
        staged.extend(workspace.stage(1));
        successor(&workspace, "second", &what);
        assert_nothing_lost(&workspace, &staged, &what);
        assert_eq!(workspace.ids(), [] as [String; 0], "{what}");
        workspace.assert_nothing_left_at(&what);
        true
    });
}

impl TestWorkspace {
    /// Neither lock nor flag. Temporary files of a killed process go when they are old.
    #[track_caller]
    fn assert_nothing_left_at(&self, what: &str) {
        assert!(!self.lock().exists(), "{what}: the lock is still there");
        assert_eq!(self.owners(), [] as [String; 0], "{what}: owner flags are left");
    }
}
