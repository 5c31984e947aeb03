//! What the start-up code of a standard library asks for: `wasi:cli` and the output streams of `wasi:io`.
//! Invariant: there is nothing in any of it. Output goes nowhere, but that the last words on standard
//! error are kept for the message of a trap; to exit is to trap.

use super::clocks::Pollable;
use crate::sandbox::State;
use std::collections::VecDeque;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Lift, Linker, Lower, Resource, ResourceTable, ResourceType, WasmList,
};

/// How much of what the guest prints is kept. It prints only when it panics.
const MAX_PRINTED: usize = 4096;
/// What is permitted at a time to be written to a stream.
const WRITE_PERMIT: u64 = 64 * 1024;

/// The last words of a guest.
#[derive(Default)]
pub(super) struct Printed(VecDeque<u8>);

impl Printed {
    fn add(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(MAX_PRINTED)..];
        let over = (self.0.len() + bytes.len()).saturating_sub(MAX_PRINTED);
        self.0.drain(..over);
        self.0.extend(bytes);
    }

    pub(super) fn text(&self) -> String {
        let (head, tail) = self.0.as_slices();
        String::from_utf8_lossy(&[head, tail].concat()).into_owned()
    }
}

/// `wasi:io/streams.output-stream`.
enum Output {
    Discarded,
    Kept,
}

/// `wasi:io/streams.input-stream`, at its end.
struct Input;

/// `wasi:io/error.error`. There are none.
struct IoError;

/// `wasi:io/streams.stream-error`.
#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

struct TerminalInput;
struct TerminalOutput;

type Written<T> = wasmtime::Result<(Result<T, StreamError>,)>;

fn table(state: &mut State) -> &mut ResourceTable {
    &mut state.wasi.table
}

fn write(
    mut store: StoreContextMut<'_, State>,
    (stream, bytes): (Resource<Output>, WasmList<u8>),
) -> Written<()> {
    if let Output::Kept = store.data().wasi.table.get(&stream)? {
        // More than is kept is not copied either.
        let bytes = bytes.as_le_slice(&store);
        let last = bytes[bytes.len().saturating_sub(MAX_PRINTED)..].to_vec();
        store.data_mut().wasi.printed.add(&last);
    }
    Ok((Ok(()),))
}

fn flush(store: StoreContextMut<'_, State>, (stream,): (Resource<Output>,)) -> Written<()> {
    store.data().wasi.table.get(&stream)?;
    Ok((Ok(()),))
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    super::drops::<IoError>(&mut linker.instance("wasi:io/error@0.2.0")?, "error", table)?;

    let mut streams = linker.instance("wasi:io/streams@0.2.0")?;
    super::drops::<Input>(&mut streams, "input-stream", table)?;
    super::drops::<Output>(&mut streams, "output-stream", table)?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |store: StoreContextMut<'_, State>, (stream,): (Resource<Output>,)| -> Written<u64> {
            store.data().wasi.table.get(&stream)?;
            Ok((Ok(WRITE_PERMIT),))
        },
    )?;
    streams.func_wrap("[method]output-stream.write", write)?;
    streams.func_wrap("[method]output-stream.blocking-write-and-flush", write)?;
    streams.func_wrap("[method]output-stream.flush", flush)?;
    streams.func_wrap("[method]output-stream.blocking-flush", flush)?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |mut store: StoreContextMut<'_, State>, (stream,): (Resource<Output>,)| {
            store.data().wasi.table.get(&stream)?;
            Ok((store.data_mut().wasi.table.push(Pollable(None))?,))
        },
    )?;

    let mut environment = linker.instance("wasi:cli/environment@0.2.0")?;
    environment.func_wrap("get-environment", |_: StoreContextMut<'_, State>, (): ()| {
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment
        .func_wrap("get-arguments", |_: StoreContextMut<'_, State>, (): ()| Ok((Vec::<String>::new(),)))?;
    environment.func_wrap("initial-cwd", |_: StoreContextMut<'_, State>, (): ()| Ok((None::<String>,)))?;

    linker.instance("wasi:cli/exit@0.2.0")?.func_wrap(
        "exit",
        |_: StoreContextMut<'_, State>, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
            let how = if status.is_ok() { "success" } else { "failure" };
            Err(wasmtime::format_err!("the guest asked to exit, with {how}"))
        },
    )?;

    linker
        .instance("wasi:cli/stdin@0.2.0")?
        .func_wrap("get-stdin", |mut store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data_mut().wasi.table.push(Input)?,))
        })?;
    linker.instance("wasi:cli/stdout@0.2.0")?.func_wrap(
        "get-stdout",
        |mut store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data_mut().wasi.table.push(Output::Discarded)?,))
        },
    )?;
    linker.instance("wasi:cli/stderr@0.2.0")?.func_wrap(
        "get-stderr",
        |mut store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data_mut().wasi.table.push(Output::Kept)?,))
        },
    )?;

    linker.instance("wasi:cli/terminal-input@0.2.0")?.resource(
        "terminal-input",
        ResourceType::host::<TerminalInput>(),
        |_, _| Ok(()),
    )?;
    linker.instance("wasi:cli/terminal-output@0.2.0")?.resource(
        "terminal-output",
        ResourceType::host::<TerminalOutput>(),
        |_, _| Ok(()),
    )?;
    linker
        .instance("wasi:cli/terminal-stdin@0.2.0")?
        .func_wrap("get-terminal-stdin", |_: StoreContextMut<'_, State>, (): ()| {
            Ok((None::<Resource<TerminalInput>>,))
        })?;
    for (interface, function) in [
        ("wasi:cli/terminal-stdout@0.2.0", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr@0.2.0", "get-terminal-stderr"),
    ] {
        linker.instance(interface)?.func_wrap(function, |_: StoreContextMut<'_, State>, (): ()| {
            Ok((None::<Resource<TerminalOutput>>,))
        })?;
    }
    Ok(())
}
