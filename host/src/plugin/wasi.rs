//! What a plugin sees of WASI. Invariant: what it can reach is what was granted; the interfaces that every
//! standard library links are there and empty, and any other traps when it is called and says so.

use super::Grant;
use super::log::Printed;
use super::sandbox::State;
use std::fmt;
use std::time::Duration;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker, Resource, ResourceTable, ResourceType};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, random, sync};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::{Deterministic, WasiCtx, WasiCtxBuilder};

/// Every plugin has these, in their versions 0.2: with nothing in them.
const ALWAYS: [&str; 16] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:random/insecure",
];
const SEED: &str = "wasi:random/insecure-seed";
const RANDOM: &str = "wasi:random/random";
const WALL_CLOCK: &str = "wasi:clocks/wall-clock";
const MONOTONIC_CLOCK: &str = "wasi:clocks/monotonic-clock";

/// What is permitted at a time to be written to a standard stream.
const WRITE_PERMIT: usize = 64 << 10;

/// What the seed and `insecure` give without randomness.
const FIXED: u64 = 0x696e_736f_6d6e_6961;

/// The environment, the streams and the randomness of an instance.
pub(super) fn context(grants: &[Grant], stdout: &Printed, stderr: &Printed) -> WasiCtx {
    let mut builder = WasiCtxBuilder::new();
    // Nothing of this is linked; denied all the same, should a default ever change.
    builder.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
    builder.stdout(stdout.clone()).stderr(stderr.clone());
    if !grants.contains(&Grant::Random) {
        builder.insecure_random(Deterministic::new(FIXED.to_be_bytes().to_vec()));
        builder.insecure_random_seed(u128::from(FIXED));
    }
    for grant in grants {
        if let Grant::Env(name) = grant
            && let Ok(value) = std::env::var(name)
        {
            builder.env(name, value);
        }
    }
    builder.build()
}

/// A linker with WASI as this component may use it. Imports outside of WASI are not its business.
pub(super) fn linker(
    engine: &Engine,
    component: &Component,
    grants: &[Grant],
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine);
    let to = &mut linker;
    cli::environment::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::exit::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::stdin::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::stdout::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::stderr::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(to, cli_view)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(to, cli_view)?;
    sync::io::error::add_to_linker::<State, Table>(to, table)?;
    sync::io::poll::add_to_linker::<State, Table>(to, table)?;
    sync::io::streams::add_to_linker::<State, Table>(to, table)?;
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(to, filesystem_view)?;
    sync::filesystem::types::add_to_linker::<State, WasiFilesystem>(to, filesystem_view)?;
    random::insecure::add_to_linker::<State, WasiRandom>(to, random_context)?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(to, random_context)?;
    let mut present: Vec<&str> = ALWAYS.to_vec();
    present.push(SEED);
    if grants.contains(&Grant::Random) {
        random::random::add_to_linker::<State, WasiRandom>(to, random_context)?;
        present.push(RANDOM);
    }
    if grants.contains(&Grant::Clock) {
        clocks::wall_clock::add_to_linker::<State, WasiClocks>(to, clocks_view)?;
        clocks::monotonic_clock::add_to_linker::<State, Timers>(to, timers)?;
        present.extend([WALL_CLOCK, MONOTONIC_CLOCK]);
    }
    deny_the_rest(to, component, engine, &present)?;
    Ok(linker)
}

/// Is it an interface of WASI?
pub(super) fn is_wasi(import: &str) -> bool {
    import.starts_with("wasi:")
}

/// Gives the component a function that traps for each of WASI that it imports and does not have.
fn deny_the_rest(
    linker: &mut Linker<State>,
    component: &Component,
    engine: &Engine,
    present: &[&str],
) -> wasmtime::Result<()> {
    // A resource is defined by the interface that introduces it, which comes first; to define it for
    // those that only use it would make it another one.
    let mut introduced: Vec<ResourceType> = Vec::new();
    for (import, item) in component.component_type().imports(engine) {
        let (name, version) = import.split_once('@').unwrap_or((import, ""));
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        let is_denied = is_wasi(import) && !(present.contains(&name) && version.starts_with("0.2."));
        let grant = match name {
            RANDOM => Some(Grant::Random),
            WALL_CLOCK | MONOTONIC_CLOCK => Some(Grant::Clock),
            _ => None,
        };
        for (export, item) in interface.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(_) if is_denied => {
                    let denial = Denial {
                        import: import.to_owned(),
                        function: export.to_owned(),
                        grant: grant.clone(),
                    };
                    linker
                        .instance(import)?
                        .func_new(export, move |_, _, _, _| Err(wasmtime::Error::new(denial.clone())))?;
                }
                ComponentItem::Resource(resource) if !introduced.contains(&resource) => {
                    introduced.push(resource);
                    if is_denied {
                        linker.instance(import)?.resource(
                            export,
                            ResourceType::host::<Denial>(),
                            |_, _| Ok(()),
                        )?;
                    }
                }
                _ => {}
            }
        }
        // One that has only types, or none.
        if is_denied {
            linker.instance(import)?;
        }
    }
    Ok(())
}

/// A call of what was not granted.
#[derive(Clone, Debug)]
struct Denial {
    import: String,
    function: String,
    grant: Option<Grant>,
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "it called {} of {}, which ", self.function, self.import)?;
        match &self.grant {
            Some(grant) => write!(formatter, "is not granted; grant it with `--grant {grant}`"),
            None => formatter.write_str("no plugin gets"),
        }
    }
}

impl std::error::Error for Denial {}

/// The monotonic clock. Its timers end at the deadline of the call at the latest: nothing interrupts a
/// plugin that waits in the host.
struct Timers;

impl HasData for Timers {
    type Data<'a> = TimersView<'a>;
}

struct TimersView<'a> {
    clocks: WasiClocksCtxView<'a>,
    left: Option<Duration>,
}

impl TimersView<'_> {
    fn cap(&self, nanos: u64) -> u64 {
        let left = self.left.map_or(u64::MAX, |left| u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        nanos.min(left)
    }
}

impl monotonic_clock::Host for TimersView<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        self.clocks.now()
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        monotonic_clock::Host::resolution(&mut self.clocks)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = self.now()?;
        self.subscribe_duration(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, nanos: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let nanos = self.cap(nanos);
        self.clocks.subscribe_duration(nanos)
    }
}

struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(state: &mut State) -> &mut ResourceTable {
    &mut state.table
}

fn cli_view(state: &mut State) -> WasiCliCtxView<'_> {
    WasiCliCtxView { ctx: state.wasi.cli(), table: &mut state.table }
}

fn clocks_view(state: &mut State) -> WasiClocksCtxView<'_> {
    WasiClocksCtxView { ctx: state.wasi.clocks(), table: &mut state.table }
}

fn timers(state: &mut State) -> TimersView<'_> {
    let left = state.limits.time_left();
    TimersView { clocks: clocks_view(state), left }
}

fn filesystem_view(state: &mut State) -> WasiFilesystemCtxView<'_> {
    WasiFilesystemCtxView { ctx: state.wasi.filesystem(), table: &mut state.table }
}

fn random_context(state: &mut State) -> &mut WasiRandomCtx {
    state.wasi.random()
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for it, and that is not linked.
        MemoryOutputPipe::new(0).async_stream()
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        Printed::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_PERMIT)
    }
}
