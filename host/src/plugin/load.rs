//! From the bytes of a file to a plugin that is compiled, checked and linked. Invariant: no code of it has
//! run yet; what is refused is refused with a reason that its author can act on.

#[cfg(feature = "compile")]
use super::cache::Cache;
use super::sandbox::State;
use super::world::{self, Built, World};
use super::{PluginError, PluginOptions, clip, wasi};
use crate::error::causes;
#[cfg(feature = "compile")]
use crate::error::{limited, system_error};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use wasmtime::Engine;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};

/// A larger file is no plugin; components of interpreted languages have some tens of megabytes.
const MAX_BYTES: u64 = 256 << 20;
/// How a component begins: the magic number, and the version of the format with the layer "component".
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MAGIC: &[u8] = b"\0asm";
/// How many exports a message names.
const MAX_NAMED: usize = 5;
/// How much of a name or of wasmtime's reason a message shows, in characters.
const MAX_NAME: usize = 128;
const MAX_REASON: usize = 1000;

/// Reads the file of a plugin.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at by its name, too: opening a pipe waits for a writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Compiles a plugin, or takes it from the cache, checks what it was built for and what it imports, and
/// links it.
pub(super) fn world(
    engine: &Engine,
    file: &str,
    bytes: &[u8],
    options: &PluginOptions,
) -> Result<World, PluginError> {
    if !bytes.starts_with(COMPONENT) {
        let reason = match bytes {
            [] => "it is empty",
            _ if bytes.starts_with(MAGIC) => "it is a core WebAssembly module and no component",
            _ => "it is no WebAssembly",
        };
        return Err(PluginError::NotAComponent { file: file.to_owned(), reason: reason.into() });
    }
    let component = compile(engine, file, bytes, options)?;
    check_exports(engine, file, &component)?;
    check_imports(engine, file, &component)?;
    link(engine, &component, options)
        .map_err(|error| PluginError::Link { file: file.to_owned(), reason: reason(&error) })
}

#[cfg(feature = "compile")]
fn compile(
    engine: &Engine,
    file: &str,
    bytes: &[u8],
    options: &PluginOptions,
) -> Result<Component, PluginError> {
    let compiled = match &options.cache {
        Some(directory) => Cache::new(directory).component(engine, bytes),
        None => Component::from_binary(engine, bytes),
    };
    compiled.map_err(|error| match system_error(error.as_ref()) {
        // What is refused to the compiler says nothing of the plugin.
        Some(_) => PluginError::Host { file: file.to_owned(), reason: limited(reason(&error)) },
        None => PluginError::Compile { file: file.to_owned(), reason: reason(&error) },
    })
}

#[cfg(not(feature = "compile"))]
fn compile(_: &Engine, file: &str, _: &[u8], _: &PluginOptions) -> Result<Component, PluginError> {
    Err(PluginError::NoCompiler { file: file.to_owned() })
}

fn check_exports(engine: &Engine, file: &str, component: &Component) -> Result<(), PluginError> {
    let ty = component.component_type();
    let names: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    match Built::of(names.iter().copied()) {
        Built::V0_1 => Ok(()),
        Built::For(built_for) => {
            Err(PluginError::Version { file: file.to_owned(), built_for: clip(&built_for, MAX_NAME) })
        }
        Built::No => {
            let mut named: Vec<String> =
                names.iter().take(MAX_NAMED).map(|name| clip(name, MAX_NAME)).collect();
            if names.len() > MAX_NAMED {
                named.push("…".into());
            }
            let exports = match &named[..] {
                [] => "it exports nothing".to_owned(),
                _ => format!("it exports {}", named.join(", ")),
            };
            Err(PluginError::NotAPlugin { file: file.to_owned(), exports })
        }
    }
}

fn check_imports(engine: &Engine, file: &str, component: &Component) -> Result<(), PluginError> {
    for (import, item) in component.component_type().imports(engine) {
        let (name, version) = import.split_once('@').unwrap_or((import, ""));
        let is_interface = matches!(item.ty, ComponentItem::ComponentInstance(_));
        if !is_interface || !(wasi::is_wasi(import) || world::is_provided(name, version)) {
            return Err(PluginError::Import { file: file.to_owned(), import: clip(import, MAX_NAME) });
        }
    }
    Ok(())
}

fn link(engine: &Engine, component: &Component, options: &PluginOptions) -> wasmtime::Result<World> {
    let linker: Linker<State> = wasi::linker(engine, component, &options.grants)?;
    World::link(linker, component)
}

fn reason(error: &wasmtime::Error) -> String {
    clip(&causes(error.as_ref()), MAX_REASON)
}
