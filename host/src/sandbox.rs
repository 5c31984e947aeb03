//! One instance of the component in its sandbox. Invariant: it reaches one directory, the clocks,
//! randomness and the `process` import, and nothing else; it runs within a memory limit and, in
//! every call, up to a deadline.

pub(crate) mod limits;

use crate::bindings::{Consolidation, ConsolidationPre};
use crate::engine::Runtime;
use crate::error::{Error, Fault};
use limits::{Limited, Limits};
use std::io;
use std::path::Path;
use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The guest's name for the workspace root.
const GUEST_ROOT: &str = ".";
/// Core instances, tables and memories: the component has one of its own code and a few that adapt
/// its imports.
const MAX_INSTANCES: usize = 32;
/// Functions are the only thing in its tables, and they don't grow at run time.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Descriptors, directory streams and the like that are open at the same time.
const MAX_RESOURCES: usize = 1024;
/// How many bytes one call may move from the guest to the host: a file's content, or a result. The
/// longest results are lists of ids, at 60 bytes each, and batches, whose size the caller picks.
const HOSTCALL_FUEL: usize = 256 << 20;
/// How much of what the guest prints is kept. It prints only when it panics.
const MAX_PRINTED: usize = 4096;
/// A wasm memory never shrinks, so an instance that grew beyond this is not kept for the next call.
const MAX_IDLE_MEMORY: usize = 32 << 20;
/// Beyond the epochs of any clock, and far from overflowing when the present epoch is added.
const NEVER: u64 = 1 << 60;

/// A directory that was opened for the sandbox. Every instance of a workspace gets the same open
/// handle, so that it stays the same directory when its path is renamed or mounted over.
#[derive(Clone)]
pub(crate) struct Root(WasiFilesystemCtx);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        let mut builder = WasiCtxBuilder::new();
        // Counts only for directories that are preopened after it.
        builder.allow_blocking_current_thread(true);
        builder.preopened_dir(path, GUEST_ROOT, FsPerms::ReadWrite).map_err(|error| {
            match error.downcast::<io::Error>() {
                Ok(error) => error,
                Err(error) => io::Error::other(error.to_string()),
            }
        })?;
        Ok(Root(builder.build().filesystem().clone()))
    }
}

/// What belongs to one instance.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    limits: Limits,
    printed: MemoryOutputPipe,
}

impl State {
    fn new(root: Option<&Root>, memory_limit: usize) -> State {
        let printed = MemoryOutputPipe::new(MAX_PRINTED);
        let mut builder = WasiCtxBuilder::new();
        // Nothing of this is linked; denied all the same, should a default ever change.
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        builder.stderr(printed.clone());
        let mut wasi = builder.build();
        if let Some(root) = root {
            *wasi.filesystem() = root.0.clone();
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        State { wasi, table, limits: Limits::new(memory_limit, MAX_INSTANCES, MAX_TABLE_ELEMENTS), printed }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Limited for State {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
    }

    fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.contents()).into_owned()
    }
}

/// Gives the component its imports: those of WASI that a Rust standard library without network has,
/// and `process`. `wasi:sockets` is not among them.
pub(crate) fn link(engine: &Engine, component: &Component) -> wasmtime::Result<ConsolidationPre<State>> {
    struct Table;
    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }
    fn table(state: &mut State) -> &mut ResourceTable {
        &mut state.table
    }

    let mut linker = Linker::<State>::new(engine);
    let to = &mut linker;
    sync::io::error::add_to_linker::<State, Table>(to, table)?;
    sync::io::poll::add_to_linker::<State, Table>(to, table)?;
    sync::io::streams::add_to_linker::<State, Table>(to, table)?;
    clocks::wall_clock::add_to_linker::<State, WasiClocks>(to, State::clocks)?;
    clocks::monotonic_clock::add_to_linker::<State, WasiClocks>(to, State::clocks)?;
    random::random::add_to_linker::<State, WasiRandom>(to, State::random)?;
    random::insecure::add_to_linker::<State, WasiRandom>(to, State::random)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(to, State::random)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(to, State::filesystem)?;
    sync::filesystem::types::add_to_linker::<State, WasiFilesystem>(to, State::filesystem)?;
    cli::environment::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(to, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(to, State::cli)?;
    Consolidation::add_to_linker::<State, HasSelf<State>>(to, |state| state)?;
    ConsolidationPre::new(linker.instantiate_pre(component)?)
}

/// A running component. After a [`Fault`] it must be dropped: wasmtime does not let anyone enter an
/// instance that trapped.
pub(crate) struct Instance {
    store: Store<State>,
    component: Consolidation,
    runtime: Runtime,
}

impl Instance {
    pub(crate) fn new(runtime: &Runtime, root: &Root) -> Result<Instance, Fault> {
        let mut store = store(runtime, Some(root));
        limits::interrupt_at_deadline(&mut store);
        let component = limits::run(runtime, &mut store, runtime.call_timeout(), |store| {
            runtime.component().instantiate(store)
        })?;
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
        let mut store = store(runtime, None);
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

fn store(runtime: &Runtime, root: Option<&Root>) -> Store<State> {
    let mut store = Store::new(runtime.engine(), State::new(root, runtime.memory_limit()));
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store
}
