//! One instance of the component in its sandbox. Invariant: it reaches one directory, the clocks,
//! randomness and the `process` import, and nothing else; it runs within a memory limit and, in
//! every call, up to a deadline.

use crate::bindings::{Consolidation, ConsolidationPre};
use crate::engine::Runtime;
use crate::error::{Error, Fault};
use std::io;
use std::panic;
use std::path::Path;
use std::thread;
use std::time::Instant;
use wasmtime::component::{Component, HasData, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, Trap, UpdateDeadline};
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
    limiter: Limiter,
    printed: MemoryOutputPipe,
    /// When the call in progress must be over; none if that is further away than the clock goes.
    deadline: Option<Instant>,
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
        State {
            wasi,
            table,
            limiter: Limiter { limit: memory_limit, used: 0, refused: false },
            printed,
            deadline: None,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Holds memory to its limit, and remembers a refusal: the guest's allocator then aborts, which
/// looks like any other trap.
struct Limiter {
    limit: usize,
    used: usize,
    refused: bool,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= self.limit && maximum.is_none_or(|maximum| desired <= maximum);
        if allowed {
            self.used = self.used.max(desired);
        } else {
            self.refused = true;
        }
        Ok(allowed)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = true;
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_INSTANCES
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
        store.epoch_deadline_callback(|context| match context.data().deadline {
            // The epochs may be somebody else's and of any length, so each is only the occasion to
            // look at the clock.
            Some(deadline) if Instant::now() >= deadline => Err(Trap::Interrupt.into()),
            _ => Ok(UpdateDeadline::Continue(1)),
        });
        let component = run(runtime, &mut store, |store| runtime.component().instantiate(store))?;
        Ok(Instance { store, component, runtime: runtime.clone() })
    }

    /// Runs one call. Its clock starts here.
    pub(crate) fn call<T: Send>(
        &mut self,
        call: impl FnOnce(&mut Store<State>, &Consolidation) -> wasmtime::Result<T> + Send,
    ) -> Result<T, Fault> {
        let component = &self.component;
        run(&self.runtime, &mut self.store, |store| call(store, component))
    }

    /// Is it worth keeping for another call?
    pub(crate) fn is_reusable(&self) -> bool {
        self.store.data().limiter.used <= MAX_IDLE_MEMORY
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
            Err(error) if is_interrupt(&error) => Ok(true),
            Err(error) => Err(Error::engine(OPERATION, error)),
        }
    }
}

fn store(runtime: &Runtime, root: Option<&Root>) -> Store<State> {
    let mut store = Store::new(runtime.engine(), State::new(root, runtime.memory_limit()));
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(HOSTCALL_FUEL);
    store
}

fn is_interrupt(error: &wasmtime::Error) -> bool {
    error.downcast_ref() == Some(&Trap::Interrupt)
}

/// Runs guest code up to the runtime's deadline.
fn run<T: Send>(
    runtime: &Runtime,
    store: &mut Store<State>,
    code: impl FnOnce(&mut Store<State>) -> wasmtime::Result<T> + Send,
) -> Result<T, Fault> {
    let _ticking = runtime.tick().map_err(Fault::Host)?;
    let result = outside_of_tokio(|| {
        let state = store.data_mut();
        state.limiter.refused = false;
        state.deadline = Instant::now().checked_add(runtime.call_timeout());
        store.set_epoch_deadline(1);
        code(store)
    })
    .map_err(Fault::Host)?;
    result.map_err(|error| {
        let state = store.data();
        if is_interrupt(&error) {
            Fault::Timeout { after: runtime.call_timeout() }
        } else if state.limiter.refused {
            Fault::OutOfMemory { limit: state.limiter.limit }
        } else {
            Fault::trap(&String::from_utf8_lossy(&state.printed.contents()), error)
        }
    })
}

/// Runs `code`, on a thread of its own if this one belongs to a tokio runtime: WASI's calls block on
/// a runtime themselves, and tokio panics if that is done on one of its workers.
fn outside_of_tokio<T: Send>(code: impl FnOnce() -> T + Send) -> io::Result<T> {
    if tokio::runtime::Handle::try_current().is_err() {
        return Ok(code());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("guest-call".into()).spawn_scoped(scope, code)?;
        match thread.join() {
            Ok(value) => Ok(value),
            Err(panic) => panic::resume_unwind(panic),
        }
    })
}
