//! Loading machine code that was compiled ahead of time.

#![allow(unsafe_code, reason = "wasmtime runs the image's machine code without checking it")]

use wasmtime::Engine;
use wasmtime::component::Component;

/// Loads the image that the build script made. The engine refuses it if its wasmtime version or its
/// settings are not those it was compiled with.
pub(crate) fn load(engine: &Engine, image: &'static [u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks for bytes that `Engine::precompile_component` returned and nobody
    // changed since. The only caller passes the constant that this package's build script embedded,
    // straight from `precompile_component` of the same wasmtime version; `deserialize` itself checks
    // the version, the target and the settings.
    unsafe { Component::deserialize(engine, image) }
}

/// Loads an image that an earlier process made of a plugin and kept in a file. The engine refuses it if
/// its wasmtime version or its settings are others.
#[cfg(all(feature = "compile", feature = "plugins"))]
pub(crate) fn load_kept(engine: &Engine, image: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks for bytes that `Engine::precompile_component` returned and nobody
    // changed since. The only caller, `plugin::cache`, passes what it wrote itself: the directory and the
    // file belong to this user and nobody else can write to them, and the image has the digest that was
    // written with it, so that it is whole. `deserialize` itself checks the version, the target and the
    // settings.
    unsafe { Component::deserialize(engine, image) }
}
