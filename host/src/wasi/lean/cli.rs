//! Standard error, for what a guest says when it panics. Invariant: it goes nowhere, but that the last
//! words are kept for the message of a trap.

use crate::sandbox::State;
use std::collections::VecDeque;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceTable, WasmList};

/// How much of what the guest prints is kept. It prints only when it panics.
const MAX_PRINTED: usize = 4096;

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
struct Output;

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

type Written<T> = wasmtime::Result<(Result<T, StreamError>,)>;

fn table(state: &mut State) -> &mut ResourceTable {
    &mut state.wasi.table
}

fn write(
    mut store: StoreContextMut<'_, State>,
    (stream, bytes): (Resource<Output>, WasmList<u8>),
) -> Written<()> {
    store.data().wasi.table.get(&stream)?;
    // More than is kept is not copied either.
    let bytes = bytes.as_le_slice(&store);
    let last = bytes[bytes.len().saturating_sub(MAX_PRINTED)..].to_vec();
    store.data_mut().wasi.printed.add(&last);
    Ok((Ok(()),))
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    super::drops::<IoError>(&mut linker.instance("wasi:io/error@0.2.0")?, "error", table)?;

    let mut streams = linker.instance("wasi:io/streams@0.2.0")?;
    super::drops::<Output>(&mut streams, "output-stream", table)?;
    streams.func_wrap("[method]output-stream.blocking-write-and-flush", write)?;

    linker
        .instance("wasi:cli/stderr@0.2.0")?
        .func_wrap("get-stderr", |mut store: StoreContextMut<'_, State>, (): ()| {
            Ok((store.data_mut().wasi.table.push(Output)?,))
        })
}
