//! `kill -9` at any moment.

use super::process::{CONSOLIDATE, PATIENCE, Program, Running, payloads, wait_until};
use super::race::GUARDED;
use crate::support::{TestWorkspace, set_age};
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Random moments that can be had again: `CONSOLIDATION_TEST_SEED`, printed by a test that fails.
pub(super) struct Moments(u64);

impl Moments {
    pub(super) fn new() -> Self {
        let seed = match std::env::var("CONSOLIDATION_TEST_SEED").ok().and_then(|seed| seed.parse().ok()) {
            Some(seed) => seed,
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
                u64::from(now.subsec_nanos()) | 1
            }
        };
        eprintln!("CONSOLIDATION_TEST_SEED={seed}");
        Moments(seed)
    }

    /// Xorshift, which is random enough.
    pub(super) fn next(&mut self, below: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let below = u64::try_from(below.as_micros()).expect("a short time");
        Duration::from_micros(self.0 % below)
    }
}

/// The ids in all files whose names begin like this. A line that was cut off is none.
fn ids_in_files(workspace: &TestWorkspace, prefix: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for name in crate::support::names(workspace.root()) {
        if name.starts_with(prefix) {
            for line in workspace.text(&name).split_inclusive('\n').filter(|line| line.ends_with("}\n")) {
                ids.extend(super::process::ids_in(line));
            }
        }
    }
    ids
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn run_that_is_killed_at_any_moment_loses_nothing_and_blocks_nobody() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    let over = AtomicBool::new(false);
    // A file `done.*` appears once a command has dealt with what it was given, and not before.
    let script = r#"
        mkdir guard 2> /dev/null || echo "$$" >> overlaps
        cat > got.$$
        sleep 0.00$(($$ % 10))
        mv got.$$ done.$$
        rmdir guard"#;
    let mut takeovers = 0;
    let staged = thread::scope(|scope| {
        let pod = scope.spawn(|| {
            let mut staged = workspace.stage(5);
            while !over.load(Ordering::Relaxed) {
                staged.extend(workspace.stage(2));
            }
            staged
        });
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stop = Stop(&over);
        for round in 0..40 {
            let mut running = workspace.run_shell(&["--wait", "60"], script).start();
            if round % 2 == 0 {
                thread::sleep(moments.next(Duration::from_millis(60)));
            } else {
                // Most of what can go wrong goes wrong under the lock.
                let pid = format!("\"pid\": {},", running.pid()).into_bytes();
                let holds = || workspace.lock_bytes().is_some_and(|lock| contains(&lock, &pid));
                wait_until("it has the lock", || holds() || running.has_ended());
                thread::sleep(moments.next(Duration::from_millis(30)));
            }
            running.kill();
            let ran = running.finish();
            assert!(!ran.err.contains("panicked"), "{}", ran.err);
            takeovers += usize::from(ran.err.contains("removed the lock of a dead owner"));
        }
        drop(stop);
        pod.join().expect("the pod stages to the end")
    });
    eprintln!("{takeovers} takeovers, {} entries", staged.len());
    let last = workspace.run_shell(&["--wait", "60"], script).run().exits(0);
    assert!(last.out.starts_with("consolidated ") || last.out.starts_with("nothing to do"), "{}", last.out);
    assert_eq!(workspace.text("overlaps"), "", "two commands ran at the same time");
    assert_eq!(workspace.ids(), [] as [String; 0]);
    assert_eq!(ids_in_files(&workspace, "done."), staged.into_iter().collect(), "an entry was lost");
    assert!(!workspace.lock().exists(), "the lock is still there");
    assert_eq!(workspace.owners(), [] as [String; 0], "owner flags are left");
}

#[test]
fn stage_that_is_killed_at_any_moment_leaves_whole_entries_only() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    let input = payloads(0..20);
    let begun = Instant::now();
    let ids = workspace.consolidate(["stage"]).input(input.clone()).run().exits(0).lines();
    // How long it takes is a matter of the disk.
    let longest = begun.elapsed() * 3 / 2;
    let mut printed = BTreeSet::from_iter(ids);
    for round in 0..60 {
        let before = workspace.ids().len();
        let mut running = workspace.consolidate(["stage"]).input(input.clone()).start();
        if round % 2 == 0 {
            thread::sleep(moments.next(longest));
        } else {
            // Between the first name and the last there is little time, so nothing sleeps here.
            let begun = Instant::now();
            while workspace.ids().len() == before && !running.has_ended() {
                assert!(begun.elapsed() < PATIENCE, "no entry appears");
            }
            let begun = Instant::now();
            let moment = moments.next(Duration::from_micros(500));
            while begun.elapsed() < moment {
                std::hint::spin_loop();
            }
        }
        running.kill();
        let ran = running.finish();
        if ran.status.success() {
            printed.extend(ran.lines());
        }
    }
    let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    assert_eq!(listed["unusable"], serde_json::json!([]), "a half-written file was taken for an entry");
    let ids: BTreeSet<String> = workspace.ids().into_iter().collect();
    assert_eq!(listed["entries"].as_array().map(Vec::len), Some(ids.len()));
    assert!(ids.is_superset(&printed), "an entry whose id was printed is missing");
    eprintln!(
        "{} entries, {} of them printed, {} temporaries",
        ids.len(),
        printed.len(),
        workspace.temporaries().len()
    );
    workspace.run_shell(&[], GUARDED).run().exits(0);
    let consumed: BTreeSet<String> = workspace.text("consumed").lines().map(str::to_owned).collect();
    assert_eq!(consumed, ids);
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn temporary_files_of_killed_writers_do_not_pile_up() {
    let workspace = TestWorkspace::new();
    let old = ".01890000-0000-7000-8000-000000000001.tmp";
    let fresh = ".01890000-0000-7000-8000-000000000002.tmp";
    let foreign = ["download.tmp", ".hidden.tmp", ".01890000-0000-7000-8000-000000000003.tmp.swp"];
    for name in foreign.iter().chain(&[old, fresh]) {
        workspace.put(name, "{\"half\":");
        if *name != fresh {
            set_age(&workspace.staged(name), 30 * 86_400);
        }
    }
    workspace.stage(1);
    workspace.run_shell(&[], GUARDED).run().exits(0);
    for name in foreign.iter().chain(&[fresh]) {
        assert!(workspace.staged(name).exists(), "{name} is not ours to remove");
    }
    assert!(!workspace.staged(old).exists(), "what a dead writer left a month ago is removed");
}

/// A holder whose `consolidate` is killed while its command runs.
fn killed_holder(workspace: &TestWorkspace) -> (Running, rustix::process::Pid) {
    workspace.stage(1);
    let script = "trap 'exit 0' TERM; cat > taken; echo $$ > command; touch ready.holder; while :; do sleep 0.02; done";
    let mut holder =
        workspace.consolidate(["run", "--pod", "holder", "--", "sh", "-c", script]).silent().start();
    wait_until("the command runs", || workspace.has("ready.holder"));
    holder.kill();
    let command = workspace.text("command").trim().parse().expect("a process id");
    (holder, rustix::process::Pid::from_raw(command).expect("a process id"))
}

#[test]
fn lock_is_held_while_the_command_of_a_killed_run_lives() {
    let workspace = TestWorkspace::new();
    let (holder, command) = killed_holder(&workspace);
    let pid = holder.pid();
    let state = || workspace.consolidate(["status", "--json"]).run().exits(0).json()["lock"].take();
    // A process that was killed is there for a moment longer.
    let says_why = |lock: &serde_json::Value| {
        lock["reason"].as_str().is_some_and(|reason| reason.contains("command still runs"))
    };
    wait_until("the command keeps the lock", || says_why(&state()));
    let lock = state();
    assert_eq!((&lock["state"], &lock["owner"]["pid"]), (&"held".into(), &pid.into()), "{lock}");
    let error = workspace.run_shell(&["--json"], "touch started").run().exits(75).json_error();
    assert_eq!((&error["code"], &error["owner"]["pid"]), (&"in_use".into(), &pid.into()), "{error}");
    workspace.consolidate(["unlock"]).run().exits(75);

    rustix::process::kill_process_group(command, rustix::process::Signal::KILL)
        .expect("the command is killed");
    wait_until("the lock is stale", || state()["state"] == "stale");
    let ran = workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert!(!workspace.has("started"));
    assert_eq!(ran.out, "consolidated 1 entry\n");
    for word in ["holder", &pid.to_string(), "dead owner"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    workspace.assert_nothing_left();
}

#[test]
fn waiting_run_gets_the_lock_when_the_orphaned_command_ends() {
    let workspace = TestWorkspace::new();
    let (holder, command) = killed_holder(&workspace);
    let waiting = workspace.run_shell(&["--wait", "60"], "cat > lines").start();
    wait_until("the wait is announced", || waiting.stderr().contains("waiting up to"));
    rustix::process::kill_process_group(command, rustix::process::Signal::TERM).expect("the signal is sent");
    assert_eq!(waiting.finish().exits(0).out, "consolidated 1 entry\n");
    workspace.assert_nothing_left();
    drop(holder);
}

/// The killed process is a zombie here until the test waits for it.
#[test]
fn zombie_does_not_hold_the_lock() {
    let workspace = TestWorkspace::new();
    let (holder, command) = killed_holder(&workspace);
    rustix::process::kill_process_group(command, rustix::process::Signal::KILL)
        .expect("the command is killed");
    let state = || workspace.consolidate(["status", "--json"]).run().exits(0).json()["lock"].take();
    wait_until("the lock is stale", || state()["state"] == "stale");
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    drop(holder);
}

/// In many containers nobody waits for orphans: the first process is the program itself.
#[test]
fn ended_command_that_nobody_waits_for_does_not_hold_the_lock() {
    let isolated = Program::shell("unshare --pid --fork --kill-child --mount-proc true").run();
    if !isolated.status.success() {
        eprintln!("skipped: no process-id namespace can be made here: {}", isolated.err.trim());
        return;
    }
    let outer = TestWorkspace::new();
    outer.stage(1);
    let inner = TestWorkspace::new();
    inner.stage(1);
    // The outer run is the first process and waits for its own command only.
    let script = r#"cd "$INNER"
        "$CONSOLIDATE" run --pod holder -- sh -c 'echo $$ > command; touch ready; exec sleep 60' > /dev/null 2>&1 &
        while [ ! -e ready ]; do sleep 0.01; done
        kill -9 $!
        wait $! 2> /dev/null
        kill -9 "$(cat command)"
        tries=0
        while kill -0 "$(cat command)" 2> /dev/null && ! grep -q '^State:.Z' "/proc/$(cat command)/status"; do
            sleep 0.01
            tries=$((tries + 1))
            [ $tries -lt 500 ] || exit 9
        done
        grep '^State' "/proc/$(cat command)/status" > state
        "$CONSOLIDATE" status > status
        "$CONSOLIDATE" run -- sh -c 'cat > lines' > ran 2>&1
        echo $? > code
        exit 0"#;
    Program::shell(
        "exec unshare --pid --fork --kill-child --mount-proc \"$CONSOLIDATE\" run -- sh -c \"$SCRIPT\"",
    )
    .env("SCRIPT", script)
    .env("INNER", inner.root())
    .current_dir(outer.root())
    .run()
    .exits(0);
    if !inner.text("state").contains('Z') {
        eprintln!("skipped: somebody waited for the orphan: {:?}", inner.text("state"));
        return;
    }
    assert!(inner.text("status").contains("stale"), "{}", inner.text("status"));
    assert_eq!(inner.text("code"), "0\n", "{}", inner.text("ran"));
}

#[test]
fn command_never_starts_if_the_run_ended_before_it_was_recorded() {
    let workspace = TestWorkspace::new();
    for input in ["", "x", "xx\n"] {
        let gate = Program::consolidate(["__gate", "--", "touch", "marker"]).current_dir(workspace.root());
        let ran = gate.input(input).run().exits(126);
        assert!(ran.err.contains("the run ended before its command was started"), "{}", ran.err);
        assert!(!workspace.has("marker"));
    }
    // Let in, it is the command, and the rest of the input is the command's.
    let ran = Program::consolidate(["__gate", "--", "cat"]).input("\none\ntwo\n").run().exits(0);
    assert_eq!(ran.out, "one\ntwo\n");
    let ran = Program::shell(&format!("'{CONSOLIDATE}' __gate -- touch marker <&-")).run();
    ran.exits(126);
}

#[test]
fn gate_of_a_killed_run_ends() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for _ in 0..20 {
        let mut running = workspace.run_shell(&[], "exit 1").silent().start();
        thread::sleep(moments.next(Duration::from_millis(15)));
        running.kill();
        drop(running.finish());
    }
    let begun = Instant::now();
    loop {
        let ran = workspace.run_shell(&[], "cat > lines").run();
        if ran.status.success() {
            break;
        }
        ran.exits(75);
        assert!(begun.elapsed() < PATIENCE, "a gate still waits");
    }
    workspace.assert_nothing_left_but_temporaries();
}

impl TestWorkspace {
    /// A process that is killed while it rewrites the lock leaves the file that it was writing.
    #[track_caller]
    fn assert_nothing_left_but_temporaries(&self) {
        for name in self.temporaries() {
            fs::remove_file(self.staged(&name)).expect("a temporary file");
        }
        self.assert_nothing_left();
    }
}
