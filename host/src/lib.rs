//! The staging directory and the consolidation lock of a workspace, for programs that embed them.
//!
//! ```no_run
//! use consolidation_host::{Limits, Workspace};
//!
//! # fn main() -> Result<(), consolidation_host::Error> {
//! let workspace = Workspace::open("/var/lib/pods/workspace")?;
//! workspace.stage(r#"{"source": {"segment_id": "session-1", "range": [0, 9]}}"#)?;
//!
//! let lock = workspace.acquire("pod-a")?;
//! let snapshot = lock.snapshot(Limits::default())?;
//! lock.record_snapshot(&snapshot)?; // the lock names the entries
//! loop {
//!     let batch = snapshot.next_batch(100, 1 << 20)?;
//!     batch.entries.iter().for_each(|entry| println!("{}", entry.json));
//!     if batch.done { break }
//! }
//! lock.record_snapshot(&snapshot)?; // what was read is consumed, the rest stays
//! drop(snapshot);
//! lock.release_with_cleanup()?;
//! # Ok(())
//! # }
//! ```
//!
//! Or with a [`Consolidator`], a plugin or code of your own, in one call:
//!
//! ```no_run
//! use consolidation_host::{ConsolidateOptions, Plugin, PluginOptions, Runtime};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = Runtime::new()?;
//! let mut plugin = Plugin::load(&runtime, "plugins/digest.wasm".as_ref(), &PluginOptions::new())?;
//! let done = runtime
//!     .open("/var/lib/pods/workspace")?
//!     .consolidate(&ConsolidateOptions::new("pod-a"), &mut plugin)?;
//! println!("{} entries, {} new records", done.entries, done.created);
//! # Ok(())
//! # }
//! ```
//!
//! # Model
//!
//! The logic is a WebAssembly component (the *guest*) that ships with this crate. A [`Runtime`] holds
//! the wasmtime engine and the compiled component; it is made once, and [`Workspace::open`] shares
//! one in the whole process. A [`Workspace`] is one directory. Its calls run in instances of the
//! component that see this directory, the clocks, randomness and evidence about processes, and
//! nothing else: no network, no environment, no arguments, no standard streams. A [`Lock`] has an
//! instance of its own until it is released, and its lease is renewed in the background.
//!
//! An instance that traps or runs too long is dropped, and the next call gets a fresh one. The files
//! are as they were or as the call was to leave them; a lock that was being taken or held is cleared,
//! and the entries stay.
//!
//! A [`Plugin`] runs in an engine of the same [`Runtime`], in a store of its own, and gets nothing but
//! what [`PluginOptions`] grants it. It only answers: what it wants of memory is checked and done by the
//! component, in the commit of the run.
//!
//! # Limits
//!
//! An instance has 256 MiB of memory and a call 30 seconds, unless [`RuntimeBuilder`] says otherwise;
//! a file operation that hangs in the kernel is not interrupted. Calls block their thread. A process
//! that forks must not use its runtimes in the child. On systems other than Linux and macOS there is
//! no evidence about processes: there an owner counts as alive until its lease runs out.
//!
//! Takeovers, unreadable locks, failed deletes, lost locks and failed calls are [`tracing`] events at
//! level `warn`.

#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod bindings;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod consolidation;
mod consolidator;
mod draft;
mod engine;
mod error;
mod keeper;
mod lock;
#[doc(hidden)]
pub mod measure;
mod place;
#[cfg(feature = "plugins")]
mod plugin;
mod process;
mod sandbox;
mod snapshot;
mod sys;
mod types;
mod wait;
mod wasi;
mod workspace;

pub use consolidation::{
    Cause, ConsolidateError, ConsolidateOptions, Consolidation, FailedEntry, Observer, Preview, Progress,
};
pub use consolidator::{Consolidator, ConsolidatorError};
pub use draft::Draft;
pub use engine::{Runtime, RuntimeBuilder};
pub use error::{Error, GuestError};
pub use lock::Lock;
#[cfg(feature = "plugins")]
pub use plugin::{Grant, Interrupter, Plugin, PluginError, PluginOptions, UnknownGrant};
pub use snapshot::{LockSnapshot, Snapshot};
pub use types::*;
pub use workspace::Workspace;

/// Threads of the embedder share these, and pass these on.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Runtime>();
    shared::<Workspace>();
    shared::<Lock>();
    shared::<Snapshot<'_>>();
    shared::<Draft<'_>>();
    shared::<Error>();
    #[cfg(feature = "plugins")]
    {
        const fn passed_on<T: Send>() {}
        shared::<PluginError>();
        passed_on::<Plugin>();
    }
};
