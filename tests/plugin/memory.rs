//! What a plugin reads of memory.

use super::*;
use crate::component::patched;

fn reading(body: &str) -> PluginText {
    PluginText::new(body).import(MEMORY, "get", "(param i32 i32 i32 i32 i32)").import(
        MEMORY,
        "list",
        "(param i32 i32 i32 i32)",
    )
}

/// 1 for an error, 2 for no record, 3 for one.
const TELL: &str = "(call $answer (if (result i32) (i32.load8_u (i32.const 2048)) (then (i32.const 1))
    (else (i32.add (i32.const 2) (i32.load8_u (i32.const 2052))))))";

fn getting(kind: (u32, u32), slug: (u32, u32)) -> PluginText {
    reading(&format!(
        "(call $get (i32.const {}) (i32.const {}) (i32.const {}) (i32.const {}) (i32.const 2048)) {TELL}",
        kind.0, kind.1, slug.0, slug.1
    ))
    .items(r#"(data (i32.const 4096) "decision../../etc\00")"#)
}

#[test]
fn record_that_is_not_there_is_none() {
    assert_eq!(count(&mut load(&getting((4096, 8), (4096, 8)), &PluginOptions::new())), 2);
}

#[test]
fn list_of_an_empty_memory_is_empty() {
    let text = reading(
        "(call $list (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
         (call $answer (i32.add (i32.load8_u (i32.const 2048)) (i32.load (i32.const 2056))))",
    );
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 0);
}

#[test]
fn names_that_can_not_be_one_give_no_record() {
    for slug in [(4104, 9), (4104, 2), (4113, 1), (4112, 2), (0, 0)] {
        let mut plugin = load(&getting((4096, 8), slug), &PluginOptions::new());
        assert_eq!(count(&mut plugin), 1, "{slug:?}");
    }
}

#[test]
fn names_of_ten_megabytes_are_an_error_for_the_plugin() {
    for (kind, slug) in [((8192, 10_000_000), (4096, 8)), ((4096, 8), (8192, 10_000_000))] {
        assert_eq!(count(&mut load(&getting(kind, slug).pages(200), &PluginOptions::new())), 1);
    }
}

#[test]
fn memory_can_not_be_read_before_there_is_a_batch() {
    let text = getting((4096, 8), (4096, 8)).info(
        "(call $get (i32.const 4096) (i32.const 8) (i32.const 4096) (i32.const 8) (i32.const 2048))
             (if (i32.ne (i32.load8_u (i32.const 2048)) (i32.const 1)) (then (unreachable)))
             (i32.const 16)",
    );
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 2);
}

/// It ends, or the time limit ends it.
#[test]
fn memory_that_is_read_a_million_times_does_not_hold_the_host_up() {
    let text = reading(&format!(
        "(loop $on
           (call $get (i32.const 4096) (i32.const 8) (i32.const 4096) (i32.const 8) (i32.const 2048))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $on (i32.lt_u (local.get $i) (i32.mul (local.get $count) (i32.const 500000)))))
         {TELL}"
    ))
    .items(r#"(data (i32.const 4096) "decision")"#);
    let mut plugin = load_hasty(&text);
    match consolidate(&mut plugin, &entries(2)) {
        Ok(updates) => assert_eq!(updates.len(), 2),
        Err(ConsolidatorError::Batch(message)) => assert!(message.contains("no end after"), "{message}"),
        Err(other) => panic!("{other:?}"),
    }
}

/// It is not the plugin's fault, and no entry is to blame.
#[test]
fn workspace_that_fails_ends_the_batch_as_a_failure_of_the_workspace() {
    let component =
        patched::Component::shipped().with(patched::MEMORY, "[method]draft.get", &patched::trap());
    let broken = Runtime::builder().component_bytes(component.bytes()).build().expect("a runtime");
    let place = TestWorkspace::with_staging();
    let workspace = broken.open(place.root()).expect("the workspace opens");
    let mut plugin = load(&getting((4096, 8), (4096, 8)), &PluginOptions::new());
    let draft = workspace.draft(UpdateLimits::default()).expect("a draft");
    for _ in 0..2 {
        let failed = plugin.consolidate(&entries(1), &draft);
        assert!(matches!(failed, Err(ConsolidatorError::Workspace(_))), "{failed:?}");
    }
    // With a workspace that works it goes on.
    assert_eq!(count(&mut plugin), 2);
}
