//! The sample that ships with the project: it is what a consolidator meets in real life.

use super::process::ids_in;
use crate::support::TestWorkspace;
use std::path::Path;

#[test]
fn sample_is_staged_listed_and_consolidated_while_an_entry_arrives() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sample/payloads.jsonl");
    let workspace = TestWorkspace::new();
    let ids = workspace.consolidate(["stage"]).args([&sample]).run().exits(0).lines();
    assert_eq!(ids.len(), 14);
    let listed = workspace.consolidate(["list", "--json"]).run().exits(0).json();
    let rows = listed["entries"].as_array().expect("a list");
    assert!(rows.iter().map(|row| row["id"].as_str()).eq(ids.iter().map(|id| Some(id.as_str()))));

    let script =
        "cat > lines; echo '{}' | \"$CONSOLIDATE\" --root . stage --segment late --range 0..1 > late";
    let ran = workspace.run_shell(&[], script).run().exits(0);
    assert_eq!(ran.out, "consolidated 14 entries\n");
    let lines = workspace.text("lines");
    assert_eq!(ids_in(&lines), ids);
    for list in ["decisions", "discussions", "attempts", "requests"] {
        assert!(lines.contains(&format!("\"{list}\":[{{")), "the sample shows no {list}");
    }
    assert_eq!(workspace.ids(), [workspace.text("late").trim()]);
}
