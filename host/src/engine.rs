//! What is made once and shared by every workspace and thread: the engine, the compiled and linked
//! component, and the ticker that makes deadlines count. Invariant: no guest code runs without a
//! deadline, and the ticker runs only while guest code does.

mod config;
mod ticker;

use crate::bindings::ConsolidationPre;
#[cfg(not(feature = "compile"))]
use crate::error::one_line;
use crate::error::{Error, causes};
use crate::sandbox::{self, Instance, State};
use crate::sys::{self, image::Image};
use crate::workspace::Workspace;
use config::AddressSpace;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use ticker::Ticker;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The shipped component.
#[cfg(feature = "compile")]
static COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/consolidation.wasm"));
/// The same, compiled by the build script for each [`AddressSpace`]; empty if it could not compile for
/// this target.
static AMPLE: &Image = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/ample.cwasm")));
static LIMITED: &Image = &Image(*include_bytes!(concat!(env!("OUT_DIR"), "/limited.cwasm")));

/// Where a memory is reserved less than this, its bounds are checked in code.
const ALL_OF_A_MEMORY: u64 = 4 << 30;

const DEFAULT_MEMORY_LIMIT: usize = 256 << 20;
const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The engine and the component, ready to run: made once, cheap to clone, shared by any number of
/// workspaces and threads.
///
/// A process that forks must make a new one in the child: threads don't survive a fork.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    engine: Engine,
    component: ConsolidationPre<State>,
    ticker: Ticker,
    memory_limit: usize,
    call_timeout: Duration,
}

impl Runtime {
    /// A runtime with an engine of its own and the component that ships with this crate.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if wasmtime can't run on this machine; [`Error::Image`] if it can't run the code
    /// that this build has for it.
    pub fn new() -> Result<Runtime, Error> {
        Runtime::builder().build()
    }

    /// The settings of the engine that a runtime of this process makes for itself. An engine of the
    /// embedder's own that was made with them runs the component's image as it is; settings that concern
    /// code or memory make another one necessary.
    pub fn engine_config() -> wasmtime::Config {
        let mut config = config::config(address_space());
        sys::image::allow_in_place(&mut config);
        config
    }

    /// For another engine, component or other limits than the default ones.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Opens the workspace in the directory `root`, which must exist. See [`Workspace::open`].
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if it is no directory or can't be opened.
    pub fn open(&self, root: impl AsRef<Path>) -> Result<Workspace, Error> {
        Workspace::with_runtime(self.clone(), root.as_ref())
    }

    /// The runtime that [`Workspace::open`] uses: one for the process, made at its first use.
    pub(crate) fn shared() -> Result<Runtime, Error> {
        static SHARED: OnceLock<Runtime> = OnceLock::new();
        match SHARED.get() {
            Some(runtime) => Ok(runtime.clone()),
            // Two threads that come first at once both make one, and one of the two stays. A failure
            // is not kept: the next call tries again.
            None => {
                let made = Runtime::new()?;
                Ok(SHARED.get_or_init(|| made).clone())
            }
        }
    }

    /// The same component with at least the default limits: what clears up after a call that met a limit
    /// must not meet it too.
    pub(crate) fn with_default_limits(&self) -> Runtime {
        let inner = &self.0;
        if inner.memory_limit >= DEFAULT_MEMORY_LIMIT && inner.call_timeout >= DEFAULT_CALL_TIMEOUT {
            return self.clone();
        }
        Runtime(Arc::new(Inner {
            engine: inner.engine.clone(),
            component: inner.component.clone(),
            ticker: Ticker::new(&inner.engine),
            memory_limit: inner.memory_limit.max(DEFAULT_MEMORY_LIMIT),
            call_timeout: inner.call_timeout.max(DEFAULT_CALL_TIMEOUT),
        }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn component(&self) -> &ConsolidationPre<State> {
        &self.0.component
    }

    /// Keeps the epochs going until the guard is dropped.
    pub(crate) fn tick(&self) -> std::io::Result<ticker::Ticking<'_>> {
        self.0.ticker.tick()
    }

    pub(crate) fn memory_limit(&self) -> usize {
        self.0.memory_limit
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        self.0.call_timeout
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Runtime")
            .field("memory_limit", &self.0.memory_limit)
            .field("call_timeout", &self.0.call_timeout)
            .finish_non_exhaustive()
    }
}

/// Settings of a [`Runtime`].
#[derive(Clone, Default)]
#[must_use = "nothing is made before `build`"]
pub struct RuntimeBuilder {
    engine: Option<Engine>,
    #[cfg(feature = "compile")]
    component: Option<Vec<u8>>,
    memory_limit: Option<usize>,
    call_timeout: Option<Duration>,
    compiles_nothing: bool,
}

impl RuntimeBuilder {
    /// Uses the embedder's engine. It must have been made with
    /// [`wasmtime::Config::epoch_interruption`]; the embedder may or may not increment its epoch.
    /// The runtime increments it too, every 15 ms while a call is in progress, so other stores of
    /// the engine see more epochs than their own ticker makes.
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Uses another build of the component, in binary form, instead of the one that ships with this
    /// crate. It must import and export what the WIT world `consolidation` says.
    #[cfg(feature = "compile")]
    pub fn component_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.component = Some(bytes.into());
        self
    }

    /// How many bytes of memory an instance may have; 256 MiB by default. A payload or a batch takes
    /// several times its size while it is being worked on.
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// How long one call into the component may take, from its start; 30 seconds by default. It must
    /// be longer than the 6 seconds for which taking a lock may wait. It is checked while the
    /// component computes: a file operation that hangs in the kernel is not interrupted.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = Some(timeout);
        self
    }

    /// The image is all that this runtime will run, and a compiler need not be set up, which is a fortieth of the
    /// time of a short command.
    #[cfg(feature = "cli")]
    pub(crate) fn compiles_nothing(mut self, nothing: bool) -> Self {
        self.compiles_nothing = nothing;
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the engine can't be made, or the component does not compile or does not
    /// fit the WIT world; [`Error::Image`] if the engine does not fit the image and there is no compiler to
    /// make another; [`Error::EngineWithoutEpochs`] if the embedder's engine can't interrupt a
    /// guest.
    pub fn build(self) -> Result<Runtime, Error> {
        let foreign = self.engine.is_some();
        let (memory_limit, call_timeout) = (self.memory_limit, self.call_timeout);
        // If the image does not fit, as on a target that the build script could not compile for, a compiler is
        // needed after all.
        let (engine, component) = match self.compiles_nothing.then(engine_without_compiler).flatten() {
            Some(both) => both,
            None => self.engine_and_component()?,
        };
        let linked = sandbox::link(&engine, &component)
            .map_err(|error| Error::engine("link the component; does it fit the WIT world?", error))?;
        let runtime = Runtime(Arc::new(Inner {
            ticker: Ticker::new(&engine),
            engine,
            component: linked,
            memory_limit: memory_limit.unwrap_or(DEFAULT_MEMORY_LIMIT),
            call_timeout: call_timeout.unwrap_or(DEFAULT_CALL_TIMEOUT),
        }));
        // A Config can't be read back from an engine, so whether it interrupts is tried out.
        if foreign && !Instance::stops_at_epoch(&runtime)? {
            return Err(Error::EngineWithoutEpochs);
        }
        Ok(runtime)
    }

    fn engine_and_component(self) -> Result<(Engine, Component), Error> {
        let engine = match self.engine {
            Some(engine) => engine,
            None => Engine::new(&Runtime::engine_config())
                .map_err(|error| Error::engine("make the wasmtime engine", error))?,
        };
        #[cfg(feature = "compile")]
        let component = match self.component {
            Some(bytes) => compile(&engine, &bytes)?,
            None => built_in(&engine)?,
        };
        #[cfg(not(feature = "compile"))]
        let component = built_in(&engine)?;
        Ok((engine, component))
    }
}

impl fmt::Debug for RuntimeBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RuntimeBuilder")
            .field("engine", &self.engine.is_some())
            .field("memory_limit", &self.memory_limit)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}

/// An engine that can run the image and nothing else, and the image.
fn engine_without_compiler() -> Option<(Engine, Component)> {
    let mut config = Runtime::engine_config();
    #[cfg(feature = "compile")]
    config.enable_compiler(false);
    let engine = Engine::new(&config).ok()?;
    let component = image_for(&engine).ok()?;
    Some((engine, component))
}

/// That of this process. A limit of any size counts: a limit that has room for some memories of 4 GiB has
/// not for those of many workspaces.
fn address_space() -> AddressSpace {
    match sys::address_space_is_limited() {
        true => AddressSpace::Limited,
        false => AddressSpace::Ample,
    }
}

/// The shipped component: the image if that fits the engine, else compiled anew.
fn built_in(engine: &Engine) -> Result<Component, Error> {
    image_for(engine).or_else(|reason| without_image(engine, &reason))
}

/// The shipped component from the image for such an engine, or why it does not fit.
fn image_for(engine: &Engine) -> Result<Component, String> {
    let image = match engine.get_memory_reservation() < ALL_OF_A_MEMORY {
        true => LIMITED,
        false => AMPLE,
    };
    if image.0.is_empty() {
        return Err("there is none for this target".into());
    }
    sys::image::load(engine, image).map_err(|error| causes(error.as_ref()))
}

/// An embedder's engine has other settings than the build script's.
#[cfg(feature = "compile")]
fn without_image(engine: &Engine, reason: &str) -> Result<Component, Error> {
    tracing::debug!(reason, "the image compiled ahead of time does not fit; compiling the component");
    compile(engine, COMPONENT)
}

#[cfg(not(feature = "compile"))]
fn without_image(_: &Engine, reason: &str) -> Result<Component, Error> {
    Err(Error::Image { reason: one_line(reason) })
}

#[cfg(feature = "compile")]
fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, Error> {
    Component::from_binary(engine, bytes).map_err(|error| Error::engine("compile the component", error))
}

#[cfg(all(test, feature = "cli", feature = "compile"))]
mod tests {
    use super::*;

    /// An empty component.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    /// It is the image that runs, and no compiler was set up after all because it does not fit.
    #[test]
    fn runtime_that_compiles_nothing_has_no_compiler() {
        for nothing in [false, true] {
            let runtime = Runtime::builder().compiles_nothing(nothing).build().expect("a runtime");
            assert_eq!(Component::from_binary(runtime.engine(), EMPTY).is_err(), nothing);
        }
    }
}
