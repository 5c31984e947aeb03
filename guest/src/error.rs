//! What went wrong, for programs (the code) and for people (the message). Invariant: every message
//! says what was done, to which file, what happened and, where there is something to do, what helps.

use crate::fs::{FsError, FsErrorKind};
use crate::layout::EntryId;
use crate::prelude::*;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The kinds of failure; the same as `error-code` in the WIT package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// Another owner holds the lock, or may hold it.
    InUse,
    /// The lock on disk is not the one that was taken.
    LockLost,
    /// An argument or a payload has not the form that is asked for.
    InvalidInput,
    /// No such entry or directory.
    NotFound,
    /// A file is not usable as what its name says.
    Unusable,
    /// Another kind of file stands there; it was not followed and not touched.
    WrongFileType,
    /// The operating system refuses access.
    PermissionDenied,
    /// The file system is read-only.
    ReadOnly,
    /// No space is left, or none for a file of this size.
    NoSpace,
    /// The file system lacks an operation.
    Unsupported,
    /// Any other input or output error.
    Io,
    /// A file was changed by somebody else meanwhile.
    Conflict,
    /// A defect here.
    Internal,
}

/// The owner of a lock as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id, in its own scope.
    pub pid: u32,
    /// Its pod; empty if unknown.
    pub pod_name: String,
    /// When it took the lock, RFC 3339; empty if unknown.
    pub started_at: String,
}

/// Why an operation failed. Its [`Failure`] is kept apart, so that a result is no larger for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(Box<Failure>);

/// What there is to know of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Relative to the workspace root.
    pub path: Option<String>,
    /// The owner on disk, for in-use and lock-lost.
    pub owner: Option<Owner>,
    /// Index of the item at fault.
    pub index: Option<u64>,
    /// What is staged in spite of the error.
    pub staged: Vec<EntryId>,
}

impl Owner {
    /// One of whom nothing is known.
    pub fn unknown() -> Self {
        Owner { pid: 0, pod_name: String::new(), started_at: String::new() }
    }
}

impl Error {
    /// An error without particulars.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Error::with_message(code, message.into())
    }

    #[cold]
    #[inline(never)]
    fn with_message(code: ErrorCode, message: String) -> Self {
        Error(Box::new(Failure { code, message, path: None, owner: None, index: None, staged: Vec::new() }))
    }

    /// With the file concerned.
    pub fn at(self, path: impl Into<String>) -> Self {
        self.at_path(path.into())
    }

    #[cold]
    #[inline(never)]
    fn at_path(mut self, path: String) -> Self {
        self.path = Some(path);
        self
    }

    /// With the index of the item at fault.
    pub fn at_index(mut self, index: usize) -> Self {
        self.index = Some(index as u64);
        self
    }

    /// What there is to know of it.
    pub fn into_failure(self) -> Failure {
        *self.0
    }

    /// With the owner on disk.
    #[cold]
    #[inline(never)]
    pub fn owned_by(mut self, owner: Option<Owner>) -> Self {
        self.owner = owner;
        self
    }

    /// A failed file operation: what was being done, to which path, and what helps.
    pub fn io(doing: &str, path: impl Into<String>, error: &FsError) -> Self {
        Error::io_at(doing, path.into(), error)
    }

    #[cold]
    #[inline(never)]
    fn io_at(doing: &str, path: String, error: &FsError) -> Self {
        let (code, remedy) = match error.kind {
            FsErrorKind::NotFound => (ErrorCode::NotFound, ""),
            FsErrorKind::WrongType => {
                (ErrorCode::WrongFileType, "; it was not followed and not touched: move it away")
            }
            FsErrorKind::Access | FsErrorKind::NotPermitted => {
                (ErrorCode::PermissionDenied, "; check the owner and the mode of the workspace")
            }
            FsErrorKind::ReadOnly => (ErrorCode::ReadOnly, "; mount or grant the workspace writable"),
            FsErrorKind::NoSpace => (ErrorCode::NoSpace, "; free some space and try again"),
            // The process may not make a file this large (setrlimit(2), RLIMIT_FSIZE), or the file system can't.
            FsErrorKind::TooLarge => {
                (ErrorCode::NoSpace, "; raise the limit on the size of a file (`ulimit -f`)")
            }
            FsErrorKind::Unsupported => (ErrorCode::Unsupported, ""),
            // getrlimit(2), RLIMIT_NOFILE.
            FsErrorKind::Exhausted => {
                (ErrorCode::Io, "; close what this process has open, or raise its limit (`ulimit -n`)")
            }
            _ => (ErrorCode::Io, ""),
        };
        Error::new(code, format!("cannot {doing} {path}: {error}{remedy}")).at(path)
    }
}

impl Deref for Error {
    type Target = Failure;

    fn deref(&self) -> &Failure {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Failure {
        &mut self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl core::error::Error for Error {}

/// The result of an operation.
pub type Result<T> = core::result::Result<T, Error>;
