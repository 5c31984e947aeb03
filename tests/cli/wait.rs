//! `consolidate run --wait`.

use super::process::{tidy, wait_until};
use crate::support::TestWorkspace;
use insta::assert_snapshot;
use rustix::process::Signal;

#[test]
fn wait_is_bounded_and_announced_once() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let ran = workspace.run_shell(&["--wait", "0.7"], "touch started").run().exits(75);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"
    consolidate: waiting up to 700ms: consolidation lock held by live pid <pid> (pod "holder") since <time>: process <pid> runs
    consolidate: cannot acquire the lock in <root>: consolidation lock held by live pid <pid> (pod "holder") since <time>: process <pid> runs; waited 700ms for it; `status` shows it
    "#);
    assert_eq!(ran.out, "");
    let ran = workspace.run_shell(&["--wait", "0.1", "--json"], "touch started").run().exits(75);
    assert_eq!(ran.json_error()["code"], "in_use");
    assert_eq!(ran.json_error()["owner"]["pid"], holder.pid());
    assert!(!workspace.has("started"));
    assert_eq!(workspace.owners().len(), 1, "only the holder's flag is there");
    workspace.let_go();
    holder.finish().exits(0);
    workspace.assert_nothing_left();
}

#[test]
fn no_wait_is_not_announced() {
    let workspace = TestWorkspace::new();
    let _holder = workspace.hold();
    for options in [&[][..], &["--wait", "0"]] {
        let ran = workspace.run_shell(options, "touch started").run().exits(75);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert!(!ran.err.contains("waiting up to"), "{}", ran.err);
    }
}

#[test]
fn wait_ends_with_the_lock_once_it_is_released() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let late = workspace.stage(1);
    let waiting = workspace.run_shell(&["--wait", "60"], "cat > lines").start();
    wait_until("the wait is announced", || waiting.stderr().contains("waiting up to"));
    workspace.let_go();
    holder.finish().exits(0);
    let ran = waiting.finish().exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert!(workspace.text("lines").contains(&late[0]));
    workspace.assert_nothing_left();
}

#[test]
fn wait_ends_with_the_lock_once_its_holder_is_killed() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let waiting = workspace.run_shell(&["--wait", "60"], "cat > lines").start();
    wait_until("the wait is announced", || waiting.stderr().contains("waiting up to"));
    holder.kill_all();
    let ran = waiting.finish().exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
    assert!(ran.err.contains("holder"), "{}", ran.err);
    workspace.assert_nothing_left();
}

#[test]
fn wait_is_broken_off_by_a_signal() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    for signal in [Signal::TERM, Signal::INT] {
        let waiting = workspace.run_shell(&["--wait", "60", "--json"], "touch started").start();
        wait_until("the wait is announced", || waiting.stderr().contains("waiting up to"));
        waiting.signal(signal);
        let error = waiting.finish().exits(75).json_error();
        assert_eq!(error["code"], "interrupted");
    }
    assert!(!workspace.has("started"));
    assert_eq!(workspace.owners().len(), 1, "only the holder's flag is there");
    workspace.let_go();
    holder.finish().exits(0);
    workspace.assert_nothing_left();
}

#[test]
fn wait_is_not_for_other_errors() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    std::fs::create_dir(workspace.lock()).expect("a directory");
    let ran = workspace.run_shell(&["--wait", "60"], "touch started").run().exits(74);
    assert!(!ran.err.contains("waiting"), "{}", ran.err);
}
