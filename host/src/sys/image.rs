//! Loading machine code that was compiled ahead of time. Invariant: what is loaded is what a
//! `precompile_component` returned; memory that is executable is not writable.
//!
//! On Linux the shipped image runs where the program's file is mapped: what no call needs is never read
//! into memory, and processes share the rest. It does so once in a process, because wasmtime keeps a list of
//! all code by its address. Further runtimes, other systems and engines that were not made for it get a
//! copy.

#![allow(unsafe_code, reason = "wasmtime runs the image's machine code without checking it")]

use std::sync::atomic::{AtomicBool, Ordering};
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

/// An image, on pages of its own.
#[repr(C, align(4096))]
pub(crate) struct Image<B: ?Sized = [u8]>(pub(crate) B);

/// Does, or did, a component run in place?
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Loads an image that the build script made. The engine refuses it if its wasmtime version or its
/// settings are not those it was compiled with.
pub(crate) fn load(engine: &Engine, image: &'static Image) -> wasmtime::Result<Component> {
    // SAFETY: both functions ask for bytes that `Engine::precompile_component` returned and nobody changed
    // since. The only caller passes constants that this package's build script embedded, straight from
    // `precompile_component` of the same wasmtime version; the functions themselves check the version, the
    // target and the settings. `deserialize_raw` also asks that they live as long as the component and stay
    // as they are: they are constants in read-only memory.
    unsafe {
        if IN_PLACE && !TAKEN.swap(true, Ordering::Relaxed) {
            match Component::deserialize_raw(engine, (&image.0).into()) {
                Ok(component) => return Ok(component),
                Err(_) => TAKEN.store(false, Ordering::Relaxed),
            }
        }
        Component::deserialize(engine, &image.0)
    }
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

pub(crate) use in_place::{IN_PLACE, allow_in_place};

/// Pages of x86-64 have 4 KiB, and its instructions need no mark to be jumped to.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod in_place {
    use super::Config;
    use rustix::mm::{MprotectFlags, mprotect};
    use std::sync::Arc;
    use wasmtime::CustomCodeMemory;

    pub(crate) const IN_PLACE: bool = true;

    /// Has an engine run code in memory that wasmtime did not map.
    pub(crate) fn allow_in_place(config: &mut Config) {
        config.with_custom_code_memory(Some(Arc::new(Pages)));
    }

    /// Code in whole pages, be they of the program's file or mapped by wasmtime.
    struct Pages;

    impl CustomCodeMemory for Pages {
        fn required_alignment(&self) -> usize {
            4096
        }

        fn publish_executable(&self, start: *const u8, len: usize) -> wasmtime::Result<()> {
            let flags = MprotectFlags::READ | MprotectFlags::EXEC;
            // SAFETY: wasmtime passes whole pages of an image's code, which nothing else lies on: of a
            // constant that is aligned to pages, or of a mapping of its own. They become readable and not
            // writable, so that shared references to them stay valid, and nobody writes to them after that.
            unsafe { mprotect(start.cast_mut().cast(), len, flags) }?;
            Ok(())
        }

        /// Called when an engine has done with a component, and for nothing else: debuggers, which edit code,
        /// are not built in. Pages of the program's file may stay as they are, and those of a mapping are
        /// about to go with it.
        fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
            Ok(())
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod in_place {
    use super::Config;

    pub(crate) const IN_PLACE: bool = false;

    pub(crate) fn allow_in_place(_: &mut Config) {}
}
