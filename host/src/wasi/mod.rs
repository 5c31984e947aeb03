//! What the component sees of WASI 0.2. Invariant: a guest reaches the directory that it was given, the
//! clocks and randomness, and nothing of the process: no environment, no arguments, no standard streams
//! but one that keeps its last words, no sockets.
//!
//! There are two of it with one meaning; the build script chooses. `lean` does what the component uses, on
//! plain system calls, and is for Unix. `preview2` is all of WASI as `wasmtime-wasi` does it, which works
//! everywhere and pays for it at each call: a task on an async runtime, a look at what each opened file is,
//! links resolved step by step. `CONSOLIDATION_WASI=wasmtime` in the environment of a build takes the second
//! one on Unix too, to compare them: `docs/performance.md` has the figures.

#[cfg(lean_wasi)]
mod lean;
#[cfg(not(lean_wasi))]
mod preview2;

#[cfg(lean_wasi)]
pub(crate) use lean::{Root, Wasi, add_to_linker};
#[cfg(not(lean_wasi))]
pub(crate) use preview2::{Root, Wasi, add_to_linker};
