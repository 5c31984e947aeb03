//! Many processes at once. Invariant: the command notes an overlap by itself, by a directory that
//! only one of them can make.

use super::process::{Ran, Running, wait_until};
use crate::support::{TestWorkspace, original_record};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const PROCESSES: usize = 16;

/// Logs the ids that it gets, and every overlap.
pub(super) const GUARDED: &str = r#"
    mkdir guard 2> /dev/null || echo "$$" >> overlaps
    sed 's/^{"id":"\([^"]*\)".*/\1/' >> consumed
    sleep 0.02
    rmdir guard"#;

fn finish(processes: Vec<Running>) -> Vec<Ran> {
    processes.into_iter().map(Running::finish).collect()
}

#[track_caller]
fn assert_no_overlap(workspace: &TestWorkspace) {
    assert_eq!(workspace.text("overlaps"), "", "two commands ran at the same time");
}

fn consumed(workspace: &TestWorkspace) -> Vec<String> {
    workspace.text("consumed").lines().map(str::to_owned).collect()
}

/// Each id once, and together with what is left all that was staged.
#[track_caller]
fn assert_all_accounted_for(workspace: &TestWorkspace, staged: &[String]) {
    let consumed = consumed(workspace);
    let once: BTreeSet<&String> = consumed.iter().collect();
    assert_eq!(once.len(), consumed.len(), "an entry was consumed twice");
    let left = workspace.ids();
    let all: BTreeSet<&String> = consumed.iter().chain(&left).collect();
    assert_eq!(all.len(), consumed.len() + left.len(), "a consumed entry is still there");
    assert_eq!(all, staged.iter().collect(), "an entry was lost or invented");
}

#[test]
fn waiting_runs_take_turns_at_a_stale_lock() {
    let workspace = TestWorkspace::new();
    let staged = workspace.stage(PROCESSES + 5);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-dead", &[&staged[0]]));
    let start = |_| workspace.run_shell(&["--wait", "60", "--max-entries", "1"], GUARDED).start();
    let ran = finish((0..PROCESSES).map(start).collect());
    let takeovers = ran.iter().filter(|ran| ran.err.contains("pod-dead")).count();
    for ran in ran {
        assert!(ran.exits(0).out.starts_with("consolidated 1 entry"));
    }
    assert_eq!(takeovers, 1, "the stale lock was removed once");
    assert_no_overlap(&workspace);
    assert_eq!(consumed(&workspace), staged[..PROCESSES], "the oldest first, one a run");
    assert_all_accounted_for(&workspace, &staged);
    workspace.assert_nothing_left();
}

#[test]
fn of_runs_that_do_not_wait_one_wins_and_the_others_are_refused() {
    for _ in 0..3 {
        let workspace = TestWorkspace::new();
        let staged = workspace.stage(PROCESSES);
        workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-dead", &[&staged[0]]));
        let start = |_| workspace.run_shell(&["--json", "--max-entries", "1"], GUARDED).start();
        let ran = finish((0..PROCESSES).map(start).collect());
        let mut winners = 0;
        for ran in ran {
            if ran.status.success() {
                assert_eq!(ran.exits(0).json()["removed"], 1);
                winners += 1;
            } else {
                assert_eq!(ran.exits(75).json_error()["code"], "in_use");
            }
        }
        assert!(winners >= 1, "somebody gets the lock");
        assert_no_overlap(&workspace);
        assert_eq!(consumed(&workspace), staged[..winners]);
        assert_all_accounted_for(&workspace, &staged);
        workspace.assert_nothing_left();
    }
}

#[test]
fn runs_and_pods_at_once_lose_nothing_and_repeat_nothing() {
    let workspace = TestWorkspace::new();
    let staged = Mutex::new(workspace.stage(PROCESSES));
    let over = AtomicBool::new(false);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-dead", &[]));
    thread::scope(|scope| {
        for pod in 0..2 {
            let (workspace, staged, over) = (&workspace, &staged, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let ids = workspace.stage(1 + pod * 3);
                    staged.lock().expect("no panic in between").extend(ids);
                }
            });
        }
        // Whatever happens below, the pods stop.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&over);
        for _ in 0..2 {
            let start = |_| workspace.run_shell(&["--wait", "60"], GUARDED).start();
            for ran in finish((0..PROCESSES / 2).map(start).collect()) {
                ran.exits(0);
            }
        }
    });
    assert_no_overlap(&workspace);
    let staged = staged.into_inner().expect("no panic in between");
    assert_all_accounted_for(&workspace, &staged);
    workspace.run_shell(&[], GUARDED).run().exits(0);
    assert_eq!(workspace.ids(), [] as [String; 0]);
    assert_all_accounted_for(&workspace, &staged);
    workspace.assert_nothing_left();
}

#[test]
fn many_waiting_processes_say_little_and_all_proceed() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    workspace.stage(8);
    let start = |_| workspace.run_shell(&["--wait", "60", "--max-entries", "1"], GUARDED).start();
    let waiting: Vec<Running> = (0..8).map(start).collect();
    wait_until("all wait", || waiting.iter().all(|running| running.stderr().contains("waiting up to")));
    workspace.let_go();
    holder.finish().exits(0);
    for ran in finish(waiting) {
        let ran = ran.exits(0);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    }
    assert_no_overlap(&workspace);
    workspace.assert_nothing_left();
}

#[test]
fn unlocks_at_once_leave_a_lock_that_works() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for force in [false, true] {
        workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-dead", &[]));
        let start = |_| {
            let options: &[&str] = if force { &["--force"] } else { &[] };
            workspace.consolidate(["unlock"]).args(options).start()
        };
        for ran in finish((0..8).map(start).collect()) {
            assert!(matches!(ran.status.code(), Some(0 | 75)), "{ran:?}");
        }
        workspace.assert_nothing_left();
    }
    workspace.run_shell(&[], GUARDED).run().exits(0);
}
