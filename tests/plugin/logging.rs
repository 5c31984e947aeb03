//! What a plugin says.

use super::*;
use crate::support::events::{Ear, Seen};
use tracing::Level;

fn said(work: impl FnOnce()) -> Vec<Seen> {
    let ear = Ear::of("plugin");
    tracing::subscriber::with_default(ear.clone(), work);
    ear.seen()
}

fn logging(body: &str) -> PluginText {
    PluginText::new(body).import(LOG, "log", "(param i32 i32 i32)")
}

#[test]
fn messages_are_events_of_their_level_with_the_name_of_the_plugin() {
    let text = logging(
        "(call $log (i32.const 0) (i32.const 4096) (i32.const 5)) (call $log (i32.const 1) (i32.const 4096) (i32.const 5))
         (call $log (i32.const 2) (i32.const 4096) (i32.const 5)) (call $log (i32.const 3) (i32.const 4096) (i32.const 5))
         (call $answer (i32.const 0))",
    )
    .items(r#"(data (i32.const 4096) "a\1bb\ncdefg")"#);
    let mut plugin = load(&text, &PluginOptions::new());
    let events = said(|| assert_eq!(count(&mut plugin), 0));
    let expected = [Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
    assert_eq!(events.len(), 8, "{events:?}");
    for (pair, level) in events.chunks(2).zip(expected) {
        for (event, message) in pair.iter().zip([r"a\u{1b}b", "c"]) {
            assert_eq!(
                (event.level, event.field("message"), event.field("plugin")),
                (level, message, "digest")
            );
        }
    }
}

#[test]
fn flood_of_messages_is_cut_off_and_that_is_said_once() {
    let text = logging(
        "(loop $on
           (call $log (i32.const 1) (i32.const 8192) (i32.const 36))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $on (i32.lt_u (local.get $i) (i32.const 100000))))
         (call $answer (i32.const 0))",
    )
    .items(&format!(r#"(data (i32.const 8192) "{}")"#, "x".repeat(36)));
    let mut plugin = load(&text, &PluginOptions::new().max_log_bytes(10_000));
    // The updates that are zeros elsewhere are text here: only that it ends counts.
    let events = said(|| {
        let _ = consolidate(&mut plugin, &entries(1));
        let _ = consolidate(&mut plugin, &entries(1));
    });
    assert_eq!(events.len(), 101, "{}", events.len());
    let dropped: Vec<_> = events.iter().filter(|event| event.level == Level::WARN).collect();
    assert_eq!(dropped.len(), 1);
    assert!(dropped[0].field("message").contains("further lines are dropped"), "{dropped:?}");
}

#[test]
fn flood_before_a_trap_does_not_begin_anew_after_it() {
    let text = logging(
        "(loop $on
           (call $log (i32.const 1) (i32.const 0) (i32.const 0))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $on (i32.lt_u (local.get $i) (i32.const 1000))))
         (unreachable)",
    );
    let mut plugin = load(&text, &PluginOptions::new().max_log_bytes(6_400));
    let events = said(|| (0..3).for_each(|_| drop(fails(&mut plugin))));
    assert_eq!(events.len(), 101);
}

#[test]
fn long_message_is_clipped() {
    let text = logging(
        "(call $log (i32.const 3) (i32.const 8192) (i32.const 1000000)) (call $answer (i32.const 0))",
    )
    .pages(20);
    let mut plugin = load(&text, &PluginOptions::new());
    let events = said(|| assert_eq!(count(&mut plugin), 0));
    assert_eq!(events.len(), 1);
    assert!(events[0].field("message").len() < 40_000, "{}", events[0].field("message").len());
}

/// A standard stream, and text that is written to it.
fn printing(stream: &str, then: &str) -> PluginText {
    PluginText::new(&format!(
        "(call $blocking-write-and-flush (local.tee $i (call $get-{stream})) (i32.const 4096) (i32.const 11) (i32.const 2048))
         (call $blocking-write-and-flush (local.get $i) (i32.const 4107) (i32.const 8) (i32.const 2048))
         {then}"
    ))
    .import(&format!("wasi:cli/{stream}@0.2.0"), &format!("get-{stream}"), "(result i32)")
    .import("wasi:io/streams@0.2.0", "[method]output-stream.blocking-write-and-flush", "(param i32 i32 i32 i32)")
    .items(r#"(data (i32.const 4096) "first\nsecond and last")"#)
}

#[test]
fn what_is_printed_goes_to_the_log_line_by_line() {
    for (stream, level) in [("stdout", Level::INFO), ("stderr", Level::WARN)] {
        let mut plugin = load(&printing(stream, NOTHING), &PluginOptions::new());
        let events = said(|| assert_eq!(count(&mut plugin), 0));
        let seen: Vec<_> = events.iter().map(|event| (event.level, event.field("message"))).collect();
        assert_eq!(seen, [(level, "first"), (level, "second and la")]);
    }
}

#[test]
fn trap_tells_what_was_printed_before_it() {
    let message = fails(&mut load(&printing("stderr", "(unreachable)"), &PluginOptions::new()));
    assert!(message.contains("first second and la"), "{message}");
}
