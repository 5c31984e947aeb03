//! `files`: several calls of `wasi:filesystem` in one. Invariant: each does what its steps would do, and no
//! more; what it takes of memory is bounded whatever the guest asks for.

use super::filesystem::{Answer, Descriptor, DescriptorType, ErrorCode, answer, descriptor, keep};
use crate::sandbox::State;
use crate::sys::files::{self, Listing, NotCreated};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType, WasmList, WasmStr};

/// The largest file that is read in one call. Entries and records have 1 MiB at the most; the rest is read
/// in parts.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// So many names of a directory are told at once, whatever calls to the kernel they take.
const FEW_NAMES: usize = 64;

#[derive(ComponentType, Lower)]
#[component(variant)]
enum Content {
    #[component(name = "whole")]
    Whole(Vec<u8>),
    #[component(name = "too-large")]
    TooLarge(Vec<u8>),
    #[component(name = "not-a-file")]
    NotAFile(DescriptorType),
}

impl From<files::Content> for Content {
    fn from(content: files::Content) -> Content {
        match content {
            files::Content::Whole(content) => Content::Whole(content),
            files::Content::TooLarge(beginning) => Content::TooLarge(beginning),
            files::Content::NotAFile(kind) => Content::NotAFile(kind.into()),
        }
    }
}

/// The step that failed.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum CreateError {
    #[component(name = "not-created")]
    Create(ErrorCode),
    #[component(name = "not-written")]
    Write(ErrorCode),
    #[component(name = "not-renamed")]
    Rename(ErrorCode),
}

impl From<NotCreated> for CreateError {
    fn from(error: NotCreated) -> CreateError {
        match error {
            NotCreated::NoName(errno) => CreateError::Create(errno.into()),
            NotCreated::NotWhole(errno) => CreateError::Write(errno.into()),
            NotCreated::NotRenamed(errno) => CreateError::Rename(errno.into()),
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Names {
    text: String,
    kinds: Vec<DescriptorType>,
}

/// None if there are none.
fn names(listed: Vec<files::Listed>) -> Option<Names> {
    if listed.is_empty() {
        return None;
    }
    let len = listed.iter().map(|(name, _)| 1 + name.as_ref().map_or(0, String::len)).sum();
    let mut names = Names { text: String::with_capacity(len), kinds: Vec::with_capacity(listed.len()) };
    for (name, kind) in listed {
        names.text.push_str(name.as_deref().unwrap_or_default());
        names.text.push('/');
        names.kinds.push(kind.into());
    }
    Some(names)
}

/// A listing of which there is more.
struct Rest(Listing);

#[derive(ComponentType, Lower)]
#[component(record)]
struct Beginning {
    names: Option<Names>,
    rest: Option<Resource<Rest>>,
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut linked = linker.instance("insomnia:consolidation/files@0.1.0")?;
    // The kernel is asked for a directory (O_DIRECTORY) and looks before it opens.
    linked.func_wrap("refuses-non-directories", |_: StoreContextMut<'_, State>, (): ()| Ok((true,)))?;

    linked.func_wrap(
        "open-nested",
        |mut store: StoreContextMut<'_, State>,
         (directory, name, nested): (Resource<Descriptor>, WasmStr, WasmStr)|
         -> Answer<(Resource<Descriptor>, Resource<Descriptor>)> {
            let within = descriptor(&store, &directory)?;
            match files::open_nested(within, &name.to_str(&store)?, &nested.to_str(&store)?) {
                Ok((directory, nested)) => {
                    let directory = keep(&mut store, Descriptor::opened(directory))?;
                    Ok((Ok((directory, keep(&mut store, Descriptor::opened(nested))?)),))
                }
                Err(errno) => answer(Err(errno)),
            }
        },
    )?;

    linked.func_wrap(
        "read-file",
        |store: StoreContextMut<'_, State>,
         (directory, name, limit): (Resource<Descriptor>, WasmStr, u64)| {
            if limit > MAX_FILE {
                return Ok((Err(ErrorCode::Unsupported),));
            }
            let read = files::read_whole(descriptor(&store, &directory)?, &name.to_str(&store)?, limit);
            answer(read.map(Content::from))
        },
    )?;

    linked.func_wrap(
        "create-file",
        |store: StoreContextMut<'_, State>,
         (directory, name, content, synchronise): (Resource<Descriptor>, WasmStr, WasmList<u8>, bool)| {
            let directory = descriptor(&store, &directory)?;
            let content = content.as_le_slice(&store);
            let created = files::create_whole(directory, &name.to_str(&store)?, content, synchronise);
            Ok((created.map_err(CreateError::from),))
        },
    )?;

    linked.func_wrap(
        "replace-file",
        |store: StoreContextMut<'_, State>,
         (directory, temporary, name, content, synchronise): (
            Resource<Descriptor>,
            WasmStr,
            WasmStr,
            WasmList<u8>,
            bool,
        )| {
            let directory = descriptor(&store, &directory)?;
            let (temporary, name) = (temporary.to_str(&store)?, name.to_str(&store)?);
            let replaced =
                files::replace(directory, &temporary, &name, content.as_le_slice(&store), synchronise);
            Ok((replaced.map_err(CreateError::from),))
        },
    )?;

    linked.resource(
        "listing",
        ResourceType::host::<Rest>(),
        |mut store: StoreContextMut<'_, State>, rep| {
            let wasi = &mut store.data_mut().wasi;
            let Rest(listing) = wasi.table.delete(Resource::<Rest>::new_own(rep))?;
            wasi.listing_buffer = listing.into_buffer();
            Ok(())
        },
    )?;

    linked.func_wrap(
        "list-directory",
        |mut store: StoreContextMut<'_, State>, (directory, twice): (Resource<Descriptor>, bool)| {
            let buffer = std::mem::take(&mut store.data_mut().wasi.listing_buffer);
            let begin = |directory: &Descriptor| {
                let mut listing = directory.list(buffer)?;
                if twice {
                    listing.go_on_from_start();
                }
                let mut first = listing.next_names()?;
                // Whether there are more is known only from another call.
                let mut more = if first.is_empty() { Vec::new() } else { listing.next_names()? };
                while !more.is_empty() && first.len() + more.len() <= FEW_NAMES {
                    first.append(&mut more);
                    more = listing.next_names()?;
                }
                Ok((listing, first, more))
            };
            match begin(store.data().wasi.table.get(&directory)?) {
                Ok((mut listing, first, more)) => {
                    let rest = if more.is_empty() {
                        store.data_mut().wasi.listing_buffer = listing.into_buffer();
                        None
                    } else {
                        listing.put_back(more);
                        Some(keep(&mut store, Rest(listing))?)
                    };
                    Ok((Ok(Beginning { names: names(first), rest }),))
                }
                Err(errno) => answer(Err(errno)),
            }
        },
    )?;

    linked.func_wrap(
        "[method]listing.next",
        |mut store: StoreContextMut<'_, State>, (listing,): (Resource<Rest>,)| {
            let Rest(listing) = store.data_mut().wasi.table.get_mut(&listing)?;
            answer(listing.next_names().map(names))
        },
    )?;
    Ok(())
}
