//! What a plugin can and can't reach.

use super::*;

const WALL: &str = "wasi:clocks/wall-clock@0.2.0";
const MONOTONIC: &str = "wasi:clocks/monotonic-clock@0.2.0";

#[test]
fn stdin_is_empty() {
    // 1 if the stream is closed at once.
    let text = PluginText::new(
        "(call $blocking-read (call $get-stdin) (i64.const 100) (i32.const 2048))
         (call $answer (i32.and (i32.load8_u (i32.const 2048)) (i32.load8_u (i32.const 2052))))",
    )
    .import("wasi:cli/stdin@0.2.0", "get-stdin", "(result i32)")
    .import("wasi:io/streams@0.2.0", "[method]input-stream.blocking-read", "(param i32 i64 i32)");
    assert_eq!(count(&mut load_hasty(&text)), 1);
}

fn environment() -> PluginText {
    PluginText::new("(call $get-environment (i32.const 2048)) (call $answer (i32.load (i32.const 2052)))")
        .import("wasi:cli/environment@0.2.0", "get-environment", "(param i32)")
}

#[test]
fn environment_is_empty_but_for_what_is_granted() {
    assert_eq!(count(&mut load(&environment(), &PluginOptions::new())), 0);
    let granted = ["PATH", "NO_SUCH_VARIABLE_IN_ANY_ENVIRONMENT"]
        .iter()
        .fold(PluginOptions::new(), |options, name| options.grant(Grant::Env((*name).into())));
    assert_eq!(count(&mut load(&environment(), &granted)), 1);
}

#[test]
fn no_directory_is_open() {
    let text = PluginText::new(
        "(call $get-directories (i32.const 2048)) (call $answer (i32.load (i32.const 2052)))",
    )
    .import("wasi:filesystem/preopens@0.2.0", "get-directories", "(param i32)");
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 0);
}

#[test]
fn sockets_trap_when_they_are_called() {
    let text = PluginText::new("(drop (call $instance-network)) (unreachable)").import(
        "wasi:sockets/instance-network@0.2.0",
        "instance-network",
        "(result i32)",
    );
    fails_with(
        &text,
        "it called instance-network of wasi:sockets/instance-network@0.2.0, which no plugin gets",
    );
}

/// The interface uses resources of interfaces that plugins have.
#[test]
fn sockets_that_are_linked_and_not_called_do_no_harm() {
    let text = PluginText::new(
        "(if (i32.gt_u (local.get $count) (i32.const 1)) (then
           (drop (call $subscribe (call $create-tcp-socket (i32.const 4)))) (drop (call $read (i32.const 1)))))
         (call $answer (i32.const 5))",
    )
    .import("wasi:sockets/tcp-create-socket@0.2.0", "create-tcp-socket", "(param i32) (result i32)")
    .import("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.subscribe", "(param i32) (result i32)")
    .import("wasi:sockets/tcp@0.2.0", "[method]tcp-socket.read", "(param i32) (result i32)");
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 5);
}

fn wall_clock() -> PluginText {
    // 1 if it is later than in the year 2020.
    PluginText::new(
        "(call $now (i32.const 2048))
         (call $answer (i64.gt_u (i64.load (i32.const 2048)) (i64.const 1577836800)))",
    )
    .import(WALL, "now", "(param i32)")
}

#[test]
fn clock_traps_unless_it_is_granted() {
    fails_with(
        &wall_clock(),
        "wasi:clocks/wall-clock@0.2.0, which is not granted; grant it with `--grant clock`",
    );
    let monotonic =
        PluginText::new("(drop (call $now)) (unreachable)").import(MONOTONIC, "now", "(result i64)");
    fails_with(
        &monotonic,
        "wasi:clocks/monotonic-clock@0.2.0, which is not granted; grant it with `--grant clock`",
    );
    let other = PluginOptions::new().grant(Grant::Random);
    assert!(fails(&mut load(&wall_clock(), &other)).contains("--grant clock"));
    assert_eq!(count(&mut load(&wall_clock(), &PluginOptions::new().grant(Grant::Clock))), 1);
}

/// Its own clock is none; the host tells it the time.
#[test]
fn time_of_the_batch_needs_no_grant() {
    let text = PluginText::new("(call $answer (i64.gt_u (local.get $now) (i64.const 1577836800000)))");
    assert_eq!(count(&mut load(&text, &PluginOptions::new())), 1);
}

fn sleeping(nanos: &str) -> PluginText {
    PluginText::new(&format!(
        "(call $block (call $subscribe-duration (i64.const {nanos}))) (call $answer (i32.const 6))"
    ))
    .import(MONOTONIC, "subscribe-duration", "(param i64) (result i32)")
    .import("wasi:io/poll@0.2.0", "[method]pollable.block", "(param i32)")
}

#[test]
fn sleep_ends_with_the_time_of_the_call() {
    let options = PluginOptions::new().grant(Grant::Clock);
    assert_eq!(count(&mut load(&sleeping("1000000"), &options)), 6);
    for nanos in ["3600000000000", "-1"] {
        let options = options.clone().call_timeout(SHORT);
        assert!(fails(&mut load(&sleeping(nanos), &options)).contains("no end after 300ms"));
    }
}

#[test]
fn randomness_traps_unless_it_is_granted() {
    let text = PluginText::new("(drop (call $get-random-u64)) (call $answer (i32.const 7))").import(
        "wasi:random/random@0.2.0",
        "get-random-u64",
        "(result i64)",
    );
    fails_with(&text, "wasi:random/random@0.2.0, which is not granted; grant it with `--grant random`");
    assert_eq!(count(&mut load(&text, &PluginOptions::new().grant(Grant::Random))), 7);
}

/// Some bits of the seed and of the generator, as numbers of updates.
fn seeds(options: &PluginOptions) -> Vec<usize> {
    let seed = PluginText::new(
        "(call $insecure-seed (i32.const 2048)) (call $answer (i32.load8_u (i32.const 2048)))",
    )
    .import("wasi:random/insecure-seed@0.2.0", "insecure-seed", "(param i32)");
    let number = PluginText::new(
        "(call $answer (i32.and (i32.const 255) (i32.wrap_i64 (call $get-insecure-random-u64))))",
    )
    .import("wasi:random/insecure@0.2.0", "get-insecure-random-u64", "(result i64)");
    let mut seen = Vec::new();
    for text in [seed, number] {
        for _ in 0..4 {
            seen.push(count(&mut load(&text, options)));
        }
    }
    seen
}

#[test]
fn seeds_are_the_same_in_every_instance_without_randomness() {
    let fixed = seeds(&PluginOptions::new());
    assert!(fixed[..4].iter().all(|seed| *seed == fixed[0]), "{fixed:?}");
    assert!(fixed[4..].iter().all(|number| *number == fixed[4]), "{fixed:?}");
    assert_ne!(seeds(&PluginOptions::new().grant(Grant::Random)), fixed);
}

#[test]
fn exit_is_a_failure_of_the_batch() {
    let text = PluginText::new("(call $exit (i32.const 0)) (unreachable)").import(
        "wasi:cli/exit@0.2.0",
        "exit",
        "(param i32)",
    );
    fails_with(&text, "it exited with status 0");
}
