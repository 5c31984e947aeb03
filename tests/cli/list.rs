//! `consolidate list`.

use super::process::{payload, tidy};
use crate::support::{MINIMAL, TestWorkspace, entry_id};
use insta::assert_snapshot;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

/// An entry that was staged so long ago.
pub(super) fn put_old_entry(workspace: &TestWorkspace, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let millis = u64::try_from(now.as_millis()).expect("a time that fits") - seconds * 1_000;
    let id = entry_id(millis, 7);
    workspace.put(&id.file_name(), MINIMAL);
    id.to_string()
}

#[test]
fn empty_and_missing_directories_hold_nothing() {
    let workspace = TestWorkspace::new();
    assert_eq!(workspace.consolidate(["list"]).run().exits(0).out, "nothing is staged\n");
    assert!(!workspace.staging().exists(), "looking creates nothing");
    fs::create_dir(workspace.staging()).expect("a directory");
    assert_eq!(workspace.consolidate(["list"]).run().exits(0).out, "nothing is staged\n");
    let document = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    assert_eq!(document, serde_json::json!({ "entries": [], "unusable": [] }));
}

#[test]
fn entries_are_listed_oldest_first_with_age_size_and_source() {
    let workspace = TestWorkspace::new();
    put_old_entry(&workspace, 2 * 3_600 + 10);
    put_old_entry(&workspace, 3 * 86_400 + 4 * 3_600 + 10);
    put_old_entry(&workspace, 61 * 60 + 5);
    put_old_entry(&workspace, 15 * 60 + 1);
    workspace.put("notes.json", "{}");
    let ran = workspace.consolidate(["list"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"
    <id>    3 d 4 h        59 B  conv-1/session-1 0..17
    <id>        2 h        59 B  conv-1/session-1 0..17
    <id>  1 h 1 min        59 B  conv-1/session-1 0..17
    <id>  15 min 1 s        59 B  conv-1/session-1 0..17
    unusable: notes.json: the name is not a lower-case UUIDv7 and .json
    ");
    assert_eq!(ran.err, "");
}

#[test]
fn rows_of_the_document() {
    let workspace = TestWorkspace::new();
    let id = entry_id(1_760_000_000_123, 1);
    workspace.put(&id.file_name(), payload(4));
    workspace.put("broken.json", "");
    let ran = workspace.consolidate(["list", "--json"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"{"entries":[{"bytes":53,"id":"<id>","source":{"range":[4,4],"segment_id":"pod-a/run-1"},"staged_at_ms":1760000000123}],"unusable":[{"name":"broken.json","reason":"the name is not a lower-case UUIDv7 and .json"}]}"#);
}

#[test]
fn id_from_the_future_is_no_failure() {
    let workspace = TestWorkspace::new();
    workspace.put(&entry_id((1 << 48) - 1, 1).file_name(), MINIMAL);
    let ran = workspace.consolidate(["list"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"<id>        0 s        59 B  conv-1/session-1 0..17");
    workspace.consolidate(["status"]).run().exits(0);
    assert_eq!(workspace.run_shell(&[], "cat > lines").run().exits(0).out, "consolidated 1 entry\n");
}

#[test]
fn segment_ids_do_not_break_the_lines() {
    let workspace = TestWorkspace::new();
    let input = r#"{"source":{"segment_id":"a\nfake  0 s  1 B\u001b[31m","range":[0,1]}}"#;
    workspace.consolidate(["stage"]).input(input).run().exits(0);
    let ran = workspace.consolidate(["list"]).run().exits(0);
    assert_eq!(ran.lines().len(), 1, "{}", ran.out);
}

#[test]
fn all_of_many_entries_are_listed() {
    let workspace = TestWorkspace::new();
    for count in [149, 1, 1, 349, 500, 1_001] {
        workspace.stage(count);
        let listed = workspace.consolidate(["list"]).run().exits(0).lines();
        let ids: Vec<&str> = listed.iter().map(|line| &line[..36]).collect();
        assert_eq!(ids, workspace.ids());
    }
}

/// A terminal that obeys such a character shows another text than there is.
#[test]
fn characters_that_turn_a_text_around_are_shown_as_escapes() {
    let workspace = TestWorkspace::new();
    let payload = format!(r#"{{"source":{{"segment_id":"a{}b{}c","range":[0,1]}}}}"#, '\u{202e}', '\u{2066}');
    workspace.consolidate(["stage"]).input(payload).run().exits(0);
    let out = workspace.consolidate(["list"]).run().exits(0).out;
    assert!(out.contains(r"a\u{202e}b\u{2066}c"), "{out}");
}
