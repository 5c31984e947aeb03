//! `consolidate quarantine`.

use super::process::tidy;
use crate::support::TestWorkspace;
use insta::assert_snapshot;

/// A workspace with so many entries in the quarantine, and their ids.
fn with_failed(count: usize) -> (TestWorkspace, Vec<String>) {
    let workspace = TestWorkspace::new();
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.extend(workspace.stage(1));
        let command = ["run", "--updates", "--max-attempts", "1", "--", "sh", "-c", "exit 3"];
        workspace.consolidate(command).run().exits(70);
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
    (workspace, ids)
}

#[test]
fn quarantine_is_listed_with_the_reasons() {
    let (workspace, ids) = with_failed(2);
    let ran = workspace.consolidate(["quarantine", "list"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"
    <id>  <time>       169 B  1 attempt: the command exited with status 3
    <id>  <time>       169 B  1 attempt: the command exited with status 3
    ");
    let ran = workspace.consolidate(["quarantine", "list", "--json"]).run().exits(0).json();
    let entries = ran["entries"].as_array().expect("a list");
    assert_eq!(entries.iter().map(|entry| &entry["id"]).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(
        (&entries[0]["attempts"], &entries[0]["reason"]),
        (&1.into(), &"the command exited with status 3".into())
    );
    let status = workspace.consolidate(["status"]).run().exits(0);
    assert!(
        status.out.contains("failed    2 entries in the quarantine; `quarantine list` shows why\n"),
        "{}",
        status.out
    );
    assert_eq!(workspace.consolidate(["status", "--json"]).run().exits(0).json()["quarantined"], 2);
}

#[test]
fn empty_quarantine_says_so() {
    let workspace = TestWorkspace::new();
    let ran = workspace.consolidate(["quarantine", "list"]).run().exits(0);
    assert_eq!(ran.out, "nothing is in the quarantine\n");
    for action in ["retry", "drop"] {
        workspace.consolidate(["quarantine", action, "--all"]).run().exits(0);
    }
    assert!(!workspace.consolidate(["status"]).run().exits(0).out.contains("quarantine"));
    assert!(!workspace.has("_staging"));
}

#[test]
fn entries_are_staged_again_one_by_one_or_all() {
    let (workspace, ids) = with_failed(3);
    let ran = workspace.consolidate(["quarantine", "retry", &ids[1]]).run().exits(0);
    assert_eq!(ran.out, "staged 1 entry again\n");
    assert_eq!(workspace.ids(), [ids[1].clone()]);
    let ran = workspace.consolidate(["quarantine", "retry", "--all", "--json"]).run().exits(0).json();
    assert_eq!(ran["staged"], serde_json::json!([ids[0], ids[2]]));
    assert_eq!(workspace.ids(), ids);
    // With no attempts counted.
    let command = ["run", "--json", "--updates", "--", "sh", "-c", "exit 3"];
    let error = workspace.consolidate(command).run().exits(70).json_error();
    assert_eq!(error["run"]["failed_entries"][0]["attempts"], 1);
}

#[test]
fn dropped_entries_are_gone_for_good() {
    let (workspace, ids) = with_failed(2);
    let ran = workspace.consolidate(["quarantine", "drop", &ids[0]]).run().exits(0);
    assert_eq!(ran.out, "deleted 1 entry\n");
    let ran = workspace.consolidate(["quarantine", "drop", "--all", "--json"]).run().exits(0).json();
    assert_eq!(ran["deleted"], serde_json::json!([ids[1]]));
    let ran = workspace.consolidate(["quarantine", "list"]).run().exits(0);
    assert_eq!(ran.out, "nothing is in the quarantine\n");
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn entry_that_is_not_there_is_an_error_and_those_before_it_are_done() {
    let (workspace, ids) = with_failed(2);
    let unknown = "0199c82c-c000-7000-8000-00000000000a";
    let ran =
        workspace.consolidate(["quarantine", "retry", "--json", &ids[0], unknown, &ids[1]]).run().exits(74);
    let error = ran.json_error();
    assert_eq!((&error["code"], &error["staged"]), (&"not_found".into(), &serde_json::json!([ids[0]])));
    assert_eq!(workspace.ids(), [ids[0].clone()]);
    let ran = workspace.consolidate(["quarantine", "drop", &ids[1], unknown]).run().exits(74);
    assert!(ran.err.contains("1 entry before it is deleted"), "{}", ran.err);
    workspace.consolidate(["quarantine", "retry", "no-id"]).run().exits(65);
}

#[test]
fn entry_that_is_named_twice_is_meant_once() {
    let (workspace, ids) = with_failed(2);
    let twice = |action, id: &str| workspace.consolidate(["quarantine", action, id, id]).run().exits(0).out;
    assert_eq!(twice("retry", &ids[0]), "staged 1 entry again\n");
    assert_eq!(twice("drop", &ids[1]), "deleted 1 entry\n");
    assert_eq!(workspace.ids(), [ids[0].clone()]);
}

#[test]
fn wrong_usage_of_the_quarantine() {
    let workspace = TestWorkspace::new();
    for arguments in [&[][..], &["retry"], &["drop"], &["drop", "--all", "x"], &["list", "x"], &["empty"]] {
        workspace.consolidate(["quarantine"]).args(arguments).run().exits(2);
    }
    for action in ["retry", "drop"] {
        let ran = workspace.consolidate(["quarantine", action]).run().exits(2);
        assert!(ran.err.contains("give ids, as `quarantine list` shows them, or --all"), "{}", ran.err);
    }
}
