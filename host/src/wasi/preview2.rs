//! The whole of WASI 0.2 as wasmtime does it, where this crate's own part does not work. Invariant: as in
//! the other one; only what a Rust standard library without network imports is linked.

use crate::sandbox::State;
use std::io;
use std::path::Path;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, HasData, Linker, Lower, Resource, ResourceTable, ResourceType, Val, WasmList, WasmStr,
};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{Descriptor, ErrorCode};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The guest's name for the workspace root.
const GUEST_ROOT: &str = ".";
/// Descriptors, directory streams and the like that are open at the same time.
const MAX_RESOURCES: usize = 1024;
/// How much of what the guest prints is kept. It prints only when it panics.
const MAX_PRINTED: usize = 4096;

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
pub(crate) struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    printed: MemoryOutputPipe,
}

impl Wasi {
    pub(crate) fn new(root: Option<&Root>) -> Wasi {
        let printed = MemoryOutputPipe::new(MAX_PRINTED);
        let mut builder = WasiCtxBuilder::new();
        // Nothing of this is linked; denied all the same, should a default ever change.
        builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        builder.stderr(printed.clone());
        let mut context = builder.build();
        if let Some(root) = root {
            *context.filesystem() = root.0.clone();
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Wasi { context, table, printed }
    }

    /// What the guest printed, as far as it was kept.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.printed.contents()).into_owned()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi.context, table: &mut self.wasi.table }
    }
}

/// The step that failed: always the first, for there is none here.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "the type has the cases that WIT gives it")]
enum CreateError {
    #[component(name = "not-created")]
    Create(ErrorCode),
    #[component(name = "not-written")]
    Write(ErrorCode),
    #[component(name = "not-renamed")]
    Rename(ErrorCode),
}

/// What a host answers that can't do several calls in one: the component takes the steps itself.
fn add_files_to_linker(to: &mut Linker<State>) -> wasmtime::Result<()> {
    enum Listing {}

    let mut files = to.instance("insomnia:consolidation/files@0.1.0")?;
    // Files and directories are opened alike and looked at afterwards.
    files.func_wrap("refuses-non-directories", |_: StoreContextMut<'_, State>, (): ()| Ok((false,)))?;
    files.func_new("open-nested", |store, _, lent, results| {
        give_back(store, lent)?;
        unsupported(results)
    })?;
    files.func_new("read-file", |store, _, lent, results| {
        give_back(store, lent)?;
        unsupported(results)
    })?;
    // With types: a large content would be a value for each byte otherwise.
    files.func_wrap(
        "create-file",
        |_: StoreContextMut<'_, State>, _: (Resource<Descriptor>, WasmStr, WasmList<u8>, bool)| {
            Ok((Err::<(), _>(CreateError::Create(ErrorCode::Unsupported)),))
        },
    )?;
    files.func_wrap(
        "replace-file",
        |_: StoreContextMut<'_, State>, _: (Resource<Descriptor>, WasmStr, WasmStr, WasmList<u8>, bool)| {
            Ok((Err::<(), _>(CreateError::Create(ErrorCode::Unsupported)),))
        },
    )?;
    files.resource("listing", ResourceType::host::<Listing>(), |_, _| Ok(()))?;
    files.func_new("list-directory", |store, _, lent, results| {
        give_back(store, lent)?;
        unsupported(results)
    })?;
    files.func_new("[method]listing.next", |store, _, lent, results| {
        give_back(store, lent)?;
        unsupported(results)
    })
}

/// A handle that was lent must be given back before the call ends.
fn give_back(mut store: StoreContextMut<'_, State>, lent: &[Val]) -> wasmtime::Result<()> {
    for value in lent {
        if let Val::Resource(resource) = value {
            resource.resource_drop(&mut store)?;
        }
    }
    Ok(())
}

fn unsupported(results: &mut [Val]) -> wasmtime::Result<()> {
    results[0] = Val::Result(Err(Some(Box::new(Val::Enum("unsupported".into())))));
    Ok(())
}

/// Gives the component its imports of WASI and `files`. `wasi:sockets` is not among them.
pub(crate) fn add_to_linker(to: &mut Linker<State>) -> wasmtime::Result<()> {
    struct Table;
    impl HasData for Table {
        type Data<'a> = &'a mut ResourceTable;
    }
    fn table(state: &mut State) -> &mut ResourceTable {
        &mut state.wasi.table
    }

    add_files_to_linker(to)?;
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
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(to, State::cli)
}
