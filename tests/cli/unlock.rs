//! `consolidate unlock`.

use super::process::{tidy, wait_until};
use super::status::foreign_record;
use crate::support::{TestWorkspace, original_record, set_age};
use insta::assert_snapshot;

#[test]
fn no_lock_is_nothing_to_do() {
    let workspace = TestWorkspace::new();
    for arguments in [&["unlock"][..], &["unlock", "--force"]] {
        let ran = workspace.consolidate(arguments).run().exits(0);
        assert_eq!(ran.out, "there was no lock to remove\n");
        assert!(!workspace.staging().exists(), "nothing is created");
    }
    workspace.stage(1);
    for arguments in [&["unlock"][..], &["unlock", "--force"]] {
        assert_eq!(workspace.consolidate(arguments).run().exits(0).out, "there was no lock to remove\n");
    }
    assert_eq!(workspace.ids().len(), 1);
}

#[test]
fn stale_lock_is_removed_and_entries_stay() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[&ids[0]]));
    let ran = workspace.consolidate(["unlock"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"removed the lock of pid <pid> (pod "pod-b"), taken <time>: there is no process <pid>"#);
    workspace.assert_nothing_left();
    assert_eq!(workspace.ids(), ids);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[&ids[0]]));
    let document = workspace.consolidate(["unlock", "--json"]).run().exits(0);
    assert_snapshot!(tidy(&document.out, &workspace), @r#"{"removed":{"kind":"stale","owner":{"pid":<pid>,"pod_name":"pod-b","started_at":"<time>"},"reason":"there is no process <pid>"}}"#);
    document.json();
}

#[test]
fn live_owner_is_refused_and_loses_by_force() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let ids = workspace.ids();
    let before = workspace.lock_bytes();
    let ran = workspace.consolidate(["unlock"]).run().exits(75);
    assert!(ran.err.contains(&format!("live pid {} (pod \"holder\")", holder.pid())), "{}", ran.err);
    assert_eq!(workspace.lock_bytes(), before);

    let ran = workspace.consolidate(["unlock", "--force"]).run().exits(0);
    assert!(ran.out.contains(&format!("pid {} (pod \"holder\")", holder.pid())), "{}", ran.out);
    workspace.assert_nothing_left();
    workspace.let_go();
    let ran = holder.finish().exits(75);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"
     WARN lost the lock: the one on disk is not ours root=<root> reason="consolidation lock _staging/.consolidation.lock is no longer ours: somebody removed its owner flag; a run that was not committed before is not any more, and deletes no entry; `log` shows what others did with them, the next run takes what is still staged"
    consolidate: cannot record the consumed entries in <root>: consolidation lock _staging/.consolidation.lock is no longer ours: somebody removed its owner flag; a run that was not committed before is not any more, and deletes no entry; `log` shows what others did with them, the next run takes what is still staged
    "#);
    assert_eq!(workspace.ids(), ids, "who lost the lock deletes nothing");
    workspace.assert_nothing_left();
}

#[test]
fn holder_that_was_replaced_names_its_successor_and_deletes_nothing() {
    let workspace = TestWorkspace::new();
    let first = workspace.hold_as("first");
    let ids = workspace.ids();
    workspace.consolidate(["unlock", "--force"]).run().exits(0);
    let second = workspace.hold_as("second");
    let record = workspace.lock_bytes();
    workspace.let_go_of("first");
    let ran = first.finish().exits(75);
    assert_eq!(ran.out, "");
    assert!(ran.err.contains(&format!("now that of pid {} (pod \"second\")", second.pid())), "{}", ran.err);
    assert_eq!(workspace.lock_bytes(), record);
    assert_eq!(workspace.ids(), ids);
    workspace.let_go_of("second");
    assert_eq!(second.finish().exits(0).out, "consolidated 1 entry\n");
    workspace.assert_nothing_left();
}

#[test]
fn unknown_owner_is_refused_and_removed_by_force() {
    let workspace = TestWorkspace::new();
    workspace.put(".consolidation.lock", foreign_record());
    let ran = workspace.consolidate(["unlock"]).run().exits(75);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"consolidate: cannot remove the lock in <root>: consolidation lock held by unreachable pid <pid> (pod "pod-far") since <time>: nobody can tell from here whether it lives: it runs on another machine; it counts as dead once it gave no sign of life for 60 s; if it is gone for certain, `unlock --force` removes the lock; `status` shows it"#);
    let ran = workspace.consolidate(["unlock", "--force"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"removed by force the lock of pid <pid> (pod "pod-far"), taken <time>, whose command was not stopped: it runs on another machine; it counts as dead once it gave no sign of life for 60 s"#);
    workspace.assert_nothing_left();
}

#[test]
fn unreadable_lock_is_refused_while_fresh_and_removed_by_force() {
    let workspace = TestWorkspace::new();
    for content in ["", "garbage", "{\"pid\":12,\"pod_na"] {
        workspace.put(".consolidation.lock", content);
        assert!(workspace.consolidate(["unlock"]).run().exits(75).err.contains("can't be read"));
        let ran = workspace.consolidate(["unlock", "--force"]).run().exits(0);
        assert!(ran.out.starts_with("removed an unreadable lock: "), "{}", ran.out);
        workspace.assert_nothing_left();

        workspace.put(".consolidation.lock", content);
        set_age(&workspace.lock(), 10);
        let ran = workspace.consolidate(["unlock"]).run().exits(0);
        assert!(ran.out.starts_with("removed an unreadable lock: "), "{}", ran.out);
        workspace.assert_nothing_left();
    }
}

#[test]
fn run_works_after_every_recovery() {
    let workspace = TestWorkspace::new();
    let locks = [
        original_record(std::process::id(), "pod-b", &[]),
        original_record(u32::MAX, "pod-b", &[]),
        foreign_record(),
        String::new(),
        "garbage".into(),
    ];
    for lock in locks {
        workspace.stage(1);
        workspace.put(".consolidation.lock", lock);
        workspace.consolidate(["status"]).run().exits(0);
        workspace.consolidate(["unlock", "--force"]).run().exits(0);
        assert_eq!(workspace.run_shell(&[], "cat > lines").run().exits(0).out, "consolidated 1 entry\n");
        workspace.assert_nothing_left();
    }
}

/// Somebody else's command may be at work by now.
#[test]
fn command_is_stopped_when_the_lock_is_lost() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let holder = workspace.run_shell(&["--lease", "1"], "cat > lines; touch ready; exec sleep 60").start();
    wait_until("the command runs", || workspace.has("ready"));
    workspace.consolidate(["unlock", "--force"]).run().exits(0);
    let ran = holder.finish().exits(75);
    assert!(ran.err.contains("the lock was lost; the command is stopped"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}
