//! The crash-safe staging directory and the consolidation lock of one workspace.
//!
//! The rules are written over two small interfaces, [`fs::Dir`] for one directory and
//! [`system::System`] for the clock, processes and randomness, and come in two shapes: as a WASI 0.2
//! component for the world in `wit/`, and as this native library, for tests, simulation and
//! comparison. Each rule has one home:
//!
//! | rule | home |
//! |---|---|
//! | file names, ids, tokens | [`layout`] |
//! | format of a staging entry | [`entry`], over [`json`] |
//! | format of the lock record | [`record`] |
//! | sorting | [`order`] |
//! | order of writes on disk | [`durable`] |
//! | dead, alive or unknown | [`liveness`] |
//! | the staging directory | [`staging`] |
//! | the lock protocol | [`lock`] |
//! | format of a run's outcome | [`outcome`] |
//! | commit and recovery of runs | [`runs`] |
//! | how a run changes records | `journal` |
//! | format of a memory record | [`memory::format`] |
//! | form of an update | [`memory::update`] |
//! | what an update changes | [`memory::draft`] |
//! | entries that a consolidator fails on | [`quarantine`] |
//! | when it is worth to run | [`gate`] |
//! | what is left over, and what may be removed | [`doctor`] |
//!
//! Not guaranteed: exclusion against programs that write the lock file without following the protocol,
//! and anything at all on a file system that reorders or loses metadata operations while it is up.

#![no_std]
#![cfg_attr(not(target_family = "wasm"), forbid(unsafe_code))]

extern crate alloc;
#[cfg(not(target_family = "wasm"))]
extern crate std;

mod digest;
pub mod doctor;
pub mod durable;
pub mod entry;
pub mod error;
pub mod fs;
pub mod gate;
mod journal;
pub use consolidation_json as json;
pub mod layout;
pub mod liveness;
pub mod lock;
pub mod memory;
pub mod order;
pub mod outcome;
mod prelude;
pub mod quarantine;
pub mod record;
pub mod runs;
pub mod staging;
pub mod system;
pub mod time;
pub mod workspace;

#[cfg(not(target_family = "wasm"))]
pub mod native;

#[cfg(target_family = "wasm")]
mod bindings;
#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod runtime;
#[cfg(target_family = "wasm")]
mod wasi;
