//! `consolidate run --updates`: what the command gets, what its answers mean, and what they change.

use super::process::{Program, ids_in, payload, tidy, wait_until};
use crate::support::TestWorkspace;
use insta::assert_snapshot;
use rustix::process::Signal;
use std::fs;

/// Prints an update for each line: the record that is named like the position in the segment.
const DIGEST: &str = r#"sed -n 's/^{"id":"\([^"]*\)".*"range":\[\([0-9]*\),.*/{"kind":"note","slug":"n\2","title":"Note \2","body":"Body \2","entries":["\1"]}/p'"#;

impl TestWorkspace {
    /// `consolidate run --updates` with a shell script as the command.
    fn update(&self, options: &[&str], script: &str) -> Program {
        self.consolidate(["run", "--pod", "test-pod", "--updates"])
            .args(options)
            .args(["--", "sh", "-c", script])
    }

    /// Runs the script of the README, as somebody who copies it. None: there is no Python here.
    fn asks_a_model<'a>(&'a self, options: &'a str) -> Option<impl Fn() -> Program + use<'a>> {
        if std::process::Command::new("python3").arg("--version").output().is_err() {
            eprintln!("there is no python3 here");
            return None;
        }
        let (_, script) = include_str!("../../README.md").split_once("```python\n").expect("it has a script");
        let (script, _) = script.split_once("```").expect("it ends");
        fs::write(self.root().join("ask-a-model.py"), script).expect("written");
        let path = r#"PATH="$(dirname "$CONSOLIDATE"):$PATH"; export PATH"#;
        let run = format!("{path}; exec consolidate run {options} --updates -- python3 ask-a-model.py");
        Some(move || Program::shell(&run).current_dir(self.root()))
    }

    /// Stages payloads of these positions.
    #[track_caller]
    fn stage_positions(&self, positions: &[usize]) -> Vec<String> {
        let lines: String = positions.iter().map(|position| payload(*position) + "\n").collect();
        self.consolidate(["stage"]).input(lines).run().exits(0).lines()
    }
}

#[test]
fn updates_become_records_and_their_entries_go() {
    let workspace = TestWorkspace::new();
    workspace.stage_positions(&[1, 2]);
    let ran = workspace.update(&[], DIGEST).run().exits(0);
    assert_eq!((&*ran.out, &*ran.err), ("consolidated 2 entries: 2 records created, 0 changed\n", ""));
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
    assert_snapshot!(tidy(&workspace.text("memory/note/n2.md"), &workspace), @r#"
    ---
    kind: note
    slug: n2
    title: "Note 2"
    status: active
    sources:
      - {segment_id: "pod-a/run-1", range: [2, 2]}
    created: <time>
    updated: <time>
    ---

    Body 2
    "#);
    workspace.stage_positions(&[2, 3]);
    let ran = workspace.update(&[], DIGEST).run().exits(0);
    assert_eq!(ran.out, "consolidated 2 entries: 1 record created, 0 changed\n", "nothing new in the other");
}

#[test]
fn document_of_a_run_with_updates() {
    let workspace = TestWorkspace::new();
    workspace.stage_positions(&[1]);
    let ran = workspace.update(&["--json"], DIGEST).run().exits(0);
    assert_snapshot!(tidy(&ran.out, &workspace), @r#"{"entries":1,"failed":[],"failed_entries":[],"left":0,"lock_lost":false,"missing":0,"outcome":"consolidated","records":{"changed":0,"created":1},"removed":1,"runs":["<id>"],"unusable":[]}"#);
    ran.json();
    let ran = workspace.update(&["--json"], DIGEST).run().exits(0);
    assert_snapshot!(ran.out, @r#"{"entries":0,"failed":[],"failed_entries":[],"left":0,"lock_lost":false,"missing":0,"outcome":"nothing_to_do","records":{"changed":0,"created":0},"removed":0,"runs":[],"unusable":[]}"#);
    let ran = workspace.update(&[], DIGEST).run().exits(0);
    assert_eq!(ran.out, "nothing to do: no usable entry is staged\n");
}

#[test]
fn command_is_started_once_for_each_batch_and_gets_it_oldest_first() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(5);
    let script = "tee -a lines > batch.$$";
    let ran = workspace.update(&["--batch-entries", "2"], script).run().exits(0);
    assert_eq!(ran.out, "consolidated 5 entries: 0 records created, 0 changed\n");
    assert_eq!(ids_in(&workspace.text("lines")), ids);
    let batches = fs::read_dir(workspace.root()).expect("listed").flatten();
    let batches = batches.filter(|file| file.file_name().to_string_lossy().starts_with("batch."));
    assert_eq!(batches.count(), 3);
}

#[test]
fn nothing_printed_means_nothing_to_change() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    for script in ["exit 0", "cat > lines", "cat > lines; echo; echo"] {
        let ran = workspace.update(&[], script).run().exits(0);
        assert!(ran.out.ends_with("\n") && ran.err.is_empty(), "{ran:?}");
        assert_eq!(workspace.ids(), [] as [String; 0], "{script}");
        workspace.stage(1);
    }
    assert!(!workspace.has("memory"));
}

#[test]
fn standard_error_of_the_command_is_ours() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let ran = workspace.update(&["--json"], "echo to err >&2").run().exits(0);
    assert_eq!(ran.err, "to err\n");
    ran.json();
}

#[test]
fn line_that_is_no_update_fails_the_batch_with_its_number() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let good = r#"{"kind":"note","slug":"a","title":"A","body":"b"}"#;
    for (bad, line) in [("no json", 2), (r#"{"kind":"note"}"#, 2), (r#"{"slug":7}"#, 2), ("[]", 2)] {
        let script = format!("cat > /dev/null; echo '{good}'; echo '{bad}'");
        let ran = workspace.update(&["--max-attempts", "100"], &script).run().exits(70);
        assert!(ran.err.contains(&format!("line {line} of its output is no update: ")), "{bad}: {}", ran.err);
        assert_eq!(workspace.ids(), ids);
        workspace.assert_nothing_left();
    }
    let ran = workspace.update(&["--max-attempts", "100"], "printf 'x\\n\\377'").run().exits(70);
    assert!(ran.err.contains("line 2 of its output is not UTF-8"), "{}", ran.err);
    // Well formed, and refused all the same.
    let script = r#"printf '%s\n' '{"kind":"../up","slug":"a","title":"A","body":"b"}'"#;
    workspace.update(&["--max-attempts", "100"], script).run().exits(70);
    assert!(!workspace.has("memory") && !workspace.has("up"));
}

#[test]
fn entry_at_fault_is_left_out_and_named() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage_positions(&[1, 2, 666, 4]);
    let script = format!("cat > batch; if grep -q 666 batch; then exit 3; fi; {DIGEST} batch");
    let ran = workspace.update(&[], &script).run().exits(0);
    assert_eq!(ran.out, "consolidated 3 entries: 3 records created, 0 changed; 1 entry failed\n");
    let expected = format!(
        "consolidate: failed: {}: the command exited with status 3; attempt 1, it is tried again by the next run\n",
        ids[2]
    );
    assert_eq!(ran.err, expected);
    assert_eq!(workspace.ids(), [ids[2].clone()]);
    workspace.stage_positions(&[5]);
    let ran = workspace.update(&["--json"], &script).run().exits(0).json();
    assert_eq!((&ran["entries"], &ran["left"]), (&1.into(), &1.into()), "it waits for the next run");
    workspace.stage_positions(&[6]);
    let ran = workspace.update(&["--json", "--max-attempts", "3"], &script).run().exits(0).json();
    assert_eq!((&ran["entries"], &ran["left"]), (&1.into(), &0.into()), "it is in the quarantine");
    assert_eq!(ran["failed_entries"][0]["id"], ids[2].as_str());
    assert_eq!(ran["failed_entries"][0]["attempts"], 3);
    assert_eq!(ran["failed_entries"][0]["quarantined"], true);
    assert_eq!(workspace.ids(), [] as [String; 0]);
}

#[test]
fn run_that_fails_and_fills_the_quarantine_does_not_say_that_its_entries_stay_staged() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let ran = workspace.update(&["--max-attempts", "1"], "exit 1").run().exits(70);
    assert_snapshot!(tidy(&ran.err, &workspace), @r"
    consolidate: failed: <id>: the command exited with status 1; after 1 attempt it is in the quarantine, `quarantine retry` brings it back
    consolidate: failed: <id>: the command exited with status 1; after 1 attempt it is in the quarantine, `quarantine retry` brings it back
    consolidate: the command failed on every entry that it was given: the command exited with status 1; what is not in the quarantine stays staged
    ");
    assert_eq!(workspace.ids(), [] as [String; 0]);
    let log = workspace.consolidate(["log"]).run().exits(0).out;
    assert!(log.contains("failed, had taken 2 entries"), "{log}");
    workspace.consolidate(["quarantine", "retry", "--all"]).run().exits(0);
    assert_eq!(workspace.ids(), ids);
}

#[test]
fn command_that_always_fails_is_a_failure_of_the_run_that_blames_three_entries() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(20);
    let ran = workspace.update(&["--json"], "exit 1").run().exits(70);
    let error = ran.json_error();
    assert_eq!(error["code"], "consolidator_failed");
    assert_eq!(error["run"]["failed_entries"].as_array().map(Vec::len), Some(3));
    assert_eq!(error["run"]["outcome"], "failed");
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
    assert_snapshot!(workspace.update(&[], "exit 1").run().exits(70).err.lines().last().unwrap_or_default(), @"consolidate: the command failed on every entry that it was given: the command exited with status 1; the entries of this run stay staged");
}

#[test]
fn status_75_and_a_command_that_cant_be_run_blame_nobody() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    let ran = workspace.update(&["--json"], "exit 75").run().exits(75);
    assert_eq!(ran.json_error()["code"], "temporary");
    assert_eq!(ran.json_error()["run"]["failed_entries"], serde_json::json!([]));
    assert_eq!(ran.json_error()["run"]["left"], 3, "all of them wait for the next run");
    for script in ["exit 126", "exit 127"] {
        let error = workspace.update(&["--json"], script).run().exits(70).json_error();
        assert_eq!(error["run"]["failed_entries"], serde_json::json!([]), "{script}");
    }
    let program = workspace.consolidate(["run", "--updates", "--", "no-such-command-anywhere"]);
    let ran = program.env("PATH", "/usr/bin:/bin").run().exits(70);
    assert!(ran.err.contains("is it installed, and spelled right?"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
    // No attempt was counted.
    let script = "cat > batch; test $(wc -l < batch) -gt 1 || exit 1; exit 75";
    workspace.update(&[], script).run().exits(75);
    let ran = workspace.update(&["--json", "--batch-entries", "1"], "exit 1").run().exits(70).json_error();
    assert_eq!(ran["run"]["failed_entries"][0]["attempts"], 1);
}

#[test]
fn command_that_takes_too_long_is_killed_with_all_of_its_processes() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let script = "trap '' TERM; (trap '' TERM; echo $$ > inner; sleep 600) & sleep 600";
    let ran = workspace.update(&["--timeout", "0.5"], script).run().exits(70);
    assert!(ran.err.contains("took longer than 500ms and was killed"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}

#[test]
fn command_that_prints_too_much_is_killed() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let ran = workspace.update(&[], "trap '' PIPE; yes").run().exits(70);
    assert!(ran.err.contains("printed more than 64 MiB"), "{}", ran.err);
    workspace.assert_nothing_left();
}

#[test]
fn signal_reaches_the_command_and_nobody_is_blamed() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    let script = "trap 'exit 0' TERM; cat > lines; touch ready; while :; do sleep 0.02; done";
    let running = workspace.update(&["--json"], script).start();
    wait_until("the command runs", || workspace.has("ready"));
    running.signal(Signal::TERM);
    let error = running.finish().exits(70).json_error();
    assert_eq!((&error["code"], &error["run"]["interrupted_by"]), (&"interrupted".into(), &15.into()));
    assert_eq!(error["run"]["failed_entries"], serde_json::json!([]));
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}

#[test]
fn second_signal_kills_the_command() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let script = "trap 'touch ignored' TERM; touch ready; while :; do sleep 0.02; done";
    let running = workspace.update(&[], script).start();
    wait_until("the command runs", || workspace.has("ready"));
    running.signal(Signal::TERM);
    wait_until("the command has ignored it", || workspace.has("ignored"));
    running.signal(Signal::TERM);
    assert!(running.finish().exits(70).err.contains("interrupted by SIGTERM"));
    workspace.assert_nothing_left();
}

#[test]
fn lock_names_the_process_group_while_the_command_runs() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let script = "touch ready; while [ ! -e go ]; do sleep 0.01; done";
    let mut running = workspace.update(&[], script).start();
    wait_until("the command runs", || workspace.has("ready"));
    assert!(workspace.lock_record().command_group.is_some());
    assert_eq!(workspace.lock_record().consumed_ids.texts(), ids);
    // The lock counts as held as long as the command works, also when `consolidate` is gone.
    running.kill();
    workspace.run_shell(&[], "touch second").run().exits(75);
    fs::write(workspace.root().join("go"), "").expect("a file");
    wait_until("the lock is free", || workspace.run_shell(&[], "cat > lines").run().status.success());
    assert_eq!(ids_in(&workspace.text("lines")), ids, "nothing of the killed run was consumed");
    assert!(!workspace.has("second"));
}

#[test]
fn command_is_stopped_when_the_lock_is_lost() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let script = "touch ready; while :; do sleep 0.02; done";
    let running = workspace.update(&["--lease", "1"], script).start();
    wait_until("the command runs", || workspace.has("ready"));
    workspace.consolidate(["unlock", "--force"]).run().exits(0);
    let ran = running.finish().exits(75);
    assert!(ran.err.contains("lock"), "{}", ran.err);
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
}

#[test]
fn drain_goes_on_with_what_the_command_stages() {
    let workspace = TestWorkspace::new();
    workspace.stage(2);
    let more = format!(
        "cat >> lines; if [ ! -e once ]; then touch once; echo '{}' | \"$CONSOLIDATE\" --root . stage > own; fi",
        payload(9)
    );
    let ran = workspace.update(&["--drain", "--json"], &more).run().exits(0).json();
    assert_eq!((&ran["entries"], ran["runs"].as_array().map(Vec::len)), (&3.into(), Some(2)));
    assert_eq!(workspace.ids(), [] as [String; 0]);
    // So it does for a plain command.
    workspace.stage(2);
    fs::remove_file(workspace.root().join("once")).expect("removed");
    let ran = workspace.run_shell(&["--drain"], &more).run().exits(0);
    assert_eq!(ran.out, "consolidated 3 entries\n");
    assert_eq!(workspace.ids(), [] as [String; 0]);
    workspace.assert_nothing_left();
}

#[test]
fn options_that_do_not_go_together_are_wrong_usage() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    for arguments in [
        &["--updates"][..],
        &["--dry-run", "--", "true"],
        &["--timeout", "1", "--", "true"],
        &["--max-attempts", "1", "--", "true"],
        &["--grant", "clocks", "--updates", "--", "true"],
        &["--plugin", "p.wasm", "--updates", "--", "true"],
        &["--plugin", "p.wasm", "--", "true"],
        &["--updates", "--dry-run", "--drain", "--", "true"],
        &["--updates", "--batch-entries", "0", "--", "true"],
        &[],
    ] {
        workspace.consolidate(["run"]).args(arguments).run().exits(2);
        let error = workspace.consolidate(["run", "--json"]).args(arguments).run().exits(2).json_error();
        assert_eq!(error["code"], "usage", "{arguments:?}");
    }
    assert_eq!(workspace.ids().len(), 1);
}

/// It reads the files, so it must find there what the batches before changed.
#[test]
fn command_finds_what_its_earlier_batches_changed() {
    let workspace = TestWorkspace::new();
    workspace.stage(5);
    let script = r#"cat >/dev/null
        body=$(sed '1,/^$/d' "$CONSOLIDATION_WORKSPACE/memory/note/all.md" 2>/dev/null | tr '\n' '|')
        printf '{"kind":"note","slug":"all","title":"All","body":"%sx|"}\n' "$body""#;
    let command = ["run", "--json", "--batch-entries", "1", "--updates", "--", "sh", "-c", script];
    let ran = workspace.consolidate(command).run().exits(0).json();
    assert_eq!((&ran["entries"], ran["runs"].as_array().map(Vec::len)), (&5.into(), Some(5)));
    let text = workspace.text("memory/note/all.md");
    assert_eq!(text.matches('x').count() - text.matches("replaced").count(), 5, "{text}");
}

#[test]
fn record_that_is_edited_while_the_command_works_is_not_overwritten() {
    let workspace = TestWorkspace::new();
    let update = r#"printf '{"kind":"note","slug":"a","title":"A","body":"%s"}\n'"#;
    workspace.stage(1);
    let first = format!("{update} one");
    workspace.consolidate(["run", "--updates", "--", "sh", "-c", &first]).run().exits(0);
    let ids = workspace.stage(1);
    let edits = format!("echo by hand >> \"$CONSOLIDATION_WORKSPACE/memory/note/a.md\"; {update} two");
    let ran = workspace.consolidate(["run", "--json", "--updates", "--", "sh", "-c", &edits]).run().exits(75);
    assert_eq!(ran.json_error()["code"], "conflict");
    assert!(workspace.text("memory/note/a.md").ends_with("one\nby hand\n"));
    assert_eq!(workspace.ids(), ids);
    workspace.assert_nothing_left();
    let second = format!("{update} two");
    workspace.consolidate(["run", "--updates", "--", "sh", "-c", &second]).run().exits(0);
}

#[test]
fn record_that_can_not_be_read_holds_up_only_the_entries_that_touch_it() {
    let workspace = TestWorkspace::new();
    std::fs::create_dir_all(workspace.root().join("memory/note")).expect("a directory");
    std::fs::write(workspace.root().join("memory/note/bad.md"), "---\nsources: none\n---\n")
        .expect("written");
    let ids = workspace.stage(4);
    let script = format!(
        r#"while read -r line; do
            case $line in *{}*) slug=bad;; *) slug=good;; esac
            printf '{{"kind":"note","slug":"%s","title":"A","body":"b"}}\n' $slug
        done"#,
        ids[1]
    );
    let ran = workspace
        .consolidate(["run", "--json", "--updates", "--", "sh", "-c", &script])
        .run()
        .exits(0)
        .json();
    assert_eq!(ran["entries"], 3);
    assert!(
        ran["failed_entries"][0]["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("memory/note/bad.md"))
    );
    assert_eq!(workspace.ids(), [ids[1].clone()].as_slice());
    let found = workspace.consolidate(["doctor", "--json"]).run().exits(1).json();
    assert_eq!(found["findings"][0]["kind"], "unreadable_record");
}

#[test]
fn options_that_mean_nothing_are_wrong_usage() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    for options in [
        &["--grant", "clock"][..],
        &["--plugin-memory", "8"],
        &["--max-log-bytes", "1"],
        &["--updates", "--timeout", "0"],
        &["--updates", "--max-updates", "0"],
        &["--updates", "--max-update-bytes", "0"],
        &["--updates", "--grant", "clock"],
    ] {
        workspace.consolidate(["run"]).args(options).args(["--", "true"]).run().exits(2);
    }
    assert_eq!(workspace.ids(), ids);
}

#[test]
fn negative_number_is_named_and_not_taken_for_an_option() {
    let workspace = TestWorkspace::new();
    for option in [
        "--min-entries",
        "--min-bytes",
        "--min-age",
        "--min-interval",
        "--max-entries",
        "--max-bytes",
        "--wait",
        "--lease",
        "--batch-entries",
        "--batch-bytes",
        "--max-attempts",
        "--max-updates",
        "--timeout",
    ] {
        let ran = workspace.consolidate(["run", option, "-1", "--updates", "--", "true"]).run().exits(2);
        assert!(
            ran.err.contains("invalid value '-1'") && !ran.err.contains("-- -1"),
            "{option}: {}",
            ran.err
        );
    }
    let ran = workspace.consolidate(["stage", "--segment", "s", "--range", "-1..3"]).run().exits(2);
    assert!(ran.err.contains("invalid value '-1..3'"), "{}", ran.err);
}

#[test]
fn no_command_at_all_names_those_that_there_are() {
    let ran = Program::consolidate([""; 0]).run().exits(2);
    assert!(ran.err.contains("stage") && !ran.err.contains("__gate"), "{}", ran.err);
}

/// The script that the README shows does what the README says: the same material once more changes nothing.
#[test]
fn command_of_the_readme_writes_records_and_bears_entries_twice() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = TestWorkspace::new();
    let Some(asks) = workspace.asks_a_model("--json --batch-entries 4") else { return };
    let run = || {
        workspace.consolidate(["stage"]).args([project.join("tests/sample/payloads.jsonl")]).run().exits(0);
        asks().run().exits(0).json()["records"].clone()
    };
    assert!(run()["created"].as_u64().is_some_and(|created| created > 3));
    let path = workspace.root().join("memory/decision/metres.md");
    let by_hand = std::fs::read_to_string(&path).expect("a record") + "by hand\n";
    std::fs::write(&path, &by_hand).expect("written");
    assert_eq!(run(), serde_json::json!({ "created": 0, "changed": 0 }));
    assert_eq!(std::fs::read_to_string(&path).expect("a record"), by_hand);
    // A record without front matter is one, and is all text.
    std::fs::write(&path, "by hand\n\n---\nand no front matter\n").expect("written");
    assert_eq!(run(), serde_json::json!({ "created": 0, "changed": 1 }));
    let text = std::fs::read_to_string(&path).expect("a record");
    assert!(text.contains("\nby hand\n\n---\nand no front matter\n- "), "{text}");
}

/// Who reads the document alone must not think that nothing was done.
#[test]
fn failure_of_the_workspace_after_a_commit_tells_what_was_committed_before() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    let script = r#"cat > /dev/null
        if [ -e first ]; then kind=b; touch memory/b; else kind=a; touch first; fi
        echo '{"kind":"'$kind'","slug":"s","title":"T","body":"text"}'"#;
    let ran = workspace.update(&["--json", "--batch-entries", "1"], script).run().exits(74);
    let run = &ran.json_error()["run"];
    assert_eq!((&run["entries"], &run["records"]["created"]), (&1.into(), &1.into()), "{}", ran.out);
    assert_eq!(run["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(workspace.ids(), ids[1..]);
}

#[test]
fn command_of_the_readme_adds_to_what_people_wrote_in_every_style() {
    let workspace = TestWorkspace::new();
    let Some(asks) = workspace.asks_a_model("") else { return };
    let kind = workspace.root().join("memory/decision");
    fs::create_dir_all(&kind).expect("directories");
    let by_hand = [
        ("dots.md", "---\ntitle: mine\n...\n\n- old\n"),
        ("crlf.md", "--- \r\ntitle: b\r\n---\r\n\r\n- old\r\n"),
    ];
    for (name, text) in by_hand {
        fs::write(kind.join(name), text).expect("written");
    }
    let decision = |chosen: &str| {
        let source = r#"{"segment_id": "s", "range": [0, 1]}"#;
        format!(
            r#"{{"source": {source}, "decisions": [{{"options": [], "chosen": "{chosen}", "rationale": "new\n one"}}]}}"#
        )
    };
    let lines = ["dots", "CRLF", "", "Fresh"].map(decision).join("\n");
    let run = || {
        workspace.consolidate(["stage"]).input(&*lines).run().exits(0);
        let ran = asks().run().exits(0);
        (
            ran.out,
            ["dots", "crlf", "other", "fresh"]
                .map(|slug| workspace.text(&format!("memory/decision/{slug}.md"))),
        )
    };
    let (out, first) = run();
    assert_eq!(out, "consolidated 4 entries: 2 records created, 2 changed\n");
    for (text, end) in first.iter().zip([
        "...\n\n- old\n- new one\n",
        "---\r\n\r\n- old\r\n- new one\r\n",
        "---\n\n- new one\n",
        "---\n\n- new one\n",
    ]) {
        assert!(text.ends_with(end), "{text:?}");
    }
    assert_eq!(run(), ("consolidated 4 entries: 0 records created, 0 changed\n".into(), first));
}
