//! One instance of the component in its sandbox. Invariant: it reaches one directory, the clocks,
//! randomness and the `process` import, and nothing else; it runs within a memory limit and, in
//! every call, up to a deadline.

pub(crate) mod limits;

use crate::bindings::{Consolidation, ConsolidationPre, process, types};
use crate::engine::Runtime;
use crate::error::{Error, Fault};
use crate::wasi::{self, Root, Wasi};
use limits::{Limited, Limits};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

/// Core instances, tables and memories: the component has one of its own code and a few that adapt
/// its imports.
const MAX_INSTANCES: usize = 32;
/// Functions are the only thing in its tables, and they don't grow at run time.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// How many bytes one call may move from the guest to the host: a file's content, or a result. The
/// longest results are lists of ids, at 60 bytes each, and batches, whose size the caller picks.
const HOSTCALL_FUEL: usize = 256 << 20;
/// A wasm memory never shrinks, so an instance that grew beyond this is not kept for the next call.
const MAX_IDLE_MEMORY: usize = 32 << 20;
/// Beyond the epochs of any clock, and far from overflowing when the present epoch is added.
const NEVER: u64 = 1 << 60;

/// What belongs to one instance.
pub(crate) struct State {
    pub(crate) wasi: Wasi,
    limits: Limits,
}

impl State {
    fn new(root: Option<&Root>, memory_limit: usize, peak: &Arc<AtomicUsize>) -> State {
        let limits = Limits::new(memory_limit, MAX_INSTANCES, MAX_TABLE_ELEMENTS).noting_peak(peak);
        State { wasi: Wasi::new(root), limits }
    }
}

impl Limited for State {
    const BLOCKS_ON_TOKIO: bool = cfg!(not(lean_wasi));

    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }

    fn printed(&self) -> String {
        self.wasi.printed()
    }
}

/// Gives the component its imports: those of WASI and `files`, and `process`.
pub(crate) fn link(engine: &Engine, component: &Component) -> wasmtime::Result<ConsolidationPre<State>> {
    let mut linker = Linker::<State>::new(engine);
    wasi::add_to_linker(&mut linker)?;
    types::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    process::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    ConsolidationPre::new(linker.instantiate_pre(component)?)
}

/// A running component. After a [`Fault`] it must be dropped: wasmtime does not let anyone enter an
/// instance that trapped.
pub(crate) struct Instance {
    store: Store<State>,
    /// What it exports: some kilobytes, which are not to move with each call.
    component: Box<Consolidation>,
    runtime: Runtime,
}

impl Instance {
    /// `peak` is where the most memory is noted that an instance has had.
    pub(crate) fn new(runtime: &Runtime, root: &Root, peak: &Arc<AtomicUsize>) -> Result<Instance, Fault> {
        let mut store = store(runtime, Some(root), peak);
        limits::interrupt_at_deadline(&mut store);
        let started = limits::run(runtime, &mut store, runtime.call_timeout(), |store| {
            runtime.component().instantiate(store)
        });
        let component = Box::new(started.map_err(Fault::of_the_host_unless_trapped)?);
        Ok(Instance { store, component, runtime: runtime.clone() })
    }

    /// Runs one call. Its clock starts here.
    pub(crate) fn call<T: Send>(
        &mut self,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> wasmtime::Result<T> + Send,
    ) -> Result<T, Fault> {
        let component = &self.component;
        limits::run(&self.runtime, &mut self.store, self.runtime.call_timeout(), |store| {
            call(store, component)
        })
    }

    /// Is it worth keeping for another call?
    pub(crate) fn is_reusable(&self) -> bool {
        self.store.data().limits.memory_used() <= MAX_IDLE_MEMORY
    }

    /// Does this engine stop a guest whose deadline has come? The cheapest export is called with a
    /// deadline of now; without epoch interruption it comes to its end.
    pub(crate) fn stops_at_epoch(runtime: &Runtime) -> Result<bool, Error> {
        const OPERATION: &str = "try out the engine";
        let mut store = store(runtime, None, &Arc::default());
        store.set_epoch_deadline(NEVER);
        let component =
            runtime.component().instantiate(&mut store).map_err(|error| Error::engine(OPERATION, error))?;
        store.set_epoch_deadline(0);
        match component.insomnia_consolidation_staging().call_check(&mut store, &[], None) {
            Ok(_) => Ok(false),
            Err(error) if limits::is_interrupt(&error) => Ok(true),
            Err(error) => Err(Error::engine(OPERATION, error)),
        }
    }
}

fn store(runtime: &Runtime, root: Option<&Root>, peak: &Arc<AtomicUsize>) -> Store<State> {
    let mut store = Store::new(runtime.engine(), State::new(root, runtime.memory_limit(), peak));
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store
}
