//! The one home of the order in which bytes reach the disk. Invariant: a name that people and other
//! programs look at stands for a whole file at every moment; and with [`Durability::Full`] the data
//! is on the disk before the name is, and the name before the call returns.
//!
//! POSIX promises nothing about the order of a rename and of the data of the file unless the file is
//! synchronised first, nor that a name is kept unless its directory is (`fsync(2)`, notes).

use crate::fs::{Dir, FsError, FsErrorKind, FsResult, NotCreated};

/// How hard a write tries to survive a crash of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Synchronise the data before the name and the name before returning.
    #[default]
    Full,
    /// Synchronise nothing.
    None,
}

/// Creates a file with this content. A name that exists is [`FsErrorKind::Exists`].
///
/// # Errors
/// Of the first step that failed; the name is then gone again, unless removing it failed too.
pub fn create_whole<D: Dir>(dir: &D, name: &str, content: &[u8], durability: Durability) -> FsResult<()> {
    match dir.create_file(name, content, durability == Durability::Full) {
        Ok(()) => Ok(()),
        Err(NotCreated::NoName(error)) => Err(error),
        Err(NotCreated::NotWhole(error) | NotCreated::NotRenamed(error)) => {
            // Nothing more can be done about a name that can't be removed: it is no entry and no flag
            // that counts for longer than its owner lives.
            let _ = dir.unlink(name);
            Err(error)
        }
    }
}

/// Replaces a file, or creates it, by way of another name: whoever looks sees the old content or the
/// new one, also after a crash.
///
/// # Errors
/// Of the first step that failed; the old file is then in place.
pub fn replace<D: Dir>(
    dir: &D,
    temporary: &str,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> FsResult<()> {
    match put_in_place(dir, temporary, name, content, durability) {
        Ok(()) if durability == Durability::Full => sync_names(dir),
        Ok(()) => Ok(()),
        Err(NotCreated::NoName(error) | NotCreated::NotWhole(error) | NotCreated::NotRenamed(error)) => {
            Err(error)
        }
    }
}

/// The same without the last step: with [`Durability::Full`] the names are to be made durable by who calls it.
///
/// # Errors
/// Of the first step that failed; the temporary name is then gone again, unless removing it failed too.
pub fn put_in_place<D: Dir>(
    dir: &D,
    temporary: &str,
    name: &str,
    content: &[u8],
    durability: Durability,
) -> Result<(), NotCreated> {
    let placed = dir.replace_file(temporary, name, content, durability == Durability::Full);
    if matches!(placed, Err(NotCreated::NotWhole(_) | NotCreated::NotRenamed(_))) {
        // As above.
        let _ = dir.unlink(temporary);
    }
    placed
}

/// Makes the names in a directory durable. A file system that can't synchronise a directory says so
/// with EINVAL or ENOTSUP; the names are as durable there as they get, and the caller's result must
/// say what is on the disk.
///
/// # Errors
/// Any other failure.
pub fn sync_names<D: Dir>(dir: &D) -> FsResult<()> {
    match dir.sync() {
        Err(FsError { kind: FsErrorKind::Invalid | FsErrorKind::Unsupported, .. }) => Ok(()),
        other => other,
    }
}
