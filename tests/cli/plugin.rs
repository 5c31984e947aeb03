//! `consolidate run --plugin`: what a plugin, good or hostile, comes to on the command line.

use super::crash::Moments;
use super::process::{Ran, wait_until};
use crate::support::plugin::PluginText;
use crate::support::{TestWorkspace, names};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// The plugin that ships.
fn digest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/digest.wasm")
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sample/payloads.jsonl")
}

/// One update of the record with this kind and this slug, with nothing else.
fn one_update(kind: &str, slug: &str, more: &str) -> PluginText {
    let (kind_len, slug_len) = (kind.len(), slug.len());
    let slug_at = 4096 + kind_len;
    let escaped: String = format!("{kind}{slug}").bytes().map(|byte| format!("\\{byte:02x}")).collect();
    PluginText::new(&format!(
        "(i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1))
         (i32.store (i32.const 2048) (i32.const 4096)) (i32.store (i32.const 2052) (i32.const {kind_len}))
         (i32.store (i32.const 2056) (i32.const {slug_at})) (i32.store (i32.const 2060) (i32.const {slug_len}))
         {more} (i32.const 1024)"
    ))
    .items(&format!("(data (i32.const 4096) \"{escaped}\")"))
}

/// With the JSON of the first entry as the body, and its id as the title.
const ECHO: &str = "
    (i32.store8 (i32.const 2064) (i32.const 1))
    (i32.store (i32.const 2068) (i32.load (local.get $entries)))
    (i32.store (i32.const 2072) (i32.load offset=4 (local.get $entries)))
    (i32.store8 (i32.const 2076) (i32.const 1))
    (i32.store (i32.const 2080) (i32.load offset=8 (local.get $entries)))
    (i32.store (i32.const 2084) (i32.load offset=12 (local.get $entries)))";

/// Traps if an entry holds the text POIS, and answers nothing else.
fn poisoned() -> PluginText {
    PluginText::new(
        "(block $done (loop $entry
           (br_if $done (i32.ge_u (local.get $i) (i32.mul (local.get $count) (i32.const 48))))
           (local.set $j (i32.load offset=8 (i32.add (local.get $entries) (local.get $i))))
           (block $end (loop $byte
             (br_if $end (i32.ge_u (local.get $j)
               (i32.add (i32.load offset=8 (i32.add (local.get $entries) (local.get $i)))
                        (i32.load offset=12 (i32.add (local.get $entries) (local.get $i))))))
             (if (i32.eq (i32.load (local.get $j)) (i32.const 0x53494f50)) (then (unreachable)))
             (local.set $j (i32.add (local.get $j) (i32.const 1)))
             (br $byte)))
           (local.set $i (i32.add (local.get $i) (i32.const 48)))
           (br $entry)))
         (call $answer (i32.const 0))",
    )
}

impl TestWorkspace {
    /// Runs this plugin, without a cache.
    fn run_plugin(&self, plugin: &PluginText, options: &[&str]) -> Ran {
        let path = self.root().join("plugin.wasm");
        plugin.build_to(&path);
        let ran = self
            .consolidate(["run", "--json", "--plugin"])
            .args([&path])
            .args(options)
            .env("CONSOLIDATION_CACHE", "")
            .run();
        fs::remove_file(path).expect("removed");
        ran
    }

    fn run_digest(&self) -> serde_json::Value {
        self.consolidate(["run", "--json", "--plugin"]).args([digest()]).run().exits(0).json()
    }

    /// All records, by path.
    fn records(&self) -> BTreeMap<String, Vec<u8>> {
        let memory = self.root().join("memory");
        let mut found = BTreeMap::new();
        for kind in names(&memory) {
            for name in names(&memory.join(&kind)) {
                let content = fs::read(memory.join(&kind).join(&name)).expect("a record");
                found.insert(format!("{kind}/{name}"), content);
            }
        }
        found
    }
}

#[test]
fn digest_turns_the_sample_into_records_and_a_second_time_changes_no_byte() {
    let workspace = TestWorkspace::new();
    workspace.consolidate(["stage"]).args([sample()]).run().exits(0);
    let dry = workspace.consolidate(["run", "--dry-run", "--plugin"]).args([digest()]).run().exits(0);
    assert!(dry.out.contains("+++ memory/discussion/"), "{}", dry.out);
    assert!(!workspace.has("memory") && !workspace.has("runs"));
    let first = workspace.run_digest();
    assert_eq!((&first["outcome"], &first["entries"]), (&"consolidated".into(), &14.into()));
    let records = workspace.records();
    assert!(records.len() > 10, "{records:?}");
    for (path, content) in &records {
        let text = str::from_utf8(content).expect("text");
        assert!(
            text.starts_with("---\nkind: ") && text.contains("\nsources:\n  - {segment_id: "),
            "{path}: {text}"
        );
    }
    assert_eq!(workspace.run_digest()["outcome"], "nothing_to_do");
    assert_eq!(workspace.records(), records);
    // The same material once more, under other ids.
    workspace.consolidate(["stage"]).args([sample()]).run().exits(0);
    let again = workspace.run_digest();
    assert_eq!(
        (&again["entries"], &again["records"]["created"], &again["records"]["changed"]),
        (&14.into(), &0.into(), &0.into())
    );
    assert_eq!(workspace.records(), records);
    let run = first["runs"][0].as_str().expect("a run");
    workspace.consolidate(["undo", run]).run().exits(0);
    assert_eq!(workspace.records(), BTreeMap::new());
    workspace.assert_nothing_left();
}

#[test]
fn what_people_wrote_into_a_record_stays() {
    let workspace = TestWorkspace::new();
    let stage = |point: &str, at: u32| {
        let payload = format!(
            r#"{{"source":{{"segment_id":"s","range":[{at},{at}]}},"discussions":[{{"topic":"tides","points":["{point}"]}}]}}"#
        );
        workspace.consolidate(["stage"]).input(payload).run().exits(0);
    };
    stage("high at noon", 1);
    workspace.run_digest();
    let path = workspace.root().join("memory/discussion/tides.md");
    let edited = fs::read_to_string(&path)
        .expect("a record")
        .replace("---\n\n", "reviewed_by: Runa # in May\n---\n\nA word before.\n\n");
    fs::write(&path, &edited).expect("written");
    stage("low at six", 2);
    workspace.run_digest();
    let text = fs::read_to_string(&path).expect("a record");
    assert!(text.contains("reviewed_by: Runa # in May\n"), "{text}");
    assert!(text.contains("A word before.\n\n- high at noon\n"), "{text}");
    assert!(text.contains("low at six"), "{text}");
}

/// Whatever it does: exit code 70, its name and the reason, every entry kept, no lock, no record.
#[test]
fn hostile_plugins_do_no_harm() {
    let lies = "(i32.store8 (i32.const 2104) (i32.const 1))
        (i32.store (i32.const 2108) (i32.const 2200)) (i32.store (i32.const 2112) (i32.const 1))
        (i32.store (i32.const 2200) (i32.const 4096)) (i32.store (i32.const 2204) (i32.const 4))";
    let hostile: [(&str, PluginText, &[&str], &str); 12] = [
        ("trap", PluginText::new("(unreachable)"), &[], "unreachable"),
        ("loop", PluginText::new("(loop (br 0)) (unreachable)"), &["--timeout", "0.2"], "200ms"),
        (
            "memory",
            PluginText::new(
                "(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            ),
            &["--plugin-memory", "8"],
            "memory",
        ),
        ("up", one_update("..", "x", ECHO), &[], "../x"),
        ("absolute", one_update("/etc", "passwd", ECHO), &[], "/etc/passwd"),
        ("nul", one_update("note", "a\0b", ECHO), &[], r"a\0b"),
        ("case", one_update("Note", "a", ECHO), &[], "Note/a"),
        ("dots", one_update("note", "a.md/..", ECHO), &[], "a.md/.."),
        ("liar", one_update("note", "a", &(ECHO.to_owned() + lies)), &[], "note"),
        ("empty", one_update("note", "a", ""), &[], "note/a"),
        ("flood", PluginText::new("(call $answer (i32.const 700))"), &["--max-updates", "10"], "10"),
        ("large", one_update("note", "a", ECHO), &["--max-update-bytes", "50"], "50"),
    ];
    for (what, plugin, options, reason) in hostile {
        let workspace = TestWorkspace::new();
        let ids = workspace.stage(2);
        let ran = workspace.run_plugin(&plugin, options).exits(70);
        let error = ran.json_error();
        let message = error["message"].as_str().expect("a message");
        assert_eq!(error["code"], "consolidator_failed", "{what}");
        assert!(message.contains("digest 1.2.3") && message.contains(reason), "{what}: {message}");
        assert_eq!(workspace.ids(), ids, "{what}");
        assert_eq!(workspace.records(), BTreeMap::new(), "{what}");
        workspace.assert_nothing_left();
        assert_eq!(names(&workspace.root().join("runs/.unfinished")), [] as [String; 0], "{what}");
    }
}

/// It is the fault of no entry: however often they are tried, none goes to the quarantine.
#[test]
fn what_is_no_directory_in_the_place_of_memory_ends_the_run_and_blames_no_entry() {
    let one = r#"printf '{"kind":"decision","slug":"a","title":"A","body":"b"}\n'"#;
    for (at, is_link) in
        [("memory", false), ("memory", true), ("memory/decision", false), ("memory/decision", true)]
    {
        let workspace = TestWorkspace::new();
        workspace.consolidate(["stage"]).args([sample()]).run().exits(0);
        let ids = workspace.ids();
        let place = workspace.root().join(at);
        fs::create_dir_all(place.parent().expect("a parent")).expect("made");
        match is_link {
            true => symlink("elsewhere", &place).expect("linked"),
            false => fs::write(&place, "a file").expect("written"),
        }
        let digest = digest().display().to_string();
        let ways: [&[&str]; 2] = [&["--plugin", &digest], &["--updates", "--", "sh", "-c", one]];
        for way in ways {
            let ran =
                workspace.consolidate(["run", "--json", "--max-attempts", "1"]).args(way).run().exits(74);
            let error = ran.json_error();
            assert_eq!(error["code"], "wrong_file_type", "{at}: {error}");
            let message = error["message"].as_str().expect("a message");
            assert!(message.contains(at) && message.contains("move it away"), "{message}");
            assert!(ran.err.lines().count() < 4, "{}", ran.err);
            assert_eq!(workspace.ids(), ids, "{at}");
            let status = workspace.consolidate(["status", "--json"]).run().exits(0).json();
            assert_eq!(status["quarantined"], 0, "{at}");
        }
        assert!(fs::symlink_metadata(&place).is_ok_and(|data| !data.is_dir()), "it stays");
        fs::remove_file(&place).expect("moved away");
        workspace.run_digest();
        assert_eq!(workspace.ids(), [] as [String; 0]);
    }
}

#[test]
fn file_that_is_no_plugin_is_an_error_before_the_lock() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    fs::write(workspace.root().join("empty.wasm"), "").expect("written");
    fs::write(workspace.root().join("text.wasm"), "(component").expect("written");
    PluginText::new("(unreachable)").version("0.9.0").build_to(&workspace.root().join("newer.wasm"));
    let holder = workspace.hold();
    for (file, exit) in
        [("empty.wasm", 70), ("text.wasm", 70), ("newer.wasm", 70), ("missing.wasm", 74), ("_staging", 74)]
    {
        let ran =
            workspace.consolidate(["run", "--json", "--plugin", file]).env("CONSOLIDATION_CACHE", "").run();
        let error = ran.exits(exit).json_error();
        assert!(error["message"].as_str().is_some_and(|message| message.contains(file)), "{error}");
    }
    workspace.let_go();
    holder.finish().exits(0);
    assert!(!workspace.ids().contains(&ids[0]), "the holder's command took it");
}

#[test]
fn one_bad_entry_never_blocks_the_others_and_goes_to_the_quarantine() {
    let workspace = TestWorkspace::new();
    let poison = r#"{"source":{"segment_id":"POISON","range":[0,1]}}"#;
    let mut ids = workspace.stage(5);
    let staged = workspace.consolidate(["stage"]).input(poison).run().exits(0);
    let bad = staged.out.trim().to_owned();
    ids.extend(workspace.stage(5));
    let first = workspace.run_plugin(&poisoned(), &[]).exits(0).json();
    assert_eq!(first["entries"], 10);
    assert_eq!(first["failed_entries"][0]["id"], bad.as_str());
    assert_eq!(workspace.ids(), std::slice::from_ref(&bad));
    for attempt in 2..=3 {
        workspace.stage(1);
        let ran = workspace.run_plugin(&poisoned(), &[]).exits(0).json();
        let failed = &ran["failed_entries"][0];
        assert_eq!((&failed["attempts"], &failed["quarantined"]), (&attempt.into(), &(attempt == 3).into()));
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
    let listed = workspace.consolidate(["quarantine", "list", "--json"]).run().exits(0).json();
    assert_eq!(listed["entries"][0]["id"], bad.as_str());
    assert!(listed["entries"][0]["reason"].as_str().is_some_and(|reason| reason.contains("unreachable")));
    workspace.consolidate(["quarantine", "retry", &bad]).run().exits(0);
    assert_eq!(workspace.ids(), [bad]);
    assert_eq!(workspace.run_digest()["entries"], 1, "another plugin takes it");
}

#[test]
fn success_without_updates_consumes_its_entries() {
    let workspace = TestWorkspace::new();
    workspace.stage(3);
    let ran = workspace.run_plugin(&PluginText::new("(call $answer (i32.const 0))"), &[]).exits(0).json();
    assert_eq!(
        (&ran["entries"], &ran["removed"], &ran["records"]["created"]),
        (&3.into(), &3.into(), &0.into())
    );
    assert_eq!(workspace.ids(), [] as [String; 0]);
    assert!(!workspace.has("memory"));
}

/// Numbers that no float holds, and members that nobody here knows.
#[test]
fn plugin_gets_the_payload_character_for_character() {
    let workspace = TestWorkspace::new();
    let odd = r#""odd":[9007199254740993,18446744073709551616,1e400,-0,1.0,"\u00e9é\n"]"#;
    let payload = format!(r#"{{"source":{{"segment_id":"s","range":[0,1]}},{odd}}}"#);
    let staged = workspace.consolidate(["stage"]).input(payload).run().exits(0);
    workspace.run_plugin(&one_update("note", "echo", ECHO), &[]).exits(0);
    let text = workspace.text("memory/note/echo.md");
    assert!(text.contains(odd), "{text}");
    assert!(text.contains(&format!("title: \"{}\"\n", staged.out.trim())), "{text}");
}

#[test]
fn what_a_plugin_prints_is_never_part_of_the_output() {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let plugin = PluginText::new(
        "(call $log (i32.const 2) (i32.const 4096) (i32.const 5)) (call $answer (i32.const 0))",
    )
    .import("insomnia:plugin/log@0.1.0", "log", "(param i32 i32 i32)")
    .items(r#"(data (i32.const 4096) "hello")"#);
    let ran = workspace.run_plugin(&plugin, &[]).exits(0);
    assert_eq!(ran.json()["outcome"], "consolidated");
    assert!(!ran.out.contains("hello") && ran.err.contains("hello"), "{ran:?}");
}

#[test]
fn network_is_refused_by_name_when_it_is_used() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let plugin = PluginText::new("(drop (call $instance-network)) (call $answer (i32.const 0))").import(
        "wasi:sockets/instance-network@0.2.0",
        "instance-network",
        "(result i32)",
    );
    let error = workspace.run_plugin(&plugin, &[]).exits(70).json_error();
    assert!(error["message"].as_str().is_some_and(|message| message.contains("wasi:sockets")), "{error}");
    assert_eq!(workspace.ids(), ids);
}

#[test]
fn clock_is_granted_by_name() {
    let plugin = PluginText::new("(drop (call $now)) (call $answer (i32.const 0))").import(
        "wasi:clocks/monotonic-clock@0.2.0",
        "now",
        "(result i64)",
    );
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    let error = workspace.run_plugin(&plugin, &[]).exits(70).json_error();
    assert!(error["message"].as_str().is_some_and(|message| message.contains("--grant clock")), "{error}");
    workspace.run_plugin(&plugin, &["--grant", "clock"]).exits(0);
}

#[test]
fn unknown_grant_is_wrong_usage() {
    let workspace = TestWorkspace::new();
    let ran = workspace.consolidate(["run", "--plugin", "p.wasm", "--grant", "everything"]).run().exits(2);
    assert!(ran.err.contains("everything"), "{}", ran.err);
}

#[test]
fn signal_stops_a_plugin_in_the_middle_of_its_batch_and_nothing_has_changed() {
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(3);
    let path = workspace.root().join("plugin.wasm");
    PluginText::new("(call $log (i32.const 2) (i32.const 4096) (i32.const 5)) (loop (br 0)) (unreachable)")
        .import("insomnia:plugin/log@0.1.0", "log", "(param i32 i32 i32)")
        .items(r#"(data (i32.const 4096) "hello")"#)
        .build_to(&path);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let command = ["run", "--json", "--timeout", "600", "--plugin", "plugin.wasm"];
        let running = workspace
            .consolidate(command)
            .env("CONSOLIDATION_CACHE", "")
            .env("CONSOLIDATION_LOG", "info")
            .start();
        wait_until("the plugin runs", || running.stderr().contains("hello"));
        running.signal(signal);
        let error = running.finish().exits(70).json_error();
        assert_eq!(error["code"], "interrupted", "{error}");
        assert_eq!(workspace.ids(), ids);
        assert_eq!(workspace.records(), BTreeMap::new());
        workspace.assert_nothing_left();
    }
    assert_eq!(workspace.consolidate(["status", "--json"]).run().exits(0).json()["quarantined"], 0);
    assert!(!workspace.has("_staging/.attempts"), "nobody is blamed");
}

/// Whatever a kill leaves, the next run ends it: every point is in memory, and in it once.
#[test]
fn runs_killed_at_random_moments_lose_and_double_nothing() {
    let workspace = TestWorkspace::new();
    let cache = tempfile::tempdir().expect("a directory");
    let start = |options: &[&str]| {
        workspace
            .consolidate(["run", "--pod", "killed"])
            .args(options)
            .args(["--plugin".as_ref(), digest().as_os_str()])
            .env("CONSOLIDATION_CACHE", cache.path())
            .silent()
            .start()
    };
    // The first one compiles, the second shows how long one takes.
    start(&[]).finish().exits(0);
    let mut moments = Moments::new();
    let mut staged = 0;
    let mut stage = |count: u32| {
        let lines: Vec<String> = (staged..staged + count)
            .map(|point| {
                let topic = point % 7;
                format!(
                    r#"{{"source":{{"segment_id":"s","range":[{point},{point}]}},"discussions":[{{"topic":"topic {topic}","points":["point {point}."]}}]}}"#
                )
            })
            .collect();
        workspace.consolidate(["stage"]).input(lines.join("\n")).run().exits(0);
        staged += count;
    };
    stage(5);
    let begun = Instant::now();
    start(&[]).finish().exits(0);
    let longest = begun.elapsed();
    for round in 0..60 {
        stage(1 + round % 4);
        let batches: &[&str] = if round % 2 == 0 { &["--batch-entries", "1"] } else { &[] };
        let mut running = start(batches);
        thread::sleep(moments.next(longest));
        running.kill();
    }
    start(&[]).finish().exits(0);
    let records = workspace.records();
    let text: String = records.values().map(|content| String::from_utf8_lossy(content)).collect();
    for point in 0..staged {
        assert_eq!(text.matches(&format!("- point {point}.")).count(), 1, "point {point} of {staged}");
    }
    assert_eq!(workspace.ids(), [] as [String; 0]);
    assert_eq!(names(&workspace.root().join("runs/.unfinished")), [] as [String; 0]);
    workspace.consolidate(["doctor"]).run().exits(0);
    // Temporary files of killed writers stay for a day.
    assert_eq!((workspace.lock_bytes(), workspace.owners()), (None, Vec::new()));
}
