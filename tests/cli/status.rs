//! `consolidate status`.

use super::list::put_old_entry;
use super::process::{Program, tidy, wait_until};
use crate::support::{MINIMAL, TestWorkspace, new_entry_id, original_record, set_age};
use insta::assert_snapshot;
use std::fs;

/// A record of an owner in another process-id namespace of another machine.
pub(super) fn foreign_record() -> String {
    format!(
        r#"{{"pid":4242,"pod_name":"pod-far","started_at":"2026-05-01T12:00:00.123456789Z","consumed_ids":["{}"],
           "token":"00112233445566778899aabbccddeeff","process_start":"1",
           "scope":{{"machine":"elsewhere","boot":"another","pid_namespace":"pid:[1]"}},
           "lease_seconds":60,"command_group":null}}"#,
        new_entry_id()
    )
}

fn status(workspace: &TestWorkspace) -> String {
    status_with(workspace, &["status"])
}

fn status_with(workspace: &TestWorkspace, arguments: &[&str]) -> String {
    let ran = workspace.consolidate(arguments).run().exits(0);
    assert_eq!(ran.err, "");
    tidy(&ran.out, workspace)
}

fn lock(workspace: &TestWorkspace) -> serde_json::Value {
    workspace.consolidate(["status", "--json"]).run().exits(0).json()["lock"].take()
}

#[test]
fn missing_staging_directory_is_an_empty_one() {
    let workspace = TestWorkspace::new();
    assert_snapshot!(status(&workspace), @"
    entries   0
    unusable  0
    lock      free
    ");
    assert!(!workspace.staging().exists(), "looking creates nothing");
}

#[test]
fn entries_and_unusable_files_are_counted() {
    let workspace = TestWorkspace::new();
    put_old_entry(&workspace, 2 * 86_400 + 3 * 3_600 + 10);
    put_old_entry(&workspace, 10);
    workspace.put("01968F2E-0000-7000-8000-000000000001.json", MINIMAL);
    workspace.put("empty.json", "");
    workspace.put("not an entry.txt", "");
    // Of a pod whose clock is ahead: not the oldest.
    workspace.put("0f968f2e-0000-7000-8000-000000000002.json", &MINIMAL[..20]);
    fs::create_dir(workspace.staged("01968f2e-0000-7000-8000-000000000003.json")).expect("a directory");
    assert_snapshot!(status(&workspace), @"
    entries   3, the oldest 2 d 3 h old
    unusable  3 by name or type; `status --check` reads the entries too
              01968F2E-0000-7000-8000-000000000001.json: the name is not a lower-case UUIDv7 and .json
              <id>.json: it is a directory, not a regular file
              empty.json: the name is not a lower-case UUIDv7 and .json
    lock      free
    ");
    assert_snapshot!(status_with(&workspace, &["status", "--check"]), @"
    entries   2, 118 bytes, the oldest 2 d 3 h old
    unusable  4
              01968F2E-0000-7000-8000-000000000001.json: the name is not a lower-case UUIDv7 and .json
              <id>.json: it is a directory, not a regular file
              <id>.json: in `source`: a string that does not end at column 20
              empty.json: the name is not a lower-case UUIDv7 and .json
    lock      free
    ");
}

#[test]
fn document_of_a_status() {
    let workspace = TestWorkspace::new();
    workspace.put("empty.json", "");
    put_old_entry(&workspace, 7_200);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod \"b\"", &[]));
    let cut = new_entry_id().file_name();
    workspace.put(&cut, &MINIMAL[..20]);
    let unread = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    assert_eq!((&unread["checked"], &unread["entries"]), (&false.into(), &2.into()));
    assert_eq!((&unread["bytes"], &unread["unusable_count"]), (&serde_json::Value::Null, &1.into()));
    fs::remove_file(workspace.staged(&cut)).expect("removed");
    let mut document = workspace.consolidate(["status", "--check", "--json"]).run().exits(0).json();
    let age = document["oldest_age_seconds"].take();
    assert!(age.as_u64().is_some_and(|age| (7_200..7_300).contains(&age)), "{age}");
    let text = serde_json::to_string_pretty(&document).expect("a document");
    assert_snapshot!(tidy(&text, &workspace), @r#"
    {
      "bytes": 59,
      "checked": true,
      "consumed_not_deleted": 0,
      "entries": 1,
      "lock": {
        "consumed_count": 0,
        "owner": {
          "pid": 4294967295,
          "pod_name": "pod \"b\"",
          "started_at": "<time>"
        },
        "reason": "there is no process <pid>",
        "state": "stale"
      },
      "oldest_age_seconds": null,
      "quarantined": 0,
      "unusable": [
        {
          "name": "empty.json",
          "reason": "the name is not a lower-case UUIDv7 and .json"
        }
      ],
      "unusable_count": 1
    }
    "#);
}

#[test]
fn many_unusable_files_are_counted_and_the_first_named() {
    let workspace = TestWorkspace::new();
    for number in 0..1_203 {
        workspace.put(&format!("junk-{number:04}.json"), "");
    }
    let status = status(&workspace);
    let lines: Vec<&str> = status.lines().collect();
    assert_eq!(lines[1], "unusable  1203");
    assert!(
        lines[1_001].contains("junk-0999.json") && lines[1_002].contains("and 203 more files"),
        "{status}"
    );
}

#[test]
fn held_lock_names_its_holder() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let ran = workspace.consolidate(["status"]).run().exits(0);
    assert!(ran.out.contains(&format!("pid {} ", holder.pid())), "{}", ran.out);
    let text = tidy(&ran.out, &workspace);
    let lock_lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("lock")).collect();
    assert_snapshot!(lock_lines.join("\n"), @r#"
    lock      held by pid <pid> (pod "holder") since <time>
              process <pid> runs; it took 1 entry
    "#);
    let lock = lock(&workspace);
    assert_eq!((&lock["state"], &lock["owner"]["pod_name"]), (&"held".into(), &"holder".into()));
    assert_eq!(lock["consumed_count"], 1);
}

#[test]
fn consumed_entries_are_the_business_of_whoever_holds_the_lock() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    let run = new_entry_id();
    let content = format!(
        r#"{{"run_id":"{run}","outcome":"consolidated","pod_name":"","pid":7,"started_at":"","ended_at":"","entry_ids":["{}"]}}"#,
        workspace.ids()[0]
    );
    let ticket = workspace.root().join(format!("runs/.unfinished/{run}.committed"));
    fs::write(&ticket, content).expect("written");
    let text = status(&workspace);
    assert!(text.contains("consumed  1 entry, not deleted yet; whoever holds the lock is at it"), "{text}");
    holder.kill_all();
    let text = status(&workspace);
    assert!(text.contains("consumed  1 entry, not deleted yet; the next run tries again"), "{text}");
}

/// It was killed before it had written its record: nobody knows since when.
#[test]
fn contender_without_a_record_is_told_without_a_time() {
    let workspace = TestWorkspace::new();
    let _holder = workspace.hold();
    let flag = workspace.owner(&workspace.owners()[0]);
    fs::remove_file(workspace.lock()).expect("removed");
    fs::write(flag, "").expect("emptied");
    let text = status(&workspace);
    assert!(text.contains("(pod \"\")\n") && !text.contains("since"), "{text}");
}

#[test]
fn stale_lock_says_why() {
    let workspace = TestWorkspace::new();
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &["x"]));
    assert_snapshot!(status(&workspace), @r#"
    entries   0
    unusable  0
    lock      stale, the next run takes it over; it was held by pid <pid> (pod "pod-b") since <time>
              there is no process <pid>; it took 1 entry
    "#);
}

#[test]
fn owner_elsewhere_is_unknown_until_its_lease_is_over() {
    let workspace = TestWorkspace::new();
    workspace.put(".consolidation.lock", foreign_record());
    assert_snapshot!(status(&workspace), @r#"
    entries   0
    unusable  0
    lock      held as far as can be told from here, by pid <pid> (pod "pod-far") since <time>
              it runs on another machine; it counts as dead once it gave no sign of life for 60 s; it took 1 entry
    "#);
    assert_eq!(lock(&workspace)["state"], "unknown");
    set_age(&workspace.lock(), 70);
    assert_eq!(lock(&workspace)["state"], "stale");
    assert_snapshot!(status(&workspace), @r#"
    entries   0
    unusable  0
    lock      stale, the next run takes it over; it was held by pid <pid> (pod "pod-far") since <time>
              it runs on another machine and has not renewed its lease of 60 s; it took 1 entry
    "#);
}

#[test]
fn unreadable_lock_shows_how_it_begins() {
    let workspace = TestWorkspace::new();
    for content in [&b""[..], b"{\"pid\":12,\"pod_na", &[0; 300], b"\x1b[31mred\x00\xff\n\"x\""] {
        workspace.put(".consolidation.lock", content);
        let ran = workspace.consolidate(["status"]).run().exits(0);
        assert!(
            ran.out.contains("lock      unreadable, taken over once it has not changed for 5 s: "),
            "{}",
            ran.out
        );
        assert_eq!(lock(&workspace)["state"], "unreadable");
    }
    workspace.put(".consolidation.lock", "{\"pid\":12,\"pod_na");
    assert_snapshot!(status(&workspace), @r#"
    entries   0
    unusable  0
    lock      unreadable, taken over once it has not changed for 5 s: a string that does not end at column 17
              it begins: {\"pid\":12,\"pod_na
    "#);
}

#[test]
fn what_is_no_file_in_the_place_of_the_lock_blocks_it() {
    for name in [".consolidation.lock", ".consolidation.lock.q"] {
        let workspace = TestWorkspace::new();
        workspace.stage(1);
        fs::create_dir(workspace.root().join("_staging").join(name)).expect("made");
        let ran = workspace.consolidate(["status"]).run().exits(0);
        let expected =
            format!("lock      blocked, _staging/{name}: a directory stands in the place of the lock");
        assert!(ran.out.contains(&expected), "{}", ran.out);
        assert_eq!(lock(&workspace)["state"], "blocked");
        assert_eq!(lock(&workspace)["path"], format!("_staging/{name}"));
        let refused = workspace.consolidate(["run", "--", "true"]).run();
        assert!(refused.err.contains(&format!("_staging/{name}: a directory stands")), "{}", refused.err);
        let found = workspace.consolidate(["doctor"]).run().exits(1);
        assert!(
            found.out.contains(&format!("foreign: _staging/{name}: a directory stands")),
            "{}",
            found.out
        );
    }
}

#[test]
fn looking_changes_nothing() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    workspace.put("broken.json", "x");
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[]));
    let before = (workspace.visible(), workspace.lock_bytes(), workspace.owners());
    for arguments in [&["status"][..], &["status", "--json"], &["list"], &["list", "--json"]] {
        workspace.consolidate(arguments).run().exits(0);
    }
    assert_eq!((workspace.visible(), workspace.lock_bytes(), workspace.owners()), before);
    assert_eq!(workspace.temporaries(), [] as [String; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn process_that_took_over_the_number_is_not_the_owner() {
    let workspace = TestWorkspace::new();
    let mut stranger = Program::new("sleep").args(["60"]).start();
    let record = original_record(stranger.pid(), "pod-b", &[]);
    let since = record.find("\"started_at\": \"").expect("a time") + "\"started_at\": \"".len();
    let long_ago = format!("{}2020{}", &record[..since], &record[since + 4..]);
    workspace.put(".consolidation.lock", long_ago);
    // A process shows its start as soon as it is there.
    wait_until("the lock is stale", || lock(&workspace)["state"] == "stale");
    workspace.stage(1);
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert!(!stranger.has_ended(), "the stranger was left alone");
}
