//! `wasi:filesystem`, as far as the component uses it. Invariant: what a guest names is in the directory
//! that it has a descriptor of; a descriptor is closed when the guest drops it or its store is dropped.
//!
//! A descriptor here does not know whether it is a file's or a directory's: the kernel does, and says so
//! when the wrong thing is done with it. That saves a look at every file that is opened.

use super::Root;
use crate::sandbox::State;
use crate::sys::files::{self, How, Listing, ListingBuffer};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    ComponentType, Linker, Lower, Resource, ResourceTable, ResourceType, WasmList, WasmStr, flags,
};

/// How much one read gives at the most.
const MAX_READ: u64 = 64 * 1024;

/// An open file or directory.
pub(crate) enum Descriptor {
    Root(Root),
    Opened(Arc<OwnedFd>),
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Descriptor::Root(root) => root.as_fd(),
            Descriptor::Opened(fd) => fd.as_fd(),
        }
    }
}

impl Descriptor {
    pub(super) fn opened(fd: OwnedFd) -> Descriptor {
        Descriptor::Opened(Arc::new(fd))
    }

    pub(super) fn list(&self, buffer: ListingBuffer) -> files::Result<Listing> {
        match self {
            Descriptor::Root(Root(fd)) | Descriptor::Opened(fd) => Listing::new(fd, buffer),
        }
    }
}

// The types of the interface, with their cases in its order: WASI 0.2, `wasi:filesystem/types`.

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(super) enum DescriptorType {
    #[component(name = "unknown")]
    Unknown,
    #[component(name = "block-device")]
    BlockDevice,
    #[component(name = "character-device")]
    CharacterDevice,
    #[component(name = "directory")]
    Directory,
    #[component(name = "fifo")]
    Fifo,
    #[component(name = "symbolic-link")]
    SymbolicLink,
    #[component(name = "regular-file")]
    RegularFile,
    #[component(name = "socket")]
    Socket,
}

impl From<FileType> for DescriptorType {
    fn from(kind: FileType) -> DescriptorType {
        match kind {
            FileType::RegularFile => DescriptorType::RegularFile,
            FileType::Directory => DescriptorType::Directory,
            FileType::Symlink => DescriptorType::SymbolicLink,
            FileType::Fifo => DescriptorType::Fifo,
            FileType::Socket => DescriptorType::Socket,
            FileType::CharacterDevice => DescriptorType::CharacterDevice,
            FileType::BlockDevice => DescriptorType::BlockDevice,
            FileType::Unknown => DescriptorType::Unknown,
        }
    }
}

flags! {
    PathFlags {
        #[component(name = "symlink-follow")]
        const SYMLINK_FOLLOW;
    }
}

flags! {
    OpenFlags {
        #[component(name = "create")]
        const CREATE;
        #[component(name = "directory")]
        const DIRECTORY;
        #[component(name = "exclusive")]
        const EXCLUSIVE;
        #[component(name = "truncate")]
        const TRUNCATE;
    }
}

flags! {
    DescriptorFlags {
        #[component(name = "read")]
        const READ;
        #[component(name = "write")]
        const WRITE;
        #[component(name = "file-integrity-sync")]
        const FILE_INTEGRITY_SYNC;
        #[component(name = "data-integrity-sync")]
        const DATA_INTEGRITY_SYNC;
        #[component(name = "requested-write-sync")]
        const REQUESTED_WRITE_SYNC;
        #[component(name = "mutate-directory")]
        const MUTATE_DIRECTORY;
    }
}

/// `wasi:clocks/wall-clock.datetime`.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(super) struct Datetime {
    pub(super) seconds: u64,
    pub(super) nanoseconds: u32,
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
struct DescriptorStat {
    #[component(name = "type")]
    kind: DescriptorType,
    #[component(name = "link-count")]
    link_count: u64,
    size: u64,
    #[component(name = "data-access-timestamp")]
    accessed: Option<Datetime>,
    #[component(name = "data-modification-timestamp")]
    modified: Option<Datetime>,
    #[component(name = "status-change-timestamp")]
    changed: Option<Datetime>,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
struct DirectoryEntry {
    #[component(name = "type")]
    kind: DescriptorType,
    name: String,
}

macro_rules! error_codes {
    ($($code:ident $name:literal $($errno:ident)*),* $(,)?) => {
        #[derive(Clone, Copy, ComponentType, Lower)]
        #[component(enum)]
        #[repr(u8)]
        #[allow(dead_code, reason = "some cases stand for no error of this platform")]
        pub(super) enum ErrorCode {
            $(#[component(name = $name)] $code),*
        }

        impl From<Errno> for ErrorCode {
            fn from(errno: Errno) -> ErrorCode {
                match errno {
                    $($(Errno::$errno => ErrorCode::$code,)*)*
                    _ => ErrorCode::Io,
                }
            }
        }
    };
}

error_codes! {
    Access "access" ACCESS,
    WouldBlock "would-block" AGAIN,
    Already "already" ALREADY,
    BadDescriptor "bad-descriptor" BADF,
    Busy "busy" BUSY,
    Deadlock "deadlock" DEADLK,
    Quota "quota" DQUOT,
    Exist "exist" EXIST,
    FileTooLarge "file-too-large" FBIG,
    IllegalByteSequence "illegal-byte-sequence" ILSEQ,
    InProgress "in-progress" INPROGRESS,
    Interrupted "interrupted" INTR,
    Invalid "invalid" INVAL,
    Io "io",
    IsDirectory "is-directory" ISDIR,
    Loop "loop" LOOP,
    TooManyLinks "too-many-links" MLINK,
    MessageSize "message-size" MSGSIZE,
    NameTooLong "name-too-long" NAMETOOLONG,
    NoDevice "no-device" NODEV,
    NoEntry "no-entry" NOENT,
    NoLock "no-lock" NOLCK,
    // WASI has no word for EMFILE and ENFILE; of its own this is the nearest to what they say.
    InsufficientMemory "insufficient-memory" NOMEM MFILE NFILE,
    InsufficientSpace "insufficient-space" NOSPC,
    NotDirectory "not-directory" NOTDIR,
    NotEmpty "not-empty" NOTEMPTY,
    NotRecoverable "not-recoverable" NOTRECOVERABLE,
    Unsupported "unsupported" NOTSUP NOSYS,
    NoTty "no-tty" NOTTY,
    NoSuchDevice "no-such-device" NXIO,
    Overflow "overflow" OVERFLOW,
    NotPermitted "not-permitted" PERM,
    Pipe "pipe" PIPE,
    ReadOnly "read-only" ROFS,
    InvalidSeek "invalid-seek" SPIPE,
    TextFileBusy "text-file-busy" TXTBSY,
    CrossDevice "cross-device" XDEV,
}

pub(super) type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

pub(super) fn answer<T>(result: files::Result<T>) -> Answer<T> {
    Ok((result.map_err(ErrorCode::from),))
}

fn time(seconds: i64, nanoseconds: u64) -> Option<Datetime> {
    // Times before 1970 can't be said.
    let seconds = u64::try_from(seconds).ok()?;
    Some(Datetime { seconds, nanoseconds: u32::try_from(nanoseconds).ok()? })
}

pub(super) fn descriptor<'a>(
    store: &'a StoreContextMut<'_, State>,
    of: &Resource<Descriptor>,
) -> wasmtime::Result<BorrowedFd<'a>> {
    Ok(store.data().wasi.table.get(of)?.as_fd())
}

pub(super) fn keep<T: Send + 'static>(
    store: &mut StoreContextMut<'_, State>,
    value: T,
) -> wasmtime::Result<Resource<T>> {
    Ok(store.data_mut().wasi.table.push(value)?)
}

fn table(state: &mut State) -> &mut ResourceTable {
    &mut state.wasi.table
}

pub(super) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.instance("wasi:filesystem/preopens@0.2.0")?.func_wrap(
        "get-directories",
        |mut store: StoreContextMut<'_, State>, (): ()| {
            let mut directories = Vec::new();
            if let Some(root) = store.data().wasi.root.clone() {
                directories.push((keep(&mut store, Descriptor::Root(root))?, super::GUEST_ROOT.to_owned()));
            }
            Ok((directories,))
        },
    )?;

    let mut types = linker.instance("wasi:filesystem/types@0.2.0")?;
    super::drops::<Descriptor>(&mut types, "descriptor", table)?;
    types.resource(
        "directory-entry-stream",
        ResourceType::host::<Listing>(),
        |mut store: StoreContextMut<'_, State>, rep| {
            let wasi = &mut store.data_mut().wasi;
            wasi.listing_buffer = wasi.table.delete(Resource::<Listing>::new_own(rep))?.into_buffer();
            Ok(())
        },
    )?;

    types.func_wrap(
        "[method]descriptor.open-at",
        |mut store: StoreContextMut<'_, State>,
         (directory, path_flags, path, open, flags): (
            Resource<Descriptor>,
            PathFlags,
            WasmStr,
            OpenFlags,
            DescriptorFlags,
        )|
         -> Answer<Resource<Descriptor>> {
            let synchronised = DescriptorFlags::FILE_INTEGRITY_SYNC
                | DescriptorFlags::DATA_INTEGRITY_SYNC
                | DescriptorFlags::REQUESTED_WRITE_SYNC;
            if flags & synchronised != DescriptorFlags::default() {
                return Ok((Err(ErrorCode::Unsupported),));
            }
            let how = How {
                read: flags.contains(DescriptorFlags::READ),
                write: flags.contains(DescriptorFlags::WRITE),
                create: open.contains(OpenFlags::CREATE),
                exclusive: open.contains(OpenFlags::EXCLUSIVE),
                truncate: open.contains(OpenFlags::TRUNCATE),
                directory: open.contains(OpenFlags::DIRECTORY),
                follow: path_flags.contains(PathFlags::SYMLINK_FOLLOW),
            };
            let opened = files::open(descriptor(&store, &directory)?, &path.to_str(&store)?, how);
            match opened {
                // A table that is full stops the guest; the descriptor is closed with the error.
                Ok(fd) => Ok((Ok(keep(&mut store, Descriptor::opened(fd))?),)),
                Err(errno) => answer(Err(errno)),
            }
        },
    )?;

    types.func_wrap(
        "[method]descriptor.stat-at",
        |store: StoreContextMut<'_, State>,
         (directory, path_flags, path): (Resource<Descriptor>, PathFlags, WasmStr)|
         -> Answer<DescriptorStat> {
            if path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
                return Ok((Err(ErrorCode::Unsupported),));
            }
            let stat = files::stat(descriptor(&store, &directory)?, &path.to_str(&store)?);
            #[allow(
                clippy::useless_conversion,
                clippy::unnecessary_cast,
                reason = "the types differ between platforms"
            )]
            answer(stat.map(|stat| DescriptorStat {
                kind: FileType::from_raw_mode(stat.st_mode).into(),
                link_count: stat.st_nlink.into(),
                size: u64::try_from(stat.st_size).unwrap_or(0),
                accessed: time(stat.st_atime as i64, stat.st_atime_nsec as u64),
                modified: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
                changed: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            }))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.read",
        |store: StoreContextMut<'_, State>,
         (file, len, offset): (Resource<Descriptor>, u64, u64)|
         -> Answer<(Vec<u8>, bool)> {
            let asked = usize::try_from(len.min(MAX_READ)).unwrap_or(0);
            let read = files::read(descriptor(&store, &file)?, asked, offset);
            answer(read.map(|bytes| {
                let at_end = bytes.is_empty();
                (bytes, at_end)
            }))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.write",
        |store: StoreContextMut<'_, State>,
         (file, bytes, offset): (Resource<Descriptor>, WasmList<u8>, u64)|
         -> Answer<u64> {
            let written = files::write(descriptor(&store, &file)?, bytes.as_le_slice(&store), offset);
            answer(written.map(|written| written as u64))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.sync",
        |store: StoreContextMut<'_, State>, (file,): (Resource<Descriptor>,)| -> Answer<()> {
            answer(files::sync(descriptor(&store, &file)?))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.create-directory-at",
        |store: StoreContextMut<'_, State>,
         (directory, path): (Resource<Descriptor>, WasmStr)|
         -> Answer<()> {
            answer(files::create_directory(descriptor(&store, &directory)?, &path.to_str(&store)?))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.link-at",
        |store: StoreContextMut<'_, State>,
         (from, path_flags, path, to, new_path): (
            Resource<Descriptor>,
            PathFlags,
            WasmStr,
            Resource<Descriptor>,
            WasmStr,
        )|
         -> Answer<()> {
            if path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
                return Ok((Err(ErrorCode::Unsupported),));
            }
            let (from, to) = (descriptor(&store, &from)?, descriptor(&store, &to)?);
            answer(files::link(from, &path.to_str(&store)?, to, &new_path.to_str(&store)?))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.rename-at",
        |store: StoreContextMut<'_, State>,
         (from, path, to, new_path): (Resource<Descriptor>, WasmStr, Resource<Descriptor>, WasmStr)|
         -> Answer<()> {
            let (from, to) = (descriptor(&store, &from)?, descriptor(&store, &to)?);
            answer(files::rename(from, &path.to_str(&store)?, to, &new_path.to_str(&store)?))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.unlink-file-at",
        |store: StoreContextMut<'_, State>,
         (directory, path): (Resource<Descriptor>, WasmStr)|
         -> Answer<()> {
            answer(files::unlink(descriptor(&store, &directory)?, &path.to_str(&store)?))
        },
    )?;

    types.func_wrap(
        "[method]descriptor.read-directory",
        |mut store: StoreContextMut<'_, State>,
         (directory,): (Resource<Descriptor>,)|
         -> Answer<Resource<Listing>> {
            let buffer = std::mem::take(&mut store.data_mut().wasi.listing_buffer);
            match store.data().wasi.table.get(&directory)?.list(buffer) {
                Ok(listing) => Ok((Ok(keep(&mut store, listing)?),)),
                Err(errno) => answer(Err(errno)),
            }
        },
    )?;

    types.func_wrap(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: StoreContextMut<'_, State>,
         (listing,): (Resource<Listing>,)|
         -> Answer<Option<DirectoryEntry>> {
            match store.data_mut().wasi.table.get_mut(&listing)?.next() {
                Ok(Some((Some(name), kind))) => Ok((Ok(Some(DirectoryEntry { kind: kind.into(), name })),)),
                Ok(Some((None, _))) => Ok((Err(ErrorCode::IllegalByteSequence),)),
                Ok(None) => Ok((Ok(None),)),
                Err(errno) => answer(Err(errno)),
            }
        },
    )?;
    Ok(())
}
