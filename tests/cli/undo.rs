//! `consolidate undo`, and what `consolidate log` shows of changes.

use super::process::tidy;
use crate::support::{TestWorkspace, names};
use insta::assert_snapshot;
use std::fs;

impl TestWorkspace {
    /// Consolidates one entry into this update and gives the run.
    #[track_caller]
    fn change(&self, update: &str) -> String {
        self.stage(1);
        let script = format!("printf '%s\\n' '{update}'");
        let command = ["run", "--json", "--updates", "--", "sh", "-c", &script];
        let ran = self.consolidate(command).run().exits(0).json();
        ran["runs"][0].as_str().expect("a run").to_owned()
    }
}

const FIRST: &str = r#"{"kind":"note","slug":"a","title":"A","body":"first"}"#;
const SECOND: &str = r#"{"kind":"note","slug":"a","body":"second"}"#;

#[test]
fn records_are_put_back_and_the_entries_stay_consumed() {
    let workspace = TestWorkspace::new();
    let first = workspace.change(FIRST);
    let before = workspace.text("memory/note/a.md");
    let second = workspace.change(SECOND);
    assert_ne!(workspace.text("memory/note/a.md"), before);
    let ran = workspace.consolidate(["undo", &second, "--pod", "test-pod"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"<id> has undone <id>: 1 record is put back");
    assert_eq!(workspace.text("memory/note/a.md"), before);
    let ran = workspace.consolidate(["undo", &first, "--json"]).run().exits(0).json();
    assert_eq!((&ran["undoes"], &ran["lock_lost"]), (&first.as_str().into(), &false.into()));
    assert_eq!(ran["changes"][0]["removed"], true);
    assert_eq!(names(&workspace.root().join("memory/note")), [] as [String; 0]);
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
}

#[test]
fn undone_run_can_be_done_again_by_undoing_the_undo() {
    let workspace = TestWorkspace::new();
    let run = workspace.change(FIRST);
    let text = workspace.text("memory/note/a.md");
    let ran = workspace.consolidate(["undo", &run, "--json"]).run().exits(0).json();
    let undo = ran["run"].as_str().expect("a run");
    assert!(!workspace.has("memory/note/a.md"));
    workspace.consolidate(["undo", undo]).run().exits(0);
    assert_eq!(workspace.text("memory/note/a.md"), text);
}

#[test]
fn record_that_was_changed_since_is_not_overwritten() {
    let workspace = TestWorkspace::new();
    let first = workspace.change(FIRST);
    workspace.change(SECOND);
    let path = workspace.root().join("memory/note/a.md");
    let by_hand = fs::read_to_string(&path).expect("read") + "by hand\n";
    fs::write(&path, &by_hand).expect("written");
    let error = workspace.consolidate(["undo", &first, "--json"]).run().exits(75).json_error();
    assert_eq!(error["code"], "conflict");
    assert!(
        error["message"].as_str().is_some_and(|message| message.ends_with("nothing was changed")),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).expect("read"), by_hand);
    workspace.assert_nothing_left();
}

#[test]
fn unknown_runs_and_a_lock_in_use_are_errors() {
    let workspace = TestWorkspace::new();
    let unknown = "0199c82c-c000-7000-8000-00000000000a";
    let error = workspace.consolidate(["undo", "--json", unknown]).run().exits(74).json_error();
    assert_eq!(error["code"], "not_found");
    workspace.consolidate(["undo", "no-run"]).run().exits(65);
    workspace.consolidate(["undo"]).run().exits(2);
    let run = workspace.change(FIRST);
    let holder = workspace.hold();
    workspace.consolidate(["undo", &run]).run().exits(75);
    workspace.let_go();
    holder.finish().exits(0);
    assert!(workspace.has("memory/note/a.md"));
}

#[test]
fn log_shows_what_runs_changed_and_undid() {
    let workspace = TestWorkspace::new();
    let run = workspace.change(FIRST);
    workspace.consolidate(["undo", &run, "--pod", "test-pod"]).run().exits(0);
    let ran = workspace.consolidate(["log"]).run().exits(0);
    let out = tidy(&ran.out, &workspace);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("<id>  <time>  undone <id>, 1 record put back; "), "{}", lines[0]);
    assert!(lines[1].contains("consolidated 1 entry, changed 1 record; "), "{}", lines[1]);
    let ran = workspace.consolidate(["log", &run]).run().exits(0);
    assert!(ran.out.ends_with("\n  created note/a\n"), "{}", ran.out);
    let ran = workspace.consolidate(["log", &run, "--json"]).run().exits(0).json();
    assert_eq!(
        ran["changes"][0],
        serde_json::json!({"kind": "note", "slug": "a", "created": true, "removed": false})
    );
}
