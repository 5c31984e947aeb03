//! `consolidate run --dry-run`.

use super::process::{Program, payload, tidy};
use crate::support::TestWorkspace;
use insta::assert_snapshot;
use std::fs;
use std::path::Path;

/// Every file and directory below, with its content.
fn everything(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("listed").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.push((path.display().to_string(), Vec::new()));
            found.extend(everything(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("read")));
        }
    }
    found.sort();
    found
}

fn dry_run(workspace: &TestWorkspace, options: &[&str], script: &str) -> Program {
    let program = workspace.consolidate(["run", "--updates", "--dry-run"]).args(options);
    program.args(["--", "sh", "-c", script]).current_dir(Path::new("/"))
}

const FIRST: &str = r#"printf '%s\n' '{"kind":"note","slug":"a","title":"A","body":"one\ntwo\nthree"}'"#;
const SECOND: &str = r#"printf '%s\n' '{"kind":"note","slug":"a","body":"one\n2\nthree"}'; printf '%s\n' '{"kind":"idea","slug":"b","title":"B","body":"new"}'"#;

#[test]
fn changes_are_shown_as_a_diff_and_nothing_is_touched() {
    let workspace = TestWorkspace::new();
    fs::create_dir_all(workspace.root().join("memory/note")).expect("a directory");
    let text = "---\ntitle: A\nkept: yes\n---\n\none\ntwo\nthree\n";
    fs::write(workspace.root().join("memory/note/a.md"), text).expect("written");
    workspace.consolidate(["stage"]).input(payload(7)).run().exits(0);
    let before = everything(workspace.root());
    let ran = dry_run(&workspace, &[], SECOND).run().exits(0);
    assert_eq!(ran.err, "");
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"
    --- /dev/null
    +++ memory/idea/b.md
    @@ -0,0 +1,12 @@
    +---
    +kind: idea
    +slug: b
    +title: "B"
    +status: active
    +sources:
    +  - {segment_id: "pod-a/run-1", range: [7, 7]}
    +created: <time>
    +updated: <time>
    +---
    +
    +new
    --- memory/note/a.md
    +++ memory/note/a.md
    @@ -1,8 +1,14 @@
     ---
    +kind: note
    +slug: a
     title: A
    +status: active
    +sources:
    +  - {segment_id: "pod-a/run-1", range: [7, 7]}
    +updated: <time>
     kept: yes
     ---
     
     one
    -two
    +2
     three
    "#);
    let ran = dry_run(&workspace, &["--json"], SECOND).run().exits(0).json();
    assert_eq!((&ran["outcome"], &ran["entries"]), (&"dry_run".into(), &1.into()));
    let changes = ran["changes"].as_array().expect("a list");
    assert_eq!(
        changes.iter().map(|change| &change["path"]).collect::<Vec<_>>(),
        ["memory/idea/b.md", "memory/note/a.md"]
    );
    assert_eq!(changes[0]["before"], serde_json::Value::Null);
    assert_eq!(changes[1]["before"], workspace.text("memory/note/a.md").as_str());
    assert_eq!(everything(workspace.root()), before);
}

#[test]
fn lock_of_another_does_not_matter() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let before = everything(workspace.root());
    let ran = dry_run(&workspace, &[], FIRST).run().exits(0);
    assert!(ran.out.starts_with("--- /dev/null\n+++ memory/note/a.md\n"), "{}", ran.out);
    assert_eq!(everything(workspace.root()), before);
    workspace.let_go();
    holder.finish().exits(0);
}

#[test]
fn nothing_that_would_change_is_said() {
    let workspace = TestWorkspace::new();
    assert_eq!(dry_run(&workspace, &[], "exit 1").run().exits(0).out, "nothing would change\n");
    workspace.stage(1);
    assert_eq!(dry_run(&workspace, &[], "exit 0").run().exits(0).out, "nothing would change\n");
    assert_eq!(workspace.ids().len(), 1);
}

#[test]
fn entries_that_fail_are_named_and_no_attempt_is_noted() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let script = format!("cat > /tmp/unused.$$; rm /tmp/unused.$$; {FIRST}; exit 3");
    let before = everything(workspace.root());
    let ran = dry_run(&workspace, &[], &script).run().exits(70);
    assert!(ran.err.contains("exited with status 3"), "{}", ran.err);
    assert_eq!((ran.out, everything(workspace.root())), (String::new(), before));
    assert_eq!(workspace.ids(), ids);
}

#[test]
fn text_of_a_record_does_not_reach_the_terminal_as_it_is() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = r#"printf '%s\n' '{"kind":"note","slug":"a","title":"A","body":"\u001b[31mred\ttab"}'"#;
    let ran = dry_run(&workspace, &[], script).run().exits(0);
    assert!(ran.out.contains("+\\u{1b}[31mred\ttab"), "{}", ran.out);
}
