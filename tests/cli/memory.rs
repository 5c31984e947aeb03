//! `consolidate memory` and `consolidate schema`.

use super::process::tidy;
use crate::support::TestWorkspace;
use insta::assert_snapshot;
use std::fs;

/// Records as runs write them, and one that people wrote.
const RECORDS: [(&str, &str); 3] = [
    (
        "decision/use-sqlite",
        "---\nkind: decision\nslug: use-sqlite\ntitle: \"Use SQLite\"\nstatus: active\nsources:\n  \
         - {segment_id: \"session-1\", range: [0, 17]}\n  - {segment_id: \"session-2\", range: [3, 4]}\n\
         created: 2026-05-01T12:00:00Z\nupdated: 2026-05-02T12:00:00Z\n---\n\nIt is enough.\n\n- small\n- known\n",
    ),
    (
        "decision/use-files",
        "---\nkind: decision\nslug: use-files\ntitle: \"Use files\"\nstatus: replaced\nsources: []\n\
         created: 2026-05-01T12:00:00Z\nupdated: 2026-05-02T12:00:00Z\n\
         replaced_by: decision/use-sqlite\n---\n\nNo.\n",
    ),
    ("note/tools", "# Tools\n\nmake\n"),
];

fn with_records() -> TestWorkspace {
    let workspace = TestWorkspace::new();
    for (name, text) in RECORDS {
        let path = workspace.root().join("memory").join(name).with_extension("md");
        fs::create_dir_all(path.parent().expect("its kind")).expect("a directory");
        fs::write(path, text).expect("written");
    }
    workspace
}

#[test]
fn records_are_listed_by_kind_and_slug() {
    let workspace = with_records();
    let ran = workspace.consolidate(["memory"]).run().exits(0);
    assert_snapshot!(ran.out, @"
    decision/use-files   replaced  Use files
    decision/use-sqlite  active    Use SQLite
    note/tools           active    Tools
    ");
    let ran = workspace.consolidate(["memory", "note"]).run().exits(0);
    assert_snapshot!(ran.out, @"note/tools  active    Tools");
    let ran = workspace.consolidate(["memory", "--json", "note"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"{"records":[{"kind":"note","slug":"tools","title":"Tools","status":"active","updated":""}],"unreadable":[]}"#);
    ran.json();
}

#[test]
fn record_is_shown_with_its_text() {
    let workspace = with_records();
    let ran = workspace.consolidate(["memory", "decision/use-sqlite"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @"
    record    decision/use-sqlite
    title     Use SQLite
    status    active
    created   <time>
    updated   <time>
    source    session-1 0..17
    source    session-2 3..4

    It is enough.

    - small
    - known
    ");
    let ran = workspace.consolidate(["memory", "decision/use-files"]).run().exits(0);
    assert!(ran.out.contains("status    replaced by decision/use-sqlite\n"), "{}", ran.out);
    let ran = workspace.consolidate(["memory", "decision/use-sqlite", "--json"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"{"body":"It is enough.\n\n- small\n- known\n","created":"<time>","kind":"decision","replaced_by":null,"slug":"use-sqlite","sources":[{"range":[0,17],"segment_id":"session-1"},{"range":[3,4],"segment_id":"session-2"}],"status":"active","title":"Use SQLite","updated":"<time>"}"#);
    ran.json();
}

#[test]
fn no_records_are_no_failure_and_a_missing_one_is() {
    let workspace = TestWorkspace::new();
    assert_eq!(workspace.consolidate(["memory"]).run().exits(0).out, "there is no record\n");
    let ran = workspace.consolidate(["memory", "note"]).run().exits(0);
    assert_eq!(ran.out, "there is no record of the kind note\n");
    let error = workspace.consolidate(["memory", "note/x", "--json"]).run().exits(74).json_error();
    assert_eq!(error["code"], "not_found");
    for name in ["Note", "note/X", "note/../x", "/", "note/", "../note"] {
        workspace.consolidate(["memory", "--", name]).run().exits(65);
    }
    assert!(!workspace.has("memory"));
}

#[test]
fn record_that_cant_be_read_is_named_and_hides_no_other() {
    let workspace = with_records();
    fs::write(workspace.root().join("memory/note/broken.md"), [0xff, 0xfe]).expect("written");
    let ran = workspace.consolidate(["memory"]).run().exits(0);
    assert_eq!(ran.out.lines().count(), 3);
    assert!(ran.err.starts_with("consolidate: unreadable: memory/note/broken.md: "), "{}", ran.err);
    let ran = workspace.consolidate(["memory", "--json"]).run().exits(0);
    assert_eq!((ran.json()["records"].as_array().map(Vec::len), &*ran.err), (Some(3), ""));
    assert_eq!(ran.json()["unreadable"][0]["path"], "memory/note/broken.md");
    let error = workspace.consolidate(["memory", "--json", "note/broken"]).run().exits(65).json_error();
    assert_eq!(error["code"], "unusable");
}

#[test]
fn what_people_wrote_does_not_reach_the_terminal_as_it_is() {
    let workspace = TestWorkspace::new();
    fs::create_dir_all(workspace.root().join("memory/note")).expect("a directory");
    let text = "---\ntitle: \"\u{7}bell\"\n---\n\n\u{9b}31mred\r\n\ttab\n";
    fs::write(workspace.root().join("memory/note/a.md"), text).expect("written");
    for arguments in [&["memory"][..], &["memory", "note/a"]] {
        let ran = workspace.consolidate(arguments).run();
        let dangerous = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!ran.out.contains(dangerous) && !ran.err.contains(dangerous), "{ran:?}");
    }
}

#[test]
fn schema_is_json_with_and_without_the_option() {
    let workspace = TestWorkspace::new();
    let ran = workspace.consolidate(["schema"]).run().exits(0);
    let schema: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(schema["type"], "object");
    assert_eq!(workspace.consolidate(["schema", "--json"]).run().exits(0).json(), schema);
}
