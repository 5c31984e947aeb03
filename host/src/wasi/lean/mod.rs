//! The part of WASI 0.2 that the component uses, on plain system calls. Invariant: no call waits for
//! anything but the file system, and for the time that the guest asks for, up to its deadline.
//!
//! The component makes some fifteen different calls, all of them short, and names one path component at a
//! time. Interfaces are linked as 0.2.0; wasmtime gives them to imports of any version 0.2.

mod cli;
mod clocks;
mod compound;
mod filesystem;

use crate::sandbox::State;
use crate::sys::files::{self, ListingBuffer};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceTable, ResourceType};

/// The guest's name for the workspace root.
const GUEST_ROOT: &str = ".";
/// Descriptors, directory streams and the like that are open at the same time.
const MAX_RESOURCES: usize = 1024;

/// A directory that was opened for the sandbox. Every instance of a workspace gets the same open
/// handle, so that it stays the same directory when its path is renamed or mounted over.
#[derive(Clone)]
pub(crate) struct Root(Arc<OwnedFd>);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Root> {
        files::open_directory(path).map(|fd| Root(Arc::new(fd)))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What belongs to one instance.
pub(crate) struct Wasi {
    root: Option<Root>,
    table: ResourceTable,
    /// That of the last listing.
    listing_buffer: ListingBuffer,
    printed: cli::Printed,
}

impl Wasi {
    pub(crate) fn new(root: Option<&Root>) -> Wasi {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        Wasi {
            root: root.cloned(),
            table,
            listing_buffer: ListingBuffer::default(),
            printed: cli::Printed::default(),
        }
    }

    /// What the guest printed, as far as it was kept.
    pub(crate) fn printed(&self) -> String {
        self.printed.text()
    }
}

/// Gives the component its imports of WASI and `files`.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    filesystem::add_to_linker(linker)?;
    compound::add_to_linker(linker)?;
    clocks::add_to_linker(linker)?;
    cli::add_to_linker(linker)
}

/// A resource that is in the table until the guest drops it.
fn drops<T: Send + 'static>(
    instance: &mut LinkerInstance<'_, State>,
    name: &str,
    table: fn(&mut State) -> &mut ResourceTable,
) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), move |mut store, rep| {
        table(store.data_mut()).delete(Resource::<T>::new_own(rep))?;
        Ok(())
    })
}
