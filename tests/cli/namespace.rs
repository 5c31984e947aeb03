//! Owners in another process-id namespace, as in another container: nobody can look at them from here,
//! so their lease decides.

use super::process::{Program, Running, wait_until};
use crate::support::TestWorkspace;
use std::time::{Duration, Instant};

/// A run in a process-id namespace of its own that goes on until it is killed; none, with the reason
/// printed, where there can be no such namespace.
fn held_in_a_container(workspace: &TestWorkspace, lease: u32) -> Option<Running> {
    let isolated = Program::shell("unshare --pid --fork --kill-child --mount-proc true").run();
    if !isolated.status.success() {
        eprintln!("skipped: no process-id namespace can be made here: {}", isolated.err.trim());
        return None;
    }
    let script = format!(
        "exec unshare --pid --fork --kill-child --mount-proc \
         \"$CONSOLIDATE\" run --pod container --lease {lease} -- sh -c 'touch ready; exec sleep 60'"
    );
    let running = Program::shell(&script).current_dir(workspace.root()).start();
    wait_until("the command in the container runs", || workspace.has("ready"));
    Some(running)
}

#[test]
fn container_that_died_is_succeeded_once_its_lease_is_over() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let Some(mut container) = held_in_a_container(&workspace, 2) else { return };
    container.kill();
    let refused = workspace.run_shell(&[], "true").run().exits(75);
    assert!(refused.err.contains("another process-id namespace"), "{}", refused.err);
    assert_eq!(workspace.ids(), ids);
    let ran = workspace.run_shell(&["--wait", "30"], "cat > lines").run().exits(0);
    assert!(ran.err.contains("has not renewed its lease of 2 s"), "{}", ran.err);
    assert_eq!(ran.out, "consolidated 2 entries\n");
    workspace.assert_nothing_left();
}

#[test]
fn container_that_lives_keeps_the_lock_far_beyond_its_lease() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let Some(mut container) = held_in_a_container(&workspace, 1) else { return };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        workspace.run_shell(&[], "touch overlap").run().exits(75);
    }
    assert!(!workspace.has("overlap"));
    container.kill();
}
