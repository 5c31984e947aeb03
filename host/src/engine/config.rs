//! The engine's settings. Invariant: the build script includes this file, so the image that it
//! compiles ahead of time fits the engine that loads it.

use wasmtime::{Config, OptLevel};

/// What the component needs and no more.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    // A guest that loops is stopped at its deadline.
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    // rustc's wasm32-wasip2 baseline uses none of these, so they are not offered to a guest.
    config.wasm_relaxed_simd(false);
    config.wasm_simd(false);
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    config.wasm_tail_call(false);
    config
}
