//! `consolidate run`: what the command gets, and what becomes of the entries.

use super::process::{Program, ids_in, payload, payloads, tidy};
use crate::support::{MINIMAL, TestWorkspace, new_entry_id, set_age};
use insta::assert_snapshot;
use std::fs;

#[test]
fn command_gets_the_entries_oldest_first_and_they_go() {
    let workspace = TestWorkspace::new();
    let mut ids = workspace.stage(3);
    ids.extend(workspace.stage(2));
    let ran = workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert_eq!((&*ran.out, &*ran.err), ("consolidated 5 entries\n", ""));
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
    for line in workspace.text("lines").lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    }
}

#[test]
fn line_of_an_entry() {
    let workspace = TestWorkspace::new();
    workspace.consolidate(["stage"]).input(payload(7)).run().exits(0);
    let ran = workspace.consolidate(["run", "--", "cat"]).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"
    {"id":"<id>","source":{"segment_id":"pod-a/run-1","range":[7,7]},"decisions":[],"discussions":[],"attempts":[],"requests":[]}
    consolidated 1 entry
    "#);
}

#[test]
fn nothing_to_do_says_so_and_starts_nothing() {
    let workspace = TestWorkspace::new();
    for _ in 0..2 {
        let ran = workspace.run_shell(&[], "touch started").run().exits(0);
        assert_eq!((&*ran.out, &*ran.err), ("nothing to do: no usable entry is staged\n", ""));
        assert!(!workspace.has("started"));
        workspace.assert_nothing_left();
    }
    let ran = workspace.run_shell(&["--json"], "touch started").run().exits(0);
    assert_snapshot!(ran.out, @r#"{"entries":0,"failed":[],"left":0,"lock_lost":false,"missing":0,"outcome":"nothing_to_do","removed":0,"unusable":[]}"#);
    ran.json();
}

#[test]
fn documents_of_a_run() {
    let workspace = TestWorkspace::new();
    workspace.stage(3);
    workspace.put("broken.json", "");
    let ran = workspace.run_shell(&["--json", "--max-entries", "2"], "cat > lines").run().exits(0);
    assert_snapshot!(ran.out, @r#"{"entries":2,"failed":[],"left":1,"lock_lost":false,"missing":0,"outcome":"consolidated","removed":2,"unusable":[{"name":"broken.json","reason":"the name is not a lower-case UUIDv7 and .json"}]}"#);
    ran.json();
    let ran = workspace.run_shell(&["--json"], "exit 3").run().exits(70);
    assert_snapshot!(ran.out, @r#"{"error":{"code":"consolidator_failed","exit":70,"message":"the command exited with status 3; 1 entry of this run stays staged","run":{"entries":1,"how":"exited with status 3","interrupted_by":null,"outcome":"failed","signal":null,"status":3}}}"#);
    ran.json_error();
}

#[test]
fn failing_command_keeps_the_entries() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let cases: &[(&[&str], &str)] = &[
        (&["sh", "-c", "cat > lines; exit 3"], "exited with status 3"),
        (&["sh", "-c", "exit 1"], "exited with status 1"),
        (&["sh", "-c", "kill -9 $$"], "killed by SIGKILL"),
        (&["sh", "-c", "kill -TERM $$"], "killed by SIGTERM"),
        (&["no-such-command-anywhere"], "exited with status 127: is it installed"),
        (&["./not-executable"], "exited with status 126"),
        (&["."], "exited with status 126"),
    ];
    fs::write(workspace.root().join("not-executable"), "").expect("a file");
    // A directory in the path that may not be searched would be another error.
    let with_path = |program: Program| program.env("PATH", "/usr/bin:/bin");
    for (command, how) in cases {
        let ran = with_path(workspace.consolidate(["run", "--"]).args(*command)).run().exits(70);
        assert_eq!(ran.out, "");
        assert!(ran.err.contains(how), "{command:?}: {}", ran.err);
        assert_eq!(workspace.ids(), ids, "{command:?}");
        workspace.assert_nothing_left();

        let program = with_path(workspace.consolidate(["run", "--json", "--"]).args(*command));
        let error = program.run().exits(70).json_error();
        assert_eq!(error["code"], "consolidator_failed");
        assert_eq!(error["run"]["entries"], 2);
    }
    let ran = workspace.run_shell(&[], "exit 3").run().exits(70);
    assert_snapshot!(ran.err, @"consolidate: the command exited with status 3; 2 entries of this run stay staged");
    let ran = with_path(workspace.consolidate(["run", "--", "no-such-command-anywhere"])).run().exits(70);
    assert_snapshot!(ran.err, @"
    consolidate: cannot run no-such-command-anywhere: No such file or directory (os error 2)
    consolidate: the command exited with status 127: is it installed, and spelled right?; 2 entries of this run stay staged
    ");
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), ids);
}

#[test]
fn entries_that_arrive_meanwhile_stay() {
    let workspace = TestWorkspace::new();
    let early = workspace.stage(3);
    let holder = workspace.hold();
    let mut late = workspace.stage(2);
    workspace.let_go();
    assert_eq!(holder.finish().exits(0).out, "consolidated 3 entries\n");
    assert_eq!(ids_in(&workspace.text("taken")), early);
    assert_eq!(workspace.ids(), late);

    let script = format!("cat > lines; echo '{}' | \"$CONSOLIDATE\" --root . stage > own", payload(9));
    assert_eq!(workspace.run_shell(&[], &script).run().exits(0).out, "consolidated 2 entries\n");
    assert_eq!(ids_in(&workspace.text("lines")), late);
    late = workspace.text("own").lines().map(str::to_owned).collect();
    assert_eq!(workspace.ids(), late);
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), late);
}

#[test]
fn entry_that_vanishes_meanwhile_is_passed_over() {
    let workspace = TestWorkspace::new();
    workspace.stage(3);
    let script = "cat > lines; set -- _staging/*.json; rm \"$2\"";
    let ran = workspace.run_shell(&[], script).run().exits(0);
    assert_eq!(ran.out, "consolidated 3 entries, 1 of them already gone\n");
    workspace.assert_nothing_left();
}

#[test]
fn staging_directory_that_vanishes_meanwhile_is_an_error_and_no_panic() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    let ran = workspace.run_shell(&["--json"], "cat > lines; rm -r _staging").run();
    assert!(matches!(ran.status.code(), Some(74 | 75)), "{ran:?}");
    ran.json_error();
    workspace.stage(1);
    assert_eq!(workspace.run_shell(&[], "cat > lines").run().exits(0).out, "consolidated 1 entry\n");
}

#[test]
fn caps_take_the_oldest_and_leave_the_rest() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(5);
    let ran = workspace.run_shell(&["--max-entries", "2"], "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 2 entries; 3 more wait for the next run\n");
    assert_eq!(ids_in(&workspace.text("lines")), ids[..2]);
    assert_eq!(workspace.ids(), ids[2..]);

    let size = fs::metadata(workspace.staged(&format!("{}.json", ids[2]))).expect("an entry").len();
    let cap = (2 * size + 1).to_string();
    let ran = workspace.run_shell(&["--max-bytes", &cap], "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 2 entries; 1 more waits for the next run\n");
    // One is taken whatever its size: it would wait for ever.
    workspace.stage(1);
    let ran = workspace.run_shell(&["--max-bytes", "1"], "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 1 entry; 1 more waits for the next run\n");
    let ran = workspace.run_shell(&["--max-bytes", "0", "--max-entries", "7"], "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
}

#[test]
fn cap_of_no_entries_does_not_claim_that_nothing_is_staged() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    let ran = workspace.run_shell(&["--max-entries", "0"], "touch started").run();
    match ran.status.code() {
        // It may be refused as wrong usage.
        Some(2) => {}
        _ => assert!(!ran.exits(0).out.contains("no usable entry is staged")),
    }
    let ran = workspace.run_shell(&["--json", "--max-entries", "0"], "touch started").run();
    if ran.status.code() != Some(2) {
        assert_eq!(ran.exits(0).json()["left"], 2);
    }
    assert!(!workspace.has("started"));
    assert_eq!(workspace.ids().len(), 2);
}

/// Else one broken file, being the oldest, would keep all others from ever being consolidated.
#[test]
fn unusable_file_does_not_use_up_a_cap() {
    for cap in [["--max-entries", "1"], ["--max-bytes", "1"]] {
        let workspace = TestWorkspace::new();
        let broken = new_entry_id();
        workspace.put(&broken.file_name(), "{");
        let ids = workspace.stage(2);
        for id in &ids {
            workspace.run_shell(&cap, "cat > lines").run().exits(0);
            assert_eq!(ids_in(&workspace.text("lines")), [id.as_str()], "{cap:?}");
        }
        assert_eq!(workspace.ids(), [broken.to_string()]);
    }
}

#[test]
fn command_that_reads_nothing_answers_for_all_entries() {
    let workspace = TestWorkspace::new();
    workspace.stage(3);
    assert_eq!(workspace.run_shell(&[], "exit 0").run().exits(0).out, "consolidated 3 entries\n");
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

/// More than a pipe holds, and more than one batch.
#[test]
fn command_that_stops_reading_early_is_judged_by_its_exit_status() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2_000);
    for script in ["exec <&-; exit 1", "head -n 1 > lines; exit 1", "exec <&-; sleep 0.2; exit 1", "exit 1"] {
        workspace.run_shell(&[], script).run().exits(70);
        assert_eq!(workspace.ids(), ids, "{script}");
        workspace.assert_nothing_left();
    }
    let ran = workspace.run_shell(&[], "head -n 1 > lines; exec <&-; exit 0").run().exits(0);
    assert_eq!(ran.out, "consolidated 2000 entries\n");
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.stage(2_000);
    assert_eq!(workspace.run_shell(&[], ":").run().exits(0).out, "consolidated 2000 entries\n");
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
}

#[test]
fn command_reads_as_slowly_as_it_likes() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2_500);
    let script = "head -c 10 > first; sleep 0.1; head -c 100000 > second; sleep 0.1; cat > third";
    workspace.run_shell(&[], script).run().exits(0);
    let lines: String = ["first", "second", "third"].map(|name| workspace.text(name)).concat();
    assert_eq!(ids_in(&lines), ids);
}

#[test]
fn unusable_file_is_left_out_named_and_kept() {
    let workspace = TestWorkspace::new();
    let first = workspace.stage(1);
    // Its id is younger than the first one's: far in the future.
    let broken = "f0000000-0000-7000-8000-000000000001";
    workspace.put(&format!("{broken}.json"), "{\"source\":");
    workspace.put("notes.json", MINIMAL);
    let ran = workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert_eq!(ran.out, "consolidated 1 entry\n");
    assert_eq!(ids_in(&workspace.text("lines")), first);
    assert!(ran.err.contains("notes.json") && ran.err.contains(broken), "{}", ran.err);
    assert_eq!(
        workspace.visible().into_keys().collect::<Vec<_>>(),
        [format!("{broken}.json"), "notes.json".into()]
    );
    // Nor is it consumed by a command that reads nothing.
    workspace.stage(1);
    workspace.run_shell(&[], "exit 0").run().exits(0);
    assert_eq!(workspace.ids(), [broken]);
    let ran = workspace.run_shell(&["--json"], "touch started").run().exits(0).json();
    assert_eq!(ran["outcome"], "nothing_to_do");
    assert_eq!(ran["unusable"].as_array().map(Vec::len), Some(2));
    assert!(!workspace.has("started"));
}

#[test]
fn unusable_file_in_a_later_batch_is_kept() {
    let workspace = TestWorkspace::new();
    workspace.stage(1_500);
    let broken = "f0000000-0000-7000-8000-000000000001";
    workspace.put(&format!("{broken}.json"), "{\"source\":");
    for (script, code) in [("exit 1", 70), ("exit 0", 0)] {
        workspace.run_shell(&[], script).run().exits(code);
        assert!(workspace.ids().contains(&broken.to_owned()), "{script}");
    }
    assert_eq!(workspace.ids(), [broken]);
}

#[test]
fn entry_that_is_written_in_place_is_taken_once_it_is_whole() {
    let workspace = TestWorkspace::new();
    let id = new_entry_id();
    workspace.put(&id.file_name(), &MINIMAL[..10]);
    let ran = workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert!(ran.out.starts_with("nothing to do"), "{}", ran.out);
    assert_eq!(workspace.ids(), [id.to_string()]);
    workspace.put(&id.file_name(), MINIMAL);
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    assert_eq!(ids_in(&workspace.text("lines")), [id.to_string()]);
}

#[test]
fn output_of_the_command_goes_to_standard_output_unless_a_document_does() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let ran = workspace.run_shell(&[], "echo to out; echo to err >&2").run().exits(0);
    assert_eq!(ran.out, "to out\nconsolidated 1 entry\n");
    assert_eq!(ran.err, "to err\n");
    workspace.stage(1);
    let ran =
        workspace.run_shell(&["--json"], "echo to out; head -c 300000 /dev/zero; exit 0").run().exits(0);
    assert_eq!(ran.json()["outcome"], "consolidated");
    assert!(ran.err.starts_with("to out\n") && ran.err.len() >= 300_000);
    // The gate's own complaint too.
    workspace.stage(1);
    let ran = workspace.consolidate(["--json", "run", "--", "no-such-command"]).run().exits(70);
    ran.json_error();
    assert!(ran.err.contains("cannot run no-such-command"), "{}", ran.err);
}

#[test]
fn command_has_our_environment_and_directory_and_its_arguments_word_for_word() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let elsewhere = workspace.root().join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    let words = ["", "two words", "--json", "--", "'quoted'", "$HOME", "*", "new\nline"];
    let ran = workspace
        .consolidate(["run", "--", "sh", "-c", "pwd -P; echo \"$LEARNED\"; printf '[%s]' \"$@\"", "sh"])
        .args(words)
        .env("LEARNED", "a lot")
        .current_dir(&elsewhere)
        .run()
        .exits(0);
    let directory = elsewhere.canonicalize().expect("a directory");
    let arguments: String = words.iter().map(|word| format!("[{word}]")).collect();
    assert_eq!(ran.out, format!("{}\na lot\n{arguments}consolidated 1 entry\n", directory.display()));
}

#[test]
fn command_is_not_started_twice_and_has_no_descriptors_of_ours() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "echo once >> started; cat > lines; for fd in /proc/self/fd/*; do readlink \"$fd\" >> fds; done; true";
    workspace.run_shell(&[], script).run().exits(0);
    assert_eq!(workspace.text("started"), "once\n");
    assert!(!workspace.text("fds").contains("_staging"), "{}", workspace.text("fds"));
}

#[test]
fn entries_that_can_not_be_deleted_are_reported_and_consumed_all_the_same() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    let stuck = workspace.staged(&format!("{}.json", ids[1]));
    let pinned = Program::new("chattr").args(["+i"]).args([&stuck]);
    let pinned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pinned.run()));
    if !pinned.is_ok_and(|ran| ran.status.success()) {
        eprintln!("skipped: a file can't be made immutable here (chattr +i needs root and ext4 or the like)");
        return;
    }
    let ran = workspace.run_shell(&["--json"], "cat > lines").run().exits(0);
    let again = workspace.run_shell(&[], "cat > again").run().exits(0);
    let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
    let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    Program::new("chattr").args(["-i"]).args([&stuck]).run().exits(0);
    assert_eq!(ran.json()["failed"][0]["id"], ids[1]);
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    assert!(ran.err.contains(&ids[1]), "{}", ran.err);
    // No run gets it again, and the next one deletes it.
    assert!(again.out.starts_with("nothing to do"), "{}", again.out);
    assert_eq!((&status["entries"], &status["consumed_not_deleted"]), (&0.into(), &1.into()));
    assert_eq!(listed["entries"], serde_json::json!([]));
    assert_eq!(workspace.ids(), [ids[1].clone()]);
    workspace.run_shell(&[], "cat > again").run().exits(0);
    assert_eq!(workspace.ids(), [] as [String; 0]);
    assert_eq!(workspace.text("again"), "");
    workspace.assert_nothing_left();
}

#[test]
fn command_may_leave_processes_behind() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script =
        "cat > lines; (while [ ! -e go ]; do sleep 0.01; done; touch later) > /dev/null 2>&1 & exit 0";
    assert_eq!(workspace.run_shell(&[], script).run().exits(0).out, "consolidated 1 entry\n");
    workspace.assert_nothing_left();
    fs::write(workspace.root().join("go"), "").expect("a file");
    super::process::wait_until("what was left behind has ended", || workspace.has("later"));
}

#[test]
fn lock_that_the_command_removes_is_lost_and_the_entries_stay() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    for script in [
        "\"$CONSOLIDATE\" --root . unlock --force",
        "rm _staging/.consolidation.lock",
        ": > _staging/.consolidation.lock",
    ] {
        let ran = workspace.run_shell(&["--json"], script).run().exits(75);
        assert_eq!(ran.json_error()["code"], "lock_lost", "{script}");
        assert_eq!(workspace.ids(), ids, "{script}");
        if workspace.lock().exists() {
            set_age(&workspace.lock(), 10);
        }
    }
    // A failing command whose lock is lost: both are said.
    let ran = workspace.run_shell(&[], "rm _staging/.consolidation.lock; exit 3").run();
    assert!(matches!(ran.status.code(), Some(70 | 75)), "{ran:?}");
    assert!(ran.err.contains("status 3") && ran.err.contains("no longer ours"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
}

#[test]
fn run_in_a_run_is_refused() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "cat > lines; \"$CONSOLIDATE\" --root . run -- touch inner; echo $? > inner-code";
    workspace.run_shell(&[], script).run().exits(0);
    assert_eq!(workspace.text("inner-code"), "75\n");
    assert!(!workspace.has("inner"));
}

#[test]
fn large_entries_fit_through_the_pipe() {
    let workspace = TestWorkspace::new();
    let text = "x".repeat(1_000_000);
    let input: String = (0..5)
        .map(|n| format!(r#"{{"source":{{"segment_id":"s","range":[{n},{n}]}},"text":"{text}"}}"#) + "\n")
        .collect();
    workspace.consolidate(["stage"]).input(input).run().exits(0);
    workspace.consolidate(["stage"]).input(payloads(0..3)).run().exits(0);
    let ids = workspace.ids();
    assert_eq!(workspace.run_shell(&[], "cat > lines").run().exits(0).out, "consolidated 8 entries\n");
    assert_eq!(ids_in(&workspace.text("lines")), ids);
}

#[test]
fn run_without_a_consolidator_is_told_all_three_ways() {
    let workspace = TestWorkspace::new();
    for arguments in [
        &["run"][..],
        &["run", "--"],
        &["run", "--updates"],
        &["run", "--updates", "--"],
        &["run", "--drain"],
    ] {
        let ran = workspace.consolidate(arguments).run().exits(2);
        for way in ["--plugin FILE", "--updates -- CMD", "`run -- CMD`"] {
            assert!(ran.err.contains(way), "{arguments:?}: {}", ran.err);
        }
        // Also where there is no workspace: it is wrong everywhere.
        workspace.consolidate(arguments).env("CONSOLIDATION_ROOT", "nowhere").run().exits(2);
    }
}
