//! What `run` does about a lock that stands there already.

use super::process::{Program, tidy};
use super::status::foreign_record;
use crate::support::{TestWorkspace, original_record, set_age};
use insta::assert_snapshot;
use std::process::Stdio;

fn run(workspace: &TestWorkspace) -> Program {
    workspace.run_shell(&[], "cat > lines")
}

#[test]
fn live_owner_is_refused_by_name() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let record = original_record(std::process::id(), "pod-b", &[]);
    workspace.put(".consolidation.lock", &record);
    let ran = run(&workspace).run().exits(75);
    assert_eq!(ran.out, "");
    assert!(
        ran.err
            .contains(&format!("consolidation lock held by live pid {} (pod \"pod-b\")", std::process::id())),
        "{}",
        ran.err
    );
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"consolidate: cannot acquire the lock in <root>: consolidation lock held by live pid <pid> (pod "pod-b") since <time>: process <pid> runs; `run --wait SECONDS` waits for it, `status` shows it"#);
    assert_eq!(workspace.lock_bytes().as_deref(), Some(record.as_bytes()));
    assert_eq!(workspace.owners(), [] as [String; 0]);
    assert!(!workspace.has("lines"), "the command did not run");
}

#[test]
fn dead_owner_is_taken_over_with_a_warning() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    let mut dead = Program::new("true").stdout(Stdio::null()).start();
    super::process::wait_until("it has ended", || dead.has_ended());
    for pid in [dead.pid(), u32::MAX, 0] {
        workspace.put(".consolidation.lock", original_record(pid, "pod-b", &[&workspace.ids()[0]]));
        let ran = workspace.run_shell(&["--max-entries", "1"], "cat > lines; exit 1").run().exits(70);
        assert!(ran.err.contains("pod-b") && ran.err.contains(&pid.to_string()), "{}", ran.err);
    }
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    let ran = run(&workspace).run().exits(0);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#" WARN removed the lock of a dead owner root=<root> stale_pid=4294967295 stale_pod="pod-b" started_at="<time>" reason="there is no process <pid>""#);
    workspace.assert_nothing_left();
}

#[test]
fn clean_run_reports_no_takeover() {
    let workspace = TestWorkspace::new();
    for _ in 0..2 {
        workspace.stage(3);
        assert_eq!(run(&workspace).run().exits(0).err, "");
    }
    assert_eq!(run(&workspace).run().exits(0).err, "");
}

#[test]
fn owner_elsewhere_is_refused_until_its_lease_is_over() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.put(".consolidation.lock", foreign_record());
    let ran = run(&workspace).run().exits(75);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"consolidate: cannot acquire the lock in <root>: consolidation lock held by unreachable pid <pid> (pod "pod-far") since <time>: nobody can tell from here whether it lives: it runs on another machine; it counts as dead once it gave no sign of life for 60 s; if it is gone for certain, `unlock --force` removes the lock; `run --wait SECONDS` waits for it, `status` shows it"#);
    set_age(&workspace.lock(), 70);
    let ran = run(&workspace).run().exits(0);
    assert!(ran.err.contains("pod-far") && ran.err.contains("lease"), "{}", ran.err);
    workspace.assert_nothing_left();
}

/// A process id that does not fit is no process id: it must neither wrap around nor be rounded.
#[test]
fn record_without_a_proper_process_id_is_unreadable() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let wraps = (1_u64 << 32) + u64::from(std::process::id());
    let wraps = wraps.to_string();
    for pid in [
        "4294967296",
        &wraps,
        "9223372036854775807",
        "18446744073709551616",
        "1e3",
        "12.0",
        "\"123\"",
        "null",
        "[1]",
        "true",
        "-1",
    ] {
        let record = original_record(424_242, "pod-b", &[]).replace("424242", pid);
        workspace.put(".consolidation.lock", &record);
        let ran = run(&workspace).run().exits(75);
        assert!(ran.err.contains("can't be read"), "{pid}: {}", ran.err);
        assert_eq!(workspace.lock_bytes().as_deref(), Some(record.as_bytes()));
        set_age(&workspace.lock(), 10);
        let ran = workspace.run_shell(&[], "exit 3").run().exits(70);
        assert!(ran.err.contains("removed an unreadable lock"), "{pid}: {}", ran.err);
        workspace.assert_nothing_left();
    }
}

#[test]
fn lock_that_was_cut_by_a_crash_is_in_use_while_fresh_and_then_taken_over() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for content in [&b""[..], b"{\"pid\":12,\"pod_na", &[0; 300]] {
        workspace.put(".consolidation.lock", content);
        let error = workspace.consolidate(["--json", "run", "--", "true"]).run().exits(75).json_error();
        assert_eq!(error["code"], "in_use");
        set_age(&workspace.lock(), 10);
        let ran = workspace.run_shell(&[], "exit 3").run().exits(70);
        assert!(ran.err.contains("removed an unreadable lock"), "{}", ran.err);
        if content.len() == 17 {
            assert!(ran.err.contains("pod_na"), "its content is in the warning: {}", ran.err);
        }
    }
    assert_eq!(run(&workspace).run().exits(0).out, "consolidated 1 entry\n");
}

#[test]
fn lock_from_the_future_is_watched_and_taken_over() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.put(".consolidation.lock", "garbage");
    set_age(&workspace.lock(), -86_400);
    run(&workspace).run().exits(0);
}

#[test]
fn byte_order_mark_does_not_hide_an_owner() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let record = format!("\u{feff}{}", original_record(std::process::id(), "pod-b", &[]));
    workspace.put(".consolidation.lock", record.replace('\n', "\r\n"));
    assert!(run(&workspace).run().exits(75).err.contains("pod-b"));
    workspace.put(".consolidation.lock", format!("\u{feff}{}", original_record(u32::MAX, "pod-c", &[])));
    assert!(run(&workspace).run().exits(0).err.contains("pod-c"));
}

#[test]
fn strange_pod_names_are_kept_as_they_are() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let long = "n".repeat(300);
    for name in [" ", "quo\"te\nline\u{1b}[31m", "Gr\u{fc}\u{df}e \u{2603}", &long] {
        let script = "cp _staging/.consolidation.lock record; exit 1";
        let ran = workspace.consolidate(["run", "--pod", name, "--", "sh", "-c", script]).run().exits(70);
        let record: serde_json::Value = serde_json::from_str(&workspace.text("record")).expect("JSON");
        assert_eq!(record["pod_name"], name, "{}", ran.err);
    }
    let too_long = "n".repeat(2_000);
    workspace.consolidate(["run", "--pod", &too_long, "--", "true"]).run().exits(65);
    workspace.assert_nothing_left();
    assert_eq!(workspace.ids().len(), 1);
}

#[test]
fn record_of_a_run_has_the_original_members_first() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let script = "cat > lines; cp _staging/.consolidation.lock record; echo $PPID > parent; echo $$ > own";
    workspace.run_shell(&[], script).run().exits(0);
    let text = workspace.text("record");
    let places: Vec<usize> = ["pid", "pod_name", "started_at", "consumed_ids", "token"]
        .iter()
        .map(|name| text.find(&format!("\n  \"{name}\": ")).unwrap_or_else(|| panic!("no {name}: {text}")))
        .collect();
    assert!(places.is_sorted(), "{text}");
    let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(record["consumed_ids"], serde_json::json!(ids));
    assert_eq!(record["pid"].to_string(), workspace.text("parent").trim());
    // The gate became the command: the group has the number of the command's own process.
    assert_eq!(record["command_group"].to_string(), workspace.text("own").trim());
}
