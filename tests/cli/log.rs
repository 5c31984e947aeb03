//! `consolidate log`.

use super::crash::Moments;
use super::process::{PATIENCE, Program, ids_in, payloads, tidy, wait_until};
use crate::support::{TestWorkspace, new_entry_id, original_record};
use insta::assert_snapshot;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

impl TestWorkspace {
    fn log(&self, arguments: &[&str]) -> Program {
        self.consolidate(["log"]).args(arguments)
    }

    /// The runs in the log, the newest first.
    #[track_caller]
    fn logged(&self) -> Vec<serde_json::Value> {
        let mut document = self.log(&["-n", "1000", "--json"]).run().exits(0).json();
        assert_eq!(document["unreadable"], serde_json::json!([]));
        serde_json::from_value(document["runs"].take()).expect("a list")
    }

    /// A file that is named like the outcome of a run.
    fn put_outcome(&self, content: &str) -> String {
        fs::create_dir_all(self.root().join("runs")).expect("a directory");
        let id = new_entry_id();
        fs::write(self.root().join("runs").join(id.file_name()), content).expect("written");
        id.to_string()
    }
}

#[test]
fn workspace_without_runs_says_so_and_nothing_is_created() {
    let workspace = TestWorkspace::new();
    assert_eq!(workspace.log(&[]).run().exits(0).out, "no run has ended here yet\n");
    assert_eq!(workspace.log(&["--json"]).run().exits(0).out, "{\"runs\":[],\"unreadable\":[]}\n");
    assert_eq!(crate::support::names(workspace.root()), [] as [String; 0]);
    workspace.stage(1);
    workspace.consolidate(["status"]).run().exits(0);
    assert_eq!(workspace.log(&[]).run().exits(0).out, "no run has ended here yet\n");
}

/// One run of each kind.
fn of_each_kind(workspace: &TestWorkspace) {
    workspace.stage(2);
    workspace.run_shell(&[], "cat > lines; exit 3").run().exits(70);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-b", &[&workspace.ids()[0]]));
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-\u{1b}[31m", &[]));
    workspace.consolidate(["unlock", "--force", "--reason", "it was \u{1b}[2J in the way"]).run().exits(0);
}

#[test]
fn runs_are_shown_the_newest_first() {
    let workspace = TestWorkspace::new();
    of_each_kind(&workspace);
    let text = workspace.log(&[]).run().exits(0);
    assert_eq!(text.err, "");
    assert_snapshot!(hide_host(&tidy(&text.out, &workspace)), @r#"
    <id>  <time>  unlocked by force, had taken 0 entries; pod "pod-\u{1b}[31m", pid <pid>; ended by pod "<host>", pid <pid>: it was \u{1b}[2J in the way (there is no process <pid>)
    <id>  <time>  consolidated 2 entries; pod "test-pod", pid <pid>
    <id>  <time>  aborted, had taken 1 entry; pod "pod-b", pid <pid>; ended by pod "test-pod", pid <pid>: its owner stopped before it was committed
    <id>  <time>  failed, had taken 2 entries; pod "test-pod", pid <pid>: the command exited with status 3
    "#);
    let document = workspace.log(&["--json"]).run().exits(0);
    document.json();
    assert_snapshot!(hide_host(&tidy(&document.out, &workspace)), @r#"{"runs":[{"change_count":0,"changes":[],"ended_at":"<time>","ended_by":{"pid":<pid>,"pod_name":"<host>","started_at":""},"ending":"unlocked","entry_count":0,"entry_ids":[],"id":"<id>","owner":{"pid":<pid>,"pod_name":"pod-\u001b[31m","started_at":"<time>"},"pending":false,"reason":"it was \u001b[2J in the way (there is no process <pid>)","undoes":null},{"change_count":0,"changes":[],"ended_at":"<time>","ended_by":null,"ending":"consolidated","entry_count":2,"entry_ids":["<id>","<id>"],"id":"<id>","owner":{"pid":<pid>,"pod_name":"test-pod","started_at":"<time>"},"pending":false,"reason":null,"undoes":null},{"change_count":0,"changes":[],"ended_at":"<time>","ended_by":{"pid":<pid>,"pod_name":"test-pod","started_at":""},"ending":"aborted","entry_count":1,"entry_ids":["<id>"],"id":"<id>","owner":{"pid":<pid>,"pod_name":"pod-b","started_at":"<time>"},"pending":false,"reason":"its owner stopped before it was committed","undoes":null},{"change_count":0,"changes":[],"ended_at":"<time>","ended_by":null,"ending":"failed","entry_count":2,"entry_ids":["<id>","<id>"],"id":"<id>","owner":{"pid":<pid>,"pod_name":"test-pod","started_at":"<time>"},"pending":false,"reason":"the command exited with status 3","undoes":null}],"unreadable":[]}"#);
}

/// The pod of those who do not name theirs.
fn hide_host(text: &str) -> String {
    let name = Program::shell("printf %s \"${HOSTNAME:-$(uname -n)}\"").run().exits(0).out;
    let host = Program::new("uname").args(["-n"]).run().exits(0).out;
    text.replace(&format!("\"{}\"", host.trim()), "\"<host>\"").replace(&format!("\"{name}\""), "\"<host>\"")
}

#[test]
fn one_run_is_shown_with_its_entries() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    workspace.run_shell(&["--max-entries", "2"], "cat > lines").run().exits(0);
    let runs = workspace.logged();
    let id = runs[0]["id"].as_str().expect("an id");
    assert_eq!(runs[0]["entry_ids"], serde_json::json!(ids[..2]));
    let text = workspace.log(&[id]).run().exits(0);
    assert_snapshot!(tidy(&text.out, &workspace), @r#"
    <id>  <time>  consolidated 2 entries; pod "test-pod", pid <pid>
      <id>
      <id>
    "#);
    assert!(text.lines()[0].starts_with(id));
    assert!(text.out.contains(&format!("  {}\n  {}\n", ids[0], ids[1])), "{}", text.out);
    let document = workspace.log(&[id, "--json"]).run().exits(0);
    assert_eq!(document.json(), runs[0]);
    assert_snapshot!(tidy(&document.out, &workspace), @r#"{"id":"<id>","ending":"consolidated","owner":{"pid":<pid>,"pod_name":"test-pod","started_at":"<time>"},"ended_at":"<time>","ended_by":null,"reason":null,"entry_count":2,"change_count":0,"undoes":null,"pending":false,"entry_ids":["<id>","<id>"],"changes":[]}"#);
}

#[test]
fn not_more_runs_are_shown_than_asked_for() {
    let workspace = TestWorkspace::new();
    for _ in 0..22 {
        workspace.put_outcome(
            r#"{"run_id":"x","outcome":"failed","pod_name":"p","pid":1,"started_at":"","ended_at":"t","entry_ids":[]}"#,
        );
    }
    for (arguments, count) in [
        (&[][..], 20),
        (&["-n", "3"], 3),
        (&["-n", "1"], 1),
        (&["-n", "4294967295"], 22),
        (&["--max", "5"], 5),
    ] {
        let ran = workspace.log(arguments).run().exits(0);
        let runs = ran.lines().iter().filter(|line| line.contains("failed, had taken")).count();
        assert_eq!(runs, count, "{arguments:?}");
        let listed = workspace.log(arguments).args(["--json"]).run().exits(0).json();
        assert_eq!(listed["runs"].as_array().map(Vec::len), Some(count), "{arguments:?}");
    }
    for wrong in ["-1", "0", "x", "4294967296", ""] {
        workspace.log(&["-n", wrong]).run().exits(2);
    }
}

#[test]
fn unreadable_outcome_is_named_and_the_others_are_shown() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    let torn = workspace.put_outcome("{\"run_id\": \"\u{1b}[31m");
    let text = workspace.log(&[]).run().exits(0);
    assert!(text.out.contains("consolidated 1 entry"), "{}", text.out);
    assert!(text.out.contains(&format!("unreadable: {torn}: ")), "{}", text.out);
    let document = workspace.log(&["--json"]).run().exits(0).json();
    assert_eq!(document["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(document["unreadable"][0]["id"], torn.as_str());

    let ran = workspace.log(&[&torn]).run().exits(65);
    assert_snapshot!(tidy(&ran.err, &workspace), @r"consolidate: cannot look at a run in <root>: runs/<id>.json is no outcome of a run: a control character in a string; write it as an escape at column 13; move it away");
    let error = workspace.log(&[&torn, "--json"]).run().exits(65).json_error();
    assert_eq!(error["code"], "unusable");
    workspace.run_shell(&[], "cat > lines").run().exits(0);
}

/// Anybody who may write to the workspace may write one.
#[test]
fn what_an_outcome_says_does_not_reach_the_terminal_as_it_is() {
    let evil = r"\u001b[2J\u001b]0;evil\u0007\n\r";
    let texts = |ending: &str, ids: &str| {
        format!(
            r#"{{"run_id":"{evil}","outcome":"{ending}","pod_name":"{evil}","pid":1,"started_at":"{evil}","ended_at":"{evil}",
            "ended_by":{{"pid":2,"pod_name":"{evil}"}},"reason":"{evil}","entry_ids":[{ids}]}}"#
        )
    };
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let good = workspace.put_outcome(&texts("failed", &format!("\"{evil}\"")));
    let bad = workspace.put_outcome(&texts(evil, ""));
    let odd = workspace.put_outcome("{\"\u{1b}[2J\": 1}");
    let unfinished = workspace.root().join("runs/.unfinished");
    fs::create_dir_all(&unfinished).expect("a directory");
    for name in ["committed", "open", "sealed"] {
        fs::write(unfinished.join(format!("{}.{name}", new_entry_id())), texts(evil, "")).expect("written");
    }
    let commands = [
        (&["log"][..], 0),
        (&["log", &good], 0),
        (&["log", &bad], 65),
        (&["log", &odd], 65),
        (&["log", &bad, "--json"], 65),
        (&["doctor"], 1),
        (&["run", "--", "false"], 70),
        (&["doctor", "--fix"], 1),
        (&["log"], 0),
    ];
    for (arguments, code) in commands {
        let ran = workspace.consolidate(arguments).run().exits(code);
        for text in [&ran.out, &ran.err] {
            assert!(!text.contains(['\u{7}', '\r']), "{arguments:?}: {text:?}");
        }
    }
}

#[test]
fn unknown_and_malformed_runs_are_told_apart() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    let unknown = new_entry_id().to_string();
    let ran = workspace.log(&[&unknown]).run().exits(74);
    assert_snapshot!(tidy(&ran.err, &workspace), @"consolidate: cannot look at a run in <root>: there is no outcome runs/<id>.json");
    assert_eq!(workspace.log(&[&unknown, "--json"]).run().exits(74).json_error()["code"], "not_found");
    for malformed in ["x", "../x", "", "..", &unknown.to_uppercase(), &format!("{unknown}.json")] {
        let error = workspace.log(&[malformed, "--json"]).run().exits(65).json_error();
        assert_eq!(error["code"], "invalid_input", "{malformed:?}");
    }
    let ran = workspace.log(&["x\u{1b}[31m"]).run().exits(65);
    assert_snapshot!(tidy(&ran.err, &workspace), @r#"consolidate: cannot look at a run in <root>: "x\u{1b}[31m" is no id of a run: a UUIDv7 in lower case with hyphens is"#);
}

#[test]
fn directory_of_runs_that_is_none_is_refused() {
    let elsewhere = tempfile::tempdir().expect("a directory");
    for is_link in [false, true] {
        let workspace = TestWorkspace::new();
        workspace.stage(1);
        let runs = workspace.root().join("runs");
        if is_link {
            symlink(elsewhere.path(), &runs).expect("a link");
        } else {
            fs::write(&runs, "mine").expect("written");
        }
        for arguments in [&["log"][..], &["log", &new_entry_id().to_string()], &["list"], &["status"]] {
            let error = workspace.consolidate(arguments).args(["--json"]).run().exits(74).json_error();
            assert_eq!(error["code"], "wrong_file_type", "{arguments:?}: {error}");
        }
        let found = workspace.consolidate(["doctor", "--json"]).run().exits(1).json();
        assert_eq!(
            (&found["findings"][0]["kind"], &found["findings"][0]["path"]),
            (&"foreign".into(), &"runs".into())
        );
        let ran = workspace.run_shell(&[], "touch started").run().exits(74);
        assert!(ran.err.contains("move it away"), "{}", ran.err);
        assert!(!workspace.has("started"));
        assert_eq!(workspace.ids().len(), 1);
        workspace.assert_nothing_left();
        assert_eq!(crate::support::names(elsewhere.path()), [] as [String; 0]);
    }
}

#[test]
fn failed_run_is_logged_with_how_its_command_ended() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(2);
    for (script, how) in [
        ("exit 3", "exited with status 3"),
        ("kill -9 $$", "was killed by SIGKILL"),
        ("cat > /dev/null; exit 127", "exited with status 127"),
    ] {
        workspace.run_shell(&[], script).run().exits(70);
        let run = &workspace.logged()[0];
        assert_eq!((&run["ending"], &run["entry_ids"]), (&"failed".into(), &serde_json::json!(ids)), "{run}");
        assert!(run["reason"].as_str().is_some_and(|reason| reason.contains(how)), "{how}: {run}");
        assert_eq!(run["owner"]["pod_name"], "test-pod");
    }
    assert_eq!(workspace.logged().len(), 3);
    assert_eq!(workspace.ids(), ids);
}

/// An empty name, as a variable without a value gives it, names nobody.
#[test]
fn empty_pod_name_counts_as_none() {
    let workspace = TestWorkspace::new();
    for (arguments, variable) in [(&["--pod", ""][..], "variable"), (&["--pod="], ""), (&[], "")] {
        workspace.stage(1);
        let run = workspace.consolidate(["run"]).args(arguments).args(["--", "sh", "-c", "cat > lines"]);
        run.env("CONSOLIDATION_POD", variable).run().exits(0);
        let name = workspace.logged()[0]["owner"]["pod_name"].clone();
        if variable.is_empty() {
            assert!(name.as_str().is_some_and(|name| !name.is_empty()), "{arguments:?}: {name}");
        } else {
            assert_eq!(name, variable);
        }
    }
}

#[test]
fn forced_unlock_is_logged_with_the_reason() {
    let workspace = TestWorkspace::new();
    let holder = workspace.hold();
    workspace.consolidate(["unlock", "--reason", "why"]).run().exits(2);
    workspace.consolidate(["unlock"]).run().exits(75);
    assert_eq!(workspace.logged(), [] as [serde_json::Value; 0]);
    let force = ["unlock", "--force", "--reason", "the node burns"];
    workspace.consolidate(force).env("CONSOLIDATION_POD", "operator").run().exits(0);
    let [run] = &workspace.logged()[..] else { panic!("one run") };
    assert_eq!((&run["ending"], &run["owner"]["pid"]), (&"unlocked".into(), &holder.pid().into()));
    assert_eq!(run["ended_by"]["pod_name"], "operator");
    let reason = run["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("the node burns (process "), "{reason}");
    workspace.let_go();
    holder.finish().exits(75);
    // The run of the holder began before and ended after it.
    let runs = workspace.logged();
    assert_eq!(runs.iter().map(|run| &run["ending"]).collect::<Vec<_>>(), ["failed", "unlocked"]);
    let why = runs[0]["reason"].as_str().expect("a reason");
    assert!(why.starts_with("the lock was lost: ") || why.contains("no longer ours"), "{why}");
    assert!(
        reason.ends_with(&format!("; its run is {})", runs[0]["id"].as_str().expect("an id"))),
        "{reason}"
    );
    assert_eq!(workspace.ids().len(), 1);
    workspace.consolidate(force).run().exits(0);
    assert_eq!(
        workspace.logged().iter().filter(|run| run["ending"] == "unlocked").count(),
        1,
        "there was no lock to remove"
    );
}

/// A run is killed at some moment after its command's end: before the commit its entries come again, after
/// it never.
#[test]
fn entry_is_never_given_to_a_command_again_once_its_run_is_consolidated() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    // A file `done.*` appears once a command has read all that it was given, as its last act.
    let script = "cat > got.$$ && mv got.$$ done.$$";
    let done = || {
        let mut names = crate::support::names(workspace.root());
        names.retain(|name| name.starts_with("done."));
        BTreeSet::from_iter(names)
    };
    let mut staged: BTreeSet<String> = BTreeSet::new();
    let mut consolidated: BTreeSet<String> = BTreeSet::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut given = 0;
    for round in 0..=40 {
        let durability = if round % 2 == 0 { "none" } else { "full" };
        let run = workspace.run_shell(&["--wait", "60", "--durability", durability], script).silent();
        if round == 40 {
            run.run().exits(0);
        } else {
            let stage = workspace.consolidate(["stage", "--durability", "none"]).input(payloads(0..12));
            staged.extend(stage.run().exits(0).lines());
            let before = done();
            let mut running = run.start();
            // Nothing sleeps here: from the command's end to the run's there are a few milliseconds.
            let begun = Instant::now();
            while done() == before && !running.has_ended() {
                assert!(begun.elapsed() < PATIENCE, "the command does not end");
                thread::yield_now();
            }
            spin(moments.next(Duration::from_millis(if round % 4 < 2 { 4 } else { 12 })));
            running.kill();
            drop(running.finish());
        }
        for name in done().difference(&seen) {
            for id in ids_in(&workspace.text(name)) {
                assert!(!consolidated.contains(&id), "{id} was consumed and is given once more, to {name}");
                given += 1;
            }
        }
        // In this order: the command of a run that is consolidated ended before.
        consolidated = workspace
            .logged()
            .iter()
            .filter(|run| run["ending"] == "consolidated")
            .flat_map(ids_of)
            .collect();
        seen = done();
    }
    assert_eq!(workspace.ids(), [] as [String; 0], "an entry is left");
    assert_eq!(consolidated, staged, "consumed without an outcome that says so");
    let runs = workspace.logged();
    let of = |ending: &str| runs.iter().filter(|run| run["ending"] == ending).count();
    let taken: usize =
        runs.iter().filter(|run| run["ending"] == "consolidated").map(|run| ids_of(run).len()).sum();
    assert_eq!(taken, staged.len(), "consumed by two runs");
    eprintln!("{} entries, given {given} times; {} runs aborted", staged.len(), of("aborted"));
    workspace.assert_no_unfinished_run();
}

/// The entries that a run in the log took.
fn ids_of(run: &serde_json::Value) -> Vec<String> {
    let ids = run["entry_ids"].as_array().expect("a list").iter();
    ids.map(|id| id.as_str().expect("a text").to_owned()).collect()
}

fn spin(moment: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < moment {
        std::hint::spin_loop();
    }
}

/// Killed after the commit and before the last delete: the commit is what the log shows.
#[test]
fn run_that_was_killed_among_its_deletes_is_consolidated_and_the_next_run_finishes_them() {
    let mut moments = Moments::new();
    let workspace = TestWorkspace::new();
    let unfinished = workspace.root().join("runs/.unfinished");
    let mut caught = 0;
    for _ in 0..20 {
        let ids =
            workspace.consolidate(["stage"]).input(payloads(0..400)).args(["--durability", "none"]).run();
        let ids = ids.exits(0).lines();
        let mut running = workspace.run_shell(&["--durability", "none"], "cat > lines").silent().start();
        let begun = Instant::now();
        let committed = || crate::support::names(&unfinished).iter().any(|name| name.ends_with(".committed"));
        while !committed() && !running.has_ended() {
            assert!(begun.elapsed() < PATIENCE, "it does not come to its commit");
        }
        spin(moments.next(Duration::from_millis(2)));
        running.kill();
        drop(running.finish());
        let runs = workspace.logged();
        assert_eq!(runs[0]["ending"], "consolidated");
        assert_eq!(runs[0]["entry_ids"], serde_json::json!(ids));
        let left = workspace.ids();
        if !left.is_empty() {
            caught += 1;
            assert_eq!(runs[0]["pending"], true);
            let text = workspace.log(&["-n", "1"]).run().exits(0).out;
            assert!(text.ends_with("; not all of them are deleted yet\n"), "{text}");
            let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
            assert_eq!(
                (&status["entries"], &status["consumed_not_deleted"]),
                (&0.into(), &left.len().into()),
                "{status}"
            );
            let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
            assert_eq!(listed["entries"], serde_json::json!([]));
        }
        let ran = workspace.run_shell(&["--wait", "60"], "touch started").run().exits(0);
        assert!(ran.out.starts_with("nothing to do"), "{}", ran.out);
        assert!(!workspace.has("started"), "no command is started for entries that are consumed");
        assert_eq!(workspace.ids(), [] as [String; 0]);
        workspace.assert_no_unfinished_run();
    }
    eprintln!("{caught} runs were killed among their deletes");
}

impl TestWorkspace {
    #[track_caller]
    fn assert_no_unfinished_run(&self) {
        assert_eq!(crate::support::names(&self.root().join("runs/.unfinished")), [] as [String; 0]);
        wait_until("nothing of a killed run is left", || !self.lock().exists() && self.owners().is_empty());
    }
}
