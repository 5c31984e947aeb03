//! A limited address space (`ulimit -v`), as batch systems and cautious people set it: everything works
//! as it does without the limit.

use super::process::{Program, Ran, ids_in, payloads};
use crate::support::TestWorkspace;
use std::fs;
use std::path::Path;

/// In kB. A single memory as wasmtime reserves it by default takes more than four times as much.
const LIMIT: u32 = 1_000_000;

impl TestWorkspace {
    /// A shell script in the workspace, under the limit.
    #[track_caller]
    fn confined(&self, script: &str) -> Ran {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Program::shell(&format!("set -eu; ulimit -v {LIMIT}\n{script}"))
            .env("PROJECT", shipped)
            .env("CONSOLIDATION_CACHE", "")
            .current_dir(self.root())
            .run()
    }
}

#[test]
fn every_command_works_where_address_space_is_limited() {
    let workspace = TestWorkspace::new();
    let ran = workspace
        .confined(
            r#"
            "$CONSOLIDATE" stage "$PROJECT/tests/sample/payloads.jsonl" > ids
            "$CONSOLIDATE" list > listed
            "$CONSOLIDATE" status
            "$CONSOLIDATE" run --max-entries 2 -- sh -c 'cat > lines'
            "$CONSOLIDATE" run --max-entries 2 --updates -- cat /dev/null
            "$CONSOLIDATE" run --dry-run --plugin "$PROJECT/plugins/digest.wasm" > diff
            "$CONSOLIDATE" run --plugin "$PROJECT/plugins/digest.wasm"
            "$CONSOLIDATE" undo "$("$CONSOLIDATE" log | sed -n '1s/ .*//p')" > undone
            "$CONSOLIDATE" memory
            "$CONSOLIDATE" quarantine list
            "$CONSOLIDATE" schema > schema
            "$CONSOLIDATE" unlock
            "$CONSOLIDATE" doctor"#,
        )
        .exits(0);
    assert!(ran.out.contains("consolidated 10 entries"), "{}", ran.out);
    assert_eq!(ids_in(&workspace.text("lines")).len(), 2);
    assert!(workspace.text("diff").contains("+++ memory/"));
    assert!(workspace.text("undone").contains("put back"), "{}", workspace.text("undone"));
    assert_eq!(workspace.ids(), Vec::<String>::new());
}

/// The component's memory outgrows what it was given at first, more than once, and moves with its content.
#[test]
fn memory_that_grows_and_moves_keeps_its_content() {
    let workspace = TestWorkspace::new();
    let texts: Vec<String> =
        (0..40).map(|number| format!("{number:02}").repeat(450_000 - 10_000 * number)).collect();
    let lines: String = texts
        .iter()
        .map(|text| format!(r#"{{"source":{{"segment_id":"s","range":[0,0]}},"note":"{text}"}}"#) + "\n")
        .collect();
    fs::write(workspace.root().join("more"), lines).expect("a file");
    let ran = workspace.confined(
        r#""$CONSOLIDATE" stage --durability none more > ids; "$CONSOLIDATE" run --durability none -- sh -c 'cat > lines'"#,
    );
    assert_eq!(ran.exits(0).out, "consolidated 40 entries\n");
    for (line, text) in workspace.text("lines").lines().zip(&texts) {
        assert!(line.contains(&format!(r#""note":"{text}""#)), "another content than {}", &text[..8]);
    }
}

/// Without a limit memories are not checked in code, and need the room.
#[test]
fn same_entries_come_out_with_and_without_a_limit() {
    let workspace = TestWorkspace::new();
    fs::write(workspace.root().join("more"), payloads(0..300)).expect("a file");
    workspace.confined(r#""$CONSOLIDATE" stage more > ids"#).exits(0);
    let there = r#""$CONSOLIDATE" run --updates --dry-run --batch-entries 300 -- sh -c 'cat > "$1"' sh"#;
    let confined = workspace.confined(&format!("{there} confined")).exits(0);
    let free = Program::shell(&format!("{there} free")).current_dir(workspace.root()).run().exits(0);
    assert_eq!(confined.out, free.out);
    assert_eq!(workspace.text("confined"), workspace.text("free"));
    assert_eq!(ids_in(&workspace.text("free")).len(), 300);
}

/// Neither the plugin nor an entry can do anything about it: nothing is counted against them, and what was wrong is the
/// last thing that is said.
#[test]
fn memory_that_the_system_does_not_have_is_blamed_on_no_entry() {
    let workspace = TestWorkspace::new();
    let text = "word ".repeat(8_000);
    let lines: String = (0..300)
        .map(|number| {
            format!(
                r#"{{"source":{{"segment_id":"s{number}","range":[0,9]}},"discussions":[{{"topic":"t {}","points":["{number} {text}"]}}]}}"#,
                number % 5
            ) + "\n"
        })
        .collect();
    fs::write(workspace.root().join("more"), lines).expect("a file");
    workspace.consolidate(["stage", "--durability", "none", "more"]).run().exits(0);
    let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/digest.wasm");
    let mut short = 0;
    // In kB, to where everything is done.
    for limit in (100_000..).step_by(25_000) {
        let script = format!(
            "ulimit -v {limit}; exec \"$CONSOLIDATE\" --json run --durability none --max-attempts 1 --batch-bytes 100000 --plugin {}",
            plugin.display()
        );
        let ran = Program::shell(&script).env("CONSOLIDATION_CACHE", "").current_dir(workspace.root()).run();
        assert!(!workspace.has("_staging/quarantine"), "{limit}: {}", ran.err);
        if ran.status.success() {
            break;
        }
        short += 1;
        // Where there is too little even for its threads, the program is ended.
        let Ok(document) = serde_json::from_str::<serde_json::Value>(&ran.out) else { continue };
        let message = document["error"]["message"].as_str().expect("a message");
        let exit = document["error"]["exit"].as_u64().expect("a number");
        assert!([74, 75].contains(&exit), "{limit}: {document}");
        let told = ["system", "sandbox", "thread", "os error"].iter().any(|word| message.contains(word));
        assert!(told, "{limit}: {message}");
    }
    assert!(short > 0, "there was memory enough from the beginning");
    assert_eq!(workspace.ids(), [] as [String; 0]);
}
