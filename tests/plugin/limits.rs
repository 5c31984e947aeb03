//! Plugins that take more than they may.

use super::*;

#[test]
fn endless_loop_is_stopped() {
    fails_with(&PluginText::new("(loop $on (br $on)) (unreachable)"), "no end after 300ms");
}

#[test]
fn endless_recursion_traps() {
    let text = PluginText::new("(call $deeper) (unreachable)").items("(func $deeper (call $deeper))");
    fails_with(&text, "stack");
}

#[test]
fn stopped_plugin_works_again() {
    let text = PluginText::new(
        "(if (i32.gt_u (local.get $count) (i32.const 1)) (then (loop $on (br $on))))
         (call $answer (i32.const 4))",
    );
    let mut plugin = load_hasty(&text);
    for _ in 0..2 {
        let failed = consolidate(&mut plugin, &entries(2));
        assert!(matches!(failed, Err(ConsolidatorError::Batch(_))), "{failed:?}");
        assert_eq!(count(&mut plugin), 4);
    }
}

#[test]
fn memory_bomb_is_refused() {
    let text = PluginText::new(
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const 32768))) (then (unreachable)))
         (call $answer (i32.const 0))",
    );
    fails_with(&text, "268435456 bytes of memory");
}

#[test]
fn memory_that_grows_page_by_page_is_refused_at_the_limit() {
    let text = PluginText::new(
        "(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) (unreachable)",
    );
    let mut plugin = load(&text, &PluginOptions::new().memory_limit(8 << 20));
    assert!(fails(&mut plugin).contains("8388608 bytes of memory"));
    assert!(fails(&mut plugin).contains("8388608 bytes of memory"));
}

/// It was refused memory and made do with what it has.
#[test]
fn refusal_that_a_plugin_copes_with_is_no_failure() {
    let text = PluginText::new(
        "(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 1)))))
         (call $answer (i32.div_u (memory.size) (i32.const 8)))",
    );
    let mut plugin = load(&text, &PluginOptions::new().memory_limit(8 << 20));
    assert_eq!(count(&mut plugin), 16);
}

#[test]
fn growth_that_fails_earns_no_room() {
    // Between its growths it asks for what can't be, which wasmtime reports as failed.
    let text = PluginText::new(
        "(loop $on
           (drop (memory.grow (i32.const -1)))
           (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 16)))))
         (call $answer (i32.div_u (memory.size) (i32.const 8)))",
    );
    let mut plugin = load(&text, &PluginOptions::new().memory_limit(8 << 20));
    assert!(count(&mut plugin) <= 16);
}

#[test]
fn tables_do_not_grow_without_end() {
    let text = PluginText::new(
        "(loop $on (br_if $on (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000)))))
         (call $answer (i32.div_u (table.size $t) (i32.const 10000)))",
    )
    .items("(table $t 1 funcref)");
    assert!(count(&mut load(&text, &PluginOptions::new())) <= 100);
}

#[test]
fn plugin_that_needs_more_memory_than_it_may_have_does_not_start() {
    let text = PluginText::new(NOTHING).pages(200);
    let options = PluginOptions::new().memory_limit(1 << 20);
    let error = Plugin::from_bytes(runtime(), "digest.wasm", &text.build(), &options).expect_err("too large");
    assert!(matches!(error, PluginError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("PluginOptions::memory_limit"), "{error}");
}

/// A string that is as long as it says.
#[test]
fn answer_with_a_gigabyte_of_text_is_refused() {
    let text = PluginText::new(
        "(i32.store (i32.const 2052) (i32.const 1000000000))
         (i32.store (i32.const 1028) (i32.const 2048)) (i32.store (i32.const 1032) (i32.const 1))
         (i32.const 1024)",
    )
    .pages(15_300);
    let mut plugin = load(&text, &PluginOptions::new().memory_limit(2 << 30));
    assert!(fails(&mut plugin).contains("more than 67108864 bytes to the host at once"));
}

#[test]
fn answer_with_ten_million_updates_is_refused() {
    let text = PluginText::new("(call $answer (i32.const 10000000))").pages(10_500);
    let mut plugin = load(&text, &PluginOptions::new().memory_limit(2 << 30));
    assert!(fails(&mut plugin).contains("more than 67108864 bytes to the host at once"));
}

/// Each text is the same megabyte, a thousand times over.
#[test]
fn answer_that_repeats_one_text_counts_every_time() {
    let text = PluginText::new(
        "(loop $on
           (i32.store offset=100000 (i32.mul (local.get $i) (i32.const 68)) (i32.const 200000))
           (i32.store offset=100004 (i32.mul (local.get $i) (i32.const 68)) (i32.const 1000000))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $on (i32.lt_u (local.get $i) (i32.const 1000))))
         (i32.store (i32.const 1028) (i32.const 100000)) (i32.store (i32.const 1032) (i32.const 1000))
         (i32.const 1024)",
    )
    .pages(32);
    let mut plugin = load(&text, &PluginOptions::new());
    assert!(fails(&mut plugin).contains("to the host at once"));
}

#[test]
fn answer_within_the_limit_that_was_set_arrives() {
    let text = PluginText::new("(call $answer (i32.const 500))");
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 500);
    assert!(fails(&mut load(&text, &PluginOptions::new().max_answer_bytes(10_000))).contains("10000 bytes"));
}

#[test]
fn streams_that_are_never_closed_run_out() {
    let text = PluginText::new("(loop $on (drop (call $get-stdout)) (br $on)) (unreachable)").import(
        "wasi:cli/stdout@0.2.0",
        "get-stdout",
        "(result i32)",
    );
    fails_with(&text, "table");
}

/// The clock of a call starts with the call.
#[test]
fn start_function_that_does_not_end_is_stopped_too() {
    let text = PluginText::new(NOTHING).items("(func $forever (loop $on (br $on))) (start $forever)");
    let options = PluginOptions::new().call_timeout(SHORT);
    let error =
        Plugin::from_bytes(runtime(), "digest.wasm", &text.build(), &options).expect_err("it is stopped");
    assert!(matches!(error, PluginError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("no end after 300ms"), "{error}");
}

#[test]
fn plugin_runs_on_a_worker_of_tokio() {
    let text = PluginText::new(
        "(call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
         (call $answer (i32.const 3))",
    )
    .import(MEMORY, "get", "(param i32 i32 i32 i32 i32)");
    let tokio = tokio::runtime::Builder::new_multi_thread().build().expect("a tokio runtime");
    let work = tokio.spawn(async move { count(&mut load(&text, &PluginOptions::new())) });
    assert_eq!(tokio.block_on(work).expect("it does not panic"), 3);
}
