//! What the benchmarks ask of this crate beyond its interface. Nothing here is for anybody else, and it may
//! change at any time.

use crate::engine::Runtime;
use crate::sandbox::Instance;
use crate::wasi::Root;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// Which implementation of WASI the component has in this build.
pub const WASI: &str = if cfg!(lean_wasi) { "lean" } else { "wasmtime-wasi" };

/// A directory in which instances of the component are made, and dropped, without a call.
pub struct Instances {
    runtime: Runtime,
    root: Root,
    peak_memory: Arc<AtomicUsize>,
}

impl Instances {
    /// In this directory.
    ///
    /// # Errors
    ///
    /// As of opening it.
    pub fn new(runtime: &Runtime, root: &Path) -> io::Result<Instances> {
        Ok(Instances { runtime: runtime.clone(), root: Root::open(root)?, peak_memory: Arc::default() })
    }

    /// Makes one, and drops it. Says whether that worked.
    #[must_use]
    pub fn make(&self) -> bool {
        Instance::new(&self.runtime, &self.root, &self.peak_memory).is_ok()
    }
}
