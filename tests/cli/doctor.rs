//! `consolidate doctor`, and the option that says what is synchronised.

use super::process::{Program, tidy};
use crate::support::{TestWorkspace, entry_id, new_entry_id, original_record, set_age};
use insta::assert_snapshot;
use std::fs;

#[test]
fn workspace_in_order_exits_0() {
    let workspace = TestWorkspace::new();
    for fix in [&[][..], &["--fix"]] {
        let ran = workspace.consolidate(["doctor"]).args(fix).run().exits(0);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("nothing is out of order\n", ""));
        let document = workspace.consolidate(["doctor", "--json"]).args(fix).run().exits(0);
        assert_eq!(document.out, "{\"findings\":[],\"left\":0}\n");
    }
    workspace.assert_nothing_left();
    let holder = workspace.hold();
    workspace.consolidate(["doctor"]).run().exits(0);
    workspace.let_go();
    holder.finish().exits(0);
    workspace.consolidate(["doctor"]).run().exits(0);
}

/// Three things that are left over, and two that somebody must see to.
fn disorder(workspace: &TestWorkspace) -> Vec<String> {
    let ids = workspace.stage(2);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    workspace.put("notes \u{1b}[31m.json", "");
    let old = entry_id(1_700_000_000_000, 1).temporary_name();
    workspace.put(&old, "");
    set_age(&workspace.staged(&old), 30 * 86_400);
    let unfinished = workspace.root().join("runs/.unfinished");
    fs::create_dir_all(&unfinished).expect("a directory");
    let run = new_entry_id();
    let content = format!(
        r#"{{"run_id":"{run}","outcome":"consolidated","pod_name":"pod-c","pid":7,"started_at":"","ended_at":"","entry_ids":["{}"]}}"#,
        ids[0]
    );
    fs::write(unfinished.join(format!("{run}.committed")), content).expect("written");
    fs::write(workspace.root().join("runs/notes.txt"), "mine").expect("written");
    ids
}

#[test]
fn findings_exit_1_and_nothing_is_changed() {
    let workspace = TestWorkspace::new();
    let ids = disorder(&workspace);
    let ran = workspace.consolidate(["doctor"]).run().exits(1);
    assert_eq!(ran.err, "", "the result is all that is said");
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"
    left over  stale lock: _staging/.consolidation.lock: pid <pid> (pod "pod-b"): there is no process <pid>
    left over  old temporary file: _staging/.<id>.tmp: a killed writer left it
    left over  unfinished run: runs/.unfinished/<id>.committed: it is committed, and its entries are to be deleted
    see to it  unusable entry: _staging/notes \u{1b}[31m.json: the name is not a lower-case UUIDv7 and .json; mend it or move it away
    see to it  foreign: runs/notes.txt: it is no outcome of a run; move it away
    5 findings are left; the next run, or `doctor --fix`, removes what is left over
    "#);
    let document = workspace.consolidate(["doctor", "--json"]).run().exits(1);
    document.json();
    assert_snapshot!(tidy(&document.out, &workspace), @r#"{"findings":[{"detail":"pid <pid> (pod \"pod-b\"): there is no process <pid>","kind":"stale_lock","mendable":true,"mended":false,"path":"_staging/.consolidation.lock"},{"detail":"a killed writer left it","kind":"temporary","mendable":true,"mended":false,"path":"_staging/.<id>.tmp"},{"detail":"it is committed, and its entries are to be deleted","kind":"unfinished_run","mendable":true,"mended":false,"path":"runs/.unfinished/<id>.committed"},{"detail":"the name is not a lower-case UUIDv7 and .json; mend it or move it away","kind":"unusable_entry","mendable":false,"mended":false,"path":"_staging/notes \u001b[31m.json"},{"detail":"it is no outcome of a run; move it away","kind":"foreign","mendable":false,"mended":false,"path":"runs/notes.txt"}],"left":5}"#);
    assert_eq!(workspace.ids(), ids);
    assert!(workspace.lock().exists());
}

#[test]
fn fix_removes_what_is_left_over_and_says_what_is_not() {
    let workspace = TestWorkspace::new();
    let ids = disorder(&workspace);
    let ran = workspace.consolidate(["doctor", "--fix"]).run().exits(1);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"
    removed    stale lock: _staging/.consolidation.lock: pid <pid> (pod "pod-b"): there is no process <pid>
    removed    old temporary file: _staging/.<id>.tmp: a killed writer left it
    removed    unfinished run: runs/.unfinished/<id>.committed: it is committed, and its entries are to be deleted
    see to it  unusable entry: _staging/notes \u{1b}[31m.json: the name is not a lower-case UUIDv7 and .json; mend it or move it away
    see to it  foreign: runs/notes.txt: it is no outcome of a run; move it away
    2 findings are left
    "#);
    assert_eq!(workspace.ids(), ids[1..]);
    assert_eq!(workspace.text("runs/notes.txt"), "mine");
    workspace.assert_nothing_left();
    fs::remove_file(workspace.root().join("runs/notes.txt")).expect("removed");
    fs::remove_file(workspace.staged("notes \u{1b}[31m.json")).expect("removed");
    workspace.consolidate(["doctor"]).run().exits(0);

    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    let ran = workspace.consolidate(["doctor", "--fix"]).run().exits(0);
    assert!(ran.out.ends_with("everything was removed\n"), "{}", ran.out);
    workspace.assert_nothing_left();
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    let document = workspace.consolidate(["doctor", "--fix", "--json"]).run().exits(0).json();
    assert_eq!((&document["left"], &document["findings"][0]["mended"]), (&0.into(), &true.into()));
}

#[test]
fn fix_is_refused_while_the_lock_is_held() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    workspace.put("notes.json", "");
    workspace.consolidate(["doctor"]).run().exits(1);
    let before = workspace.lock_bytes();
    let ran = workspace.consolidate(["doctor", "--fix"]).run().exits(75);
    assert!(ran.err.contains(&format!("live pid {} (pod \"holder\")", holder.pid())), "{}", ran.err);
    assert_eq!(ran.out, "");
    let error = workspace.consolidate(["doctor", "--fix", "--json"]).run().exits(75).json_error();
    assert_eq!(error["code"], "in_use");
    assert_eq!(workspace.lock_bytes(), before);
    workspace.let_go();
    holder.finish().exits(0);
}

#[test]
fn missing_root_is_an_error_and_no_finding() {
    let workspace = TestWorkspace::new();
    Program::consolidate(["doctor", "--root", "nowhere"]).run().exits(74);
    workspace.consolidate(["doctor", "surplus"]).run().exits(2);
}

#[test]
fn durability_is_full_or_none_by_option_or_environment() {
    let workspace = TestWorkspace::new();
    for how in ["full", "none"] {
        let staged = workspace.consolidate(["stage", "--durability", how]).input(super::process::payload(1));
        staged.run().exits(0);
        workspace.run_shell(&["--durability", how], "cat > lines").run().exits(0);
        workspace.stage(1);
        let run = workspace.run_shell(&[], "cat > lines").env("CONSOLIDATION_DURABILITY", how);
        assert_eq!(run.run().exits(0).out, "consolidated 1 entry\n");
        workspace.consolidate(["--durability", how, "status"]).run().exits(0);
    }
    workspace.stage(1);
    for wrong in ["", "Full", "half", "0"] {
        let ran = workspace.run_shell(&["--durability", wrong], "touch started").run().exits(2);
        assert!(ran.err.contains("--durability"), "{}", ran.err);
        let by_environment = workspace.run_shell(&["--json"], "touch started");
        let ran = by_environment.env("CONSOLIDATION_DURABILITY", wrong).run().exits(2);
        assert_eq!(ran.json_error()["code"], "usage");
    }
    assert!(!workspace.has("started"));
    assert_eq!(workspace.ids().len(), 1);
}
