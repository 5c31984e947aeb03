//! Gates of `consolidate run`: when it does nothing.

use super::process::tidy;
use crate::support::{MINIMAL, TestWorkspace, entry_id, names};
use insta::assert_snapshot;

#[test]
fn closed_gate_is_said_and_nothing_is_touched() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let before = names(&workspace.staging());
    for gate in [["--min-entries", "3"], ["--min-bytes", "1000000"], ["--min-age", "3600"]] {
        let ran = workspace.run_shell(&gate, "touch started").run().exits(0);
        assert!(ran.out.starts_with("skipped: ") && ran.out.lines().count() == 1, "{}", ran.out);
        assert_eq!(ran.err, "");
        let ran =
            workspace.run_shell(&[&gate[..], &["--json"]].concat(), "touch started").run().exits(0).json();
        assert_eq!((&ran["outcome"], &ran["entries"]), (&"skipped".into(), &0.into()));
        assert!(ran["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
        let updates = workspace.consolidate(["run", "--updates"]).args(gate).args(["--", "touch", "started"]);
        assert!(updates.run().exits(0).out.starts_with("skipped: "));
    }
    assert_eq!((workspace.ids(), names(&workspace.staging())), (ids, before));
    assert!(!workspace.has("started") && !workspace.has("runs"));
}

#[test]
fn closed_gate_does_not_wait_for_the_lock() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let ran = workspace.run_shell(&["--min-entries", "5", "--wait", "600"], "true").run().exits(0);
    assert!(ran.out.starts_with("skipped: "), "{}", ran.out);
    workspace.let_go();
    holder.finish().exits(0);
}

#[test]
fn run_goes_ahead_once_all_gates_are_open() {
    let workspace = TestWorkspace::new();
    // One of long ago.
    workspace.put(&entry_id(1_600_000_000_000, 1).file_name(), MINIMAL);
    workspace.stage(1);
    let gates = ["--min-entries", "2", "--min-bytes", "10", "--min-age", "3600", "--min-interval", "3600"];
    let ran = workspace.run_shell(&gates, "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 2 entries\n");
    workspace.stage(1);
    let ran = workspace.run_shell(&["--min-interval", "3600"], "touch started").run().exits(0);
    assert!(ran.out.starts_with("skipped: "), "{}", ran.out);
    // A run that failed is none that was consolidated.
    assert!(!workspace.has("started"));
    workspace.run_shell(&["--min-interval", "0"], "exit 1").run().exits(70);
}

#[test]
fn reason_of_a_closed_gate() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    let ran = workspace.run_shell(&["--min-entries", "3"], "true").run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"skipped: 2 entries are staged, the gate asks for 3");
}
