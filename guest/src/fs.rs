//! The small directory interface that every rule is written over.
//!
//! The component implements it with WASI descriptors, native builds with system calls, and a
//! simulator can implement it in memory and fail or stop at every single call. Invariant: a name is
//! one path component, and no call follows a symbolic link in it. Nothing here knows what the names
//! mean.

use crate::prelude::*;
use core::fmt;

pub use crate::time::Time;

/// What kind of object a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a socket, a named pipe or something that can't be told.
    Other,
}

impl Kind {
    /// With its article, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Kind::File => "a regular file",
            Kind::Directory => "a directory",
            Kind::Symlink => "a symbolic link",
            Kind::Other => "a special file",
        }
    }
}

/// What is known of an object without opening it.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub size: u64,
    /// When its content last changed, by the clock of the file system.
    pub modified: Option<Time>,
    /// When anything of it last changed, its names and its mode too. Nobody can set this one.
    pub changed: Option<Time>,
}

/// One name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed<'a> {
    /// A name and what it stands for.
    Named(&'a str, Kind),
    /// A name that is not UTF-8. It can't be opened from here.
    NotUtf8,
}

/// The kinds of failure that the rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsErrorKind {
    /// ENOENT.
    NotFound,
    /// EEXIST.
    Exists,
    /// ENOTDIR, EISDIR, ELOOP: another kind of object than was asked for.
    WrongType,
    /// EACCES.
    Access,
    /// EPERM. Some file systems answer it for an operation that they lack.
    NotPermitted,
    /// EROFS.
    ReadOnly,
    /// ENOSPC, EDQUOT.
    NoSpace,
    /// EFBIG.
    TooLarge,
    /// ENOTSUP, ENOSYS.
    Unsupported,
    /// EMLINK.
    TooManyLinks,
    /// EINTR.
    Interrupted,
    /// EINVAL.
    Invalid,
    /// ENOMEM, EMFILE, ENFILE: the system, or what it allows this process, is used up.
    Exhausted,
    /// Everything else.
    Io,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsError {
    /// Its kind.
    pub kind: FsErrorKind,
    /// In words.
    pub detail: &'static str,
}

impl FsError {
    /// With the standard words for its kind.
    pub fn new(kind: FsErrorKind) -> Self {
        let detail = match kind {
            FsErrorKind::NotFound => "no such file or directory",
            FsErrorKind::Exists => "file exists",
            FsErrorKind::WrongType => "another kind of file stands there",
            FsErrorKind::Access => "permission denied",
            FsErrorKind::NotPermitted => "operation not permitted",
            FsErrorKind::ReadOnly => "read-only file system",
            FsErrorKind::NoSpace => "no space left on device",
            FsErrorKind::TooLarge => "file too large",
            FsErrorKind::Unsupported => "operation not supported by the file system",
            FsErrorKind::TooManyLinks => "too many links",
            FsErrorKind::Interrupted => "interrupted",
            FsErrorKind::Invalid => "invalid argument",
            FsErrorKind::Exhausted => "out of memory or of open files",
            FsErrorKind::Io => "input/output error",
        };
        FsError { kind, detail }
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.detail)
    }
}

impl core::error::Error for FsError {}

/// The result of one call.
pub type FsResult<T> = Result<T, FsError>;

/// An open regular file.
pub trait File {
    /// Reads at most `len` bytes at `offset`. Empty means the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read(&self, len: usize, offset: u64) -> FsResult<Vec<u8>>;

    /// Writes some of `bytes` at `offset` and says how many.
    ///
    /// # Errors
    /// As `pwrite(2)`; what was written before the error is in the file.
    fn write(&self, bytes: &[u8], offset: u64) -> FsResult<usize>;

    /// Makes the content durable.
    ///
    /// # Errors
    /// As `fsync(2)`.
    fn sync(&self) -> FsResult<()>;
}

/// An open directory. Names are single path components.
pub trait Dir: Sized {
    /// Its files.
    type File: File;

    /// Opens a directory in this one. A symbolic link is [`FsErrorKind::WrongType`].
    ///
    /// # Errors
    /// As `openat(2)` with `O_DIRECTORY | O_NOFOLLOW`.
    fn open_dir(&self, name: &str) -> FsResult<Self>;

    /// Opens a directory in this one, and a directory in that one.
    ///
    /// # Errors
    /// As [`Dir::open_dir`], of the first that can't be opened. Neither is open then.
    fn open_nested(&self, name: &str, nested: &str) -> FsResult<(Self, Self)> {
        open_nested_in_steps(self, name, nested)
    }

    /// Creates a directory in this one.
    ///
    /// # Errors
    /// As `mkdirat(2)`.
    fn create_dir(&self, name: &str) -> FsResult<()>;

    /// Calls `each` for every name but `.` and `..`, in no order. Names that vanish meanwhile may
    /// or may not be reported. What `each` refuses ends the listing.
    ///
    /// # Errors
    /// As `readdir(3)`. After an error the names that were reported are not all.
    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()>;

    /// [`Dir::list`] twice, one listing after the other. A name that becomes another one while a listing goes
    /// on may be missing from that one in both forms; of the two listings one has it.
    ///
    /// # Errors
    /// As [`Dir::list`].
    fn list_twice(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        self.list(each)?;
        self.list(each)
    }

    /// Looks at a name without opening it.
    ///
    /// # Errors
    /// As `fstatat(2)` with `AT_SYMLINK_NOFOLLOW`.
    fn stat(&self, name: &str) -> FsResult<Stat>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// As `openat(2)` with `O_NOFOLLOW`.
    fn open(&self, name: &str) -> FsResult<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// As `openat(2)` with `O_NOFOLLOW`.
    fn open_for_update(&self, name: &str) -> FsResult<Self::File>;

    /// Creates a file that does not exist yet, for writing.
    ///
    /// # Errors
    /// As `openat(2)` with `O_CREAT | O_EXCL`.
    fn create(&self, name: &str) -> FsResult<Self::File>;

    /// Reads a whole regular file, which is looked at before it is opened: opening a named pipe would wait
    /// for a writer that never comes, and no time limit ends that. The size that is seen also tells a whole
    /// read from a short one, without a further read to see the end.
    ///
    /// # Errors
    /// As [`Dir::stat`], [`Dir::open`] and [`File::read`].
    fn read_file(&self, name: &str, limit: u64) -> FsResult<Content> {
        read_in_steps(self, name, limit)
    }

    /// Creates a file that does not exist yet, with this content.
    ///
    /// # Errors
    /// [`NotCreated`]: as [`Dir::create`], or as [`File::write`] and [`File::sync`].
    fn create_file(&self, name: &str, content: &[u8], synchronise: bool) -> Result<(), NotCreated> {
        create_in_steps(self, name, content, synchronise)
    }

    /// Creates a file under a name that does not exist yet, as [`Dir::create_file`], and renames it over another, if
    /// there is one, in this directory.
    ///
    /// # Errors
    /// [`NotCreated`]: as there, or as [`Dir::rename`].
    fn replace_file(
        &self,
        temporary: &str,
        name: &str,
        content: &[u8],
        synchronise: bool,
    ) -> Result<(), NotCreated> {
        replace_in_steps(self, temporary, name, content, synchronise)
    }

    /// Gives a file a second name, which must not exist yet.
    ///
    /// # Errors
    /// As `linkat(2)`.
    fn link(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()>;

    /// Renames a file, over an existing one if there is one.
    ///
    /// # Errors
    /// As `renameat(2)`.
    fn rename(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()>;

    /// Removes the name of a file.
    ///
    /// # Errors
    /// As `unlinkat(2)`.
    fn unlink(&self, name: &str) -> FsResult<()>;

    /// Makes the names in this directory durable.
    ///
    /// # Errors
    /// As `fsync(2)` on a directory.
    fn sync(&self) -> FsResult<()>;
}

/// What stands where a regular file should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The whole content.
    Whole(Vec<u8>),
    /// The file is larger than the limit. How it begins.
    TooLarge(Vec<u8>),
    /// It is no regular file, and was not opened.
    NotAFile(Kind),
}

/// Why there is no new file, or none under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotCreated {
    /// The name was not made, or is somebody else's ([`FsErrorKind::Exists`]).
    NoName(FsError),
    /// The name was made and is there; its content is not whole, or not synchronised.
    NotWhole(FsError),
    /// The file is whole under the name that was made, and did not get the other one.
    NotRenamed(FsError),
}

/// [`Dir::open_nested`], step by step.
pub(crate) fn open_nested_in_steps<D: Dir>(dir: &D, name: &str, nested: &str) -> FsResult<(D, D)> {
    let dir = dir.open_dir(name)?;
    let nested = dir.open_dir(nested)?;
    Ok((dir, nested))
}

/// [`Dir::read_file`] by the other calls.
///
/// # Errors
/// As there.
pub fn read_in_steps<D: Dir>(dir: &D, name: &str, limit: u64) -> FsResult<Content> {
    let stat = dir.stat(name)?;
    if stat.kind != Kind::File {
        return Ok(Content::NotAFile(stat.kind));
    }
    read_open_file(&dir.open(name)?, stat.size, limit)
}

/// [`Dir::create_file`] by the other calls.
///
/// # Errors
/// As there.
pub fn create_in_steps<D: Dir>(
    dir: &D,
    name: &str,
    content: &[u8],
    synchronise: bool,
) -> Result<(), NotCreated> {
    let file = dir.create(name).map_err(NotCreated::NoName)?;
    let written = write_all(&file, content).and_then(|()| if synchronise { file.sync() } else { Ok(()) });
    written.map_err(NotCreated::NotWhole)
}

/// [`Dir::replace_file`] by the other calls.
///
/// # Errors
/// As there.
pub fn replace_in_steps<D: Dir>(
    dir: &D,
    temporary: &str,
    name: &str,
    content: &[u8],
    synchronise: bool,
) -> Result<(), NotCreated> {
    dir.create_file(temporary, content, synchronise)?;
    dir.rename(temporary, dir, name).map_err(NotCreated::NotRenamed)
}

fn write_all(file: &impl File, content: &[u8]) -> FsResult<()> {
    let mut done = 0;
    while done < content.len() {
        match file.write(&content[done..], done as u64) {
            // A write of nothing would go on for ever.
            Ok(0) => return Err(FsError::new(FsErrorKind::NoSpace)),
            Ok(written) => done += written,
            Err(error) if error.kind == FsErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads a whole file that is open, of which this size was seen.
///
/// # Errors
/// As [`File::read`].
pub fn read_open_file(file: &impl File, size: u64, limit: u64) -> FsResult<Content> {
    const CHUNK: u64 = 64 * 1024;
    const BEGINNING: u64 = 4 * 1024;
    let mut content: Vec<u8> = Vec::new();
    loop {
        let done = content.len() as u64;
        if done > limit || size > limit && done >= BEGINNING {
            return Ok(Content::TooLarge(content));
        }
        let ask = if size > limit {
            BEGINNING - done
        } else if done < size {
            // One byte more than there should be, so that a file that grew is noticed.
            (size - done + 1).min(CHUNK)
        } else {
            CHUNK
        };
        let chunk = match file.read(usize::try_from(ask).unwrap_or(usize::MAX), done) {
            Err(error) if error.kind == FsErrorKind::Interrupted => continue,
            other => other?,
        };
        let at_end = chunk.is_empty() || done + chunk.len() as u64 == size && (chunk.len() as u64) < ask;
        if content.is_empty() {
            content = chunk;
        } else {
            content.extend_from_slice(&chunk);
        }
        if at_end {
            return Ok(if size > limit { Content::TooLarge(content) } else { Content::Whole(content) });
        }
    }
}
