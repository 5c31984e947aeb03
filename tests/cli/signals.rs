//! Signals for `consolidate run` and its command.

use super::crash::Moments;
use super::process::{Program, wait_until};
use super::race::GUARDED;
use crate::support::TestWorkspace;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Instant;

#[test]
fn signal_reaches_the_command_and_the_entries_stay() {
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP")] {
        let workspace = TestWorkspace::new();
        let ids = workspace.stage(2);
        // Exit status 0: the command ended well, and was interrupted all the same.
        let script = format!(
            "trap 'echo {name} > marker; exit 0' {name}; cat > lines; touch ready; while :; do sleep 0.02; done"
        );
        let running = workspace.run_shell(&["--json"], &script).start();
        wait_until("the command runs", || workspace.has("ready"));
        running.signal(signal);
        let error = running.finish().exits(70).json_error();
        assert_eq!(error["code"], "interrupted");
        assert_eq!(error["run"]["interrupted_by"], signal.as_raw());
        assert_eq!(workspace.text("marker"), format!("{name}\n"));
        assert_eq!(workspace.ids(), ids);
        workspace.assert_nothing_left();
    }
}

#[test]
fn signal_reaches_all_processes_of_the_command() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "(trap 'touch inner; exit 0' TERM; touch ready; while :; do sleep 0.02; done) & wait";
    let running = workspace.run_shell(&[], script).start();
    wait_until("the inner process runs", || workspace.has("ready"));
    running.signal(Signal::TERM);
    running.finish().exits(70);
    wait_until("the inner process got it too", || workspace.has("inner"));
    workspace.assert_nothing_left();
}

#[test]
fn second_signal_kills_a_command_that_ignores_the_first() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let script = "trap 'touch ignored' TERM; touch ready; while :; do sleep 0.02; done";
    let running = workspace.run_shell(&[], script).start();
    wait_until("the command runs", || workspace.has("ready"));
    running.signal(Signal::TERM);
    wait_until("the command has ignored it", || workspace.has("ignored"));
    running.signal(Signal::TERM);
    let ran = running.finish().exits(70);
    assert!(ran.err.contains("killed by SIGKILL"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}

#[test]
fn command_starts_with_the_default_actions() {
    let workspace = TestWorkspace::new();
    for signal in ["PIPE", "INT", "TERM", "HUP"] {
        workspace.stage(1);
        let ran = workspace.run_shell(&[], &format!("kill -{signal} $$; echo survived")).run().exits(70);
        assert_eq!(ran.out, "", "SIG{signal} is ignored or blocked");
        assert!(ran.err.contains("killed by SIG"), "{}", ran.err);
    }
}

#[test]
fn writer_into_a_closed_pipe_ends_silently() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let ran = workspace.run_shell(&[], "cat > lines; yes | head -n 1").run().exits(0);
    assert_eq!((&*ran.out, &*ran.err), ("y\nconsolidated 1 entry\n", ""));
}

#[test]
fn pending_input_does_not_keep_an_interrupted_command() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2_000);
    let running = workspace.run_shell(&[], "touch ready; exec sleep 60").start();
    wait_until("the command runs", || workspace.has("ready"));
    running.signal(Signal::TERM);
    let ran = running.finish().exits(70);
    assert!(ran.err.contains("SIGTERM"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}

#[test]
fn signal_at_any_moment_leaves_nothing_behind() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    let begun = Instant::now();
    let mut staged = workspace.stage(3);
    workspace.run_shell(&[], GUARDED).run().exits(0);
    let longest = begun.elapsed();
    for _ in 0..40 {
        staged.extend(workspace.stage(1));
        let mut running = workspace.run_shell(&[], GUARDED).start();
        thread::sleep(moments.next(longest));
        if !running.has_ended() {
            running.signal(Signal::TERM);
        }
        let ran = running.finish();
        // A signal that comes before there is anything to release ends it at once.
        let ended_at_once = ran.status.signal() == Some(Signal::TERM.as_raw());
        assert!(ended_at_once || matches!(ran.status.code(), Some(0 | 70)), "{ran:?}");
        workspace.assert_nothing_left();
        // The command may have been interrupted while it had the guard.
        let _ = fs::remove_dir(workspace.root().join("guard"));
    }
    workspace.run_shell(&[], GUARDED).run().exits(0);
    let consumed: BTreeSet<String> = workspace.text("consumed").lines().map(str::to_owned).collect();
    assert_eq!(consumed, staged.into_iter().collect(), "an entry was lost");
    assert_eq!(workspace.text("overlaps"), "");
}

/// As the first process of a container there is no default action for signals.
#[test]
fn first_process_of_a_container_ends_on_a_signal() {
    let isolated = Program::shell("unshare --pid --fork --kill-child --mount-proc true").run();
    if !isolated.status.success() {
        eprintln!("skipped: no process-id namespace can be made here: {}", isolated.err.trim());
        return;
    }
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let script = "unshare --pid --fork --kill-child --mount-proc \
                  \"$CONSOLIDATE\" run -- sh -c 'touch ready; exec sleep 60'";
    let running = Program::shell(script).current_dir(workspace.root()).start();
    wait_until("the command runs", || workspace.has("ready"));
    let first =
        Program::shell("pgrep -x -f -- \"$CONSOLIDATE run -- sh -c touch ready; exec sleep 60\"").run();
    let pid: i32 = match first.out.trim().parse() {
        Ok(pid) => pid,
        Err(_) => {
            eprintln!("skipped: pgrep does not find the process: {first:?}");
            return;
        }
    };
    let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
    rustix::process::kill_process(pid, Signal::TERM).expect("the signal is sent");
    let ran = running.finish().exits(70);
    assert!(ran.err.contains("interrupted by SIGTERM"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}
