//! What a plugin is given and what its answers come to.

use super::*;

/// One update that has everything, its body the JSON of the first entry.
const FULL: &str = r#"
    (i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1))
    (i32.store (i32.const 2048) (i32.const 4096)) (i32.store (i32.const 2052) (i32.const 8))
    (i32.store (i32.const 2056) (i32.const 4104)) (i32.store (i32.const 2060) (i32.const 4))
    (i32.store8 (i32.const 2064) (i32.const 1))
    (i32.store (i32.const 2068) (i32.const 4096)) (i32.store (i32.const 2072) (i32.const 12))
    (i32.store8 (i32.const 2076) (i32.const 1))
    (i32.store (i32.const 2080) (i32.load offset=8 (local.get $entries)))
    (i32.store (i32.const 2084) (i32.load offset=12 (local.get $entries)))
    (i32.store8 (i32.const 2088) (i32.const 1)) (i32.store8 (i32.const 2089) (i32.const 2))
    (i32.store8 (i32.const 2104) (i32.const 1))
    (i32.store (i32.const 2108) (local.get $entries)) (i32.store (i32.const 2112) (i32.const 1))
    (i32.const 1024)"#;
const WORDS: &str = r#"(data (i32.const 4096) "decisionseen")"#;

#[test]
fn good_plugin_sees_the_batch_and_its_updates_arrive() {
    let mut plugin = load(&PluginText::new(FULL).items(WORDS), &PluginOptions::new());
    assert_eq!(plugin.name(), "digest 1.2.3");
    let batch = entries(3);
    let updates = consolidate(&mut plugin, &batch).expect("it does the batch");
    assert_eq!(
        updates,
        [Update {
            kind: "decision".into(),
            slug: "seen".into(),
            title: Some("decisionseen".into()),
            body: Some(batch[0].json.clone()),
            status: Some(consolidation_host::RecordStatus::Retired),
            replaced_by: None,
            entries: Some(vec![batch[0].id.clone()]),
        }]
    );
}

#[test]
fn batches_of_one_to_five_thousand_entries_arrive_whole() {
    // As many updates as entries, up to what the zeros hold; else the count modulo 100.
    let text = PluginText::new("(call $answer (i32.rem_u (local.get $count) (i32.const 700)))");
    let mut plugin = load(&text, &PluginOptions::new());
    for size in [1, 2, 100, 699, 5_000] {
        let updates = consolidate(&mut plugin, &entries(size)).expect("it does the batch");
        assert_eq!(updates.len(), size % 700);
    }
}

#[test]
fn instance_serves_all_batches_while_it_behaves() {
    let text = PluginText::new(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1))) (call $answer (global.get $calls))",
    )
    .items("(global $calls (mut i32) (i32.const 0))");
    let mut plugin = load(&text, &PluginOptions::new());
    assert_eq!([count(&mut plugin), count(&mut plugin), count(&mut plugin)], [1, 2, 3]);
}

#[test]
fn plugin_that_trapped_works_again_in_a_fresh_instance() {
    // It traps in its second call and is at its first in the next instance.
    let text = PluginText::new(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const 2)) (then (unreachable)))
         (call $answer (global.get $calls))",
    )
    .items("(global $calls (mut i32) (i32.const 0))");
    let mut plugin = load(&text, &PluginOptions::new());
    for _ in 0..3 {
        assert_eq!(count(&mut plugin), 1);
        assert!(fails(&mut plugin).contains("trapped"));
    }
}

#[test]
fn trap_in_one_plugin_leaves_another_alone() {
    let mut bad = load(&PluginText::new("(unreachable)"), &PluginOptions::new());
    let mut good = load(&PluginText::new(NOTHING), &PluginOptions::new());
    for _ in 0..3 {
        assert!(fails(&mut bad).contains("unreachable"));
        assert_eq!(count(&mut good), 0);
    }
}

/// A failure: its message, at most one entry, and whether it is temporary.
fn failure(entry: &str, temporary: u8) -> PluginText {
    PluginText::new(&format!(
        "(i32.store8 (i32.const 1024) (i32.const 1))
         (i32.store (i32.const 1028) (i32.const 4096)) (i32.store (i32.const 1032) (i32.const 10))
         {entry}
         (i32.store8 (i32.const 1044) (i32.const {temporary}))
         (i32.const 1024)"
    ))
    .items(r#"(data (i32.const 4096) "too\1b strange")"#)
}

#[test]
fn reported_failure_is_one_of_the_batch() {
    let message = fails(&mut load(&failure("", 0), &PluginOptions::new()));
    assert!(message.ends_with(r"too\u{1b} stran"), "{message}");
}

#[test]
fn entries_that_are_named_are_at_fault() {
    // The list is the batch's own: it begins with the id of its first entry.
    let named =
        "(i32.store (i32.const 1036) (local.get $entries)) (i32.store (i32.const 1040) (i32.const 1))";
    let batch = entries(3);
    match consolidate(&mut load(&failure(named, 0), &PluginOptions::new()), &batch) {
        Err(ConsolidatorError::Entries(ids, message)) => {
            assert_eq!(ids, [batch[0].id.clone()]);
            assert!(message.contains("plugin digest 1.2.3"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_that_are_not_in_the_batch_are_a_lie() {
    let foreign = "(i32.store (i32.const 2048) (i32.const 4096)) (i32.store (i32.const 2052) (i32.const 3))
        (i32.store (i32.const 1036) (i32.const 2048)) (i32.store (i32.const 1040) (i32.const 1))";
    let message = fails(&mut load(&failure(foreign, 0), &PluginOptions::new()));
    assert!(message.contains("blames the entry 'too', which is not in the batch"), "{message}");
}

#[test]
fn temporary_failure_blames_nobody() {
    let named =
        "(i32.store (i32.const 1036) (local.get $entries)) (i32.store (i32.const 1040) (i32.const 1))";
    let failed = consolidate(&mut load(&failure(named, 1), &PluginOptions::new()), &entries(1));
    assert!(matches!(failed, Err(ConsolidatorError::Temporary(_))), "{failed:?}");
}

#[test]
fn malformed_answers_are_failures_of_the_batch() {
    let list = |ptr: &str, len: &str| {
        format!(
            "(i32.store (i32.const 1028) (i32.const {ptr})) (i32.store (i32.const 1032) (i32.const {len})) (i32.const 1024)"
        )
    };
    let kind = |ptr: &str, len: &str| {
        format!(
            "(i32.store (i32.const 2048) (i32.const {ptr})) (i32.store (i32.const 2052) (i32.const {len}))"
        ) + &list("2048", "1")
    };
    let malformed = [
        (kind("4096", "3"), "utf-8"),
        (kind("-16", "32"), "out of bounds"),
        (kind("131072", "1"), "out of bounds"),
        (list("131072", "1"), "out of bounds"),
        (list("2049", "1"), "aligned"),
        ("(i32.store8 (i32.const 1024) (i32.const 7)) (i32.const 1024)".into(), "discriminant"),
        // The status of an update.
        (
            "(i32.store8 (i32.const 2088) (i32.const 1)) (i32.store8 (i32.const 2089) (i32.const 3))"
                .to_owned()
                + &list("2048", "1"),
            "discriminant",
        ),
        ("(i32.const -4)".into(), "out of bounds"),
        ("(i32.const 1025)".into(), "aligned"),
    ];
    for (body, reason) in malformed {
        let text = PluginText::new(&body).items(r#"(data (i32.const 4096) "\ff\fe\c0")"#);
        let message = fails(&mut load(&text, &PluginOptions::new()));
        assert!(message.to_lowercase().contains(reason), "{message}\n{body}");
    }
}
