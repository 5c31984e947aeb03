//! The engine's settings. Invariant: the build script includes this file, so an image that it compiles
//! ahead of time fits the engine that loads it.

use wasmtime::Config;

/// How the memories of guests lie in the address space of the process. Machine code is made for one of
/// the two, so there is an image for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressSpace {
    /// Each memory has all the 4 GiB to itself that a 32-bit address reaches, and a guard behind them. An
    /// address that is out of bounds meets a page that nobody may touch, and no code is spent on checks.
    Ample,
    /// The process may have so much address space and no more (`ulimit -v`). A memory takes what it uses
    /// and a little to grow into, moves if it outgrows that, and its bounds are checked in code: work on
    /// entries takes about a tenth longer.
    Limited,
}

/// What a memory of a guest takes at least, where address space is limited: what most instances use.
const RESERVATION: u64 = 2 << 20;
/// What it gets in addition when it outgrows that. More makes moves rare, less lets more of them fit in.
const RESERVATION_FOR_GROWTH: u64 = 32 << 20;
/// Behind it: lets the code check neighbouring fields once, not each of them.
const GUARD: u64 = 64 << 10;

/// What the component needs and no more. The rest are wasmtime's defaults.
pub(crate) fn config(space: AddressSpace) -> Config {
    let mut config = Config::new();
    // A guest that loops is stopped at its deadline.
    config.epoch_interruption(true);
    // rustc's wasm32-wasip2 baseline uses none of these, so they are not offered to a guest.
    config.wasm_relaxed_simd(false);
    config.wasm_simd(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_tail_call(false);
    if space == AddressSpace::Limited {
        config.memory_reservation(RESERVATION);
        config.memory_reservation_for_growth(RESERVATION_FOR_GROWTH);
        config.memory_guard_size(GUARD);
    }
    config
}
