//! What can go wrong. Invariant: every message is one line that says what was attempted, in which
//! workspace or file, and what helps.

use crate::bindings::types;
use crate::sys;
use crate::types::{EntryId, ErrorCode, Owner};
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of what a component printed goes into a message, in characters.
const MAX_PRINTED: usize = 500;

type Source = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The component did its work and reports a failure. Its files are as the message says.
    #[error(transparent)]
    Guest(Box<GuestError>),

    /// The component trapped. What it was writing is either whole or not there, and its instance is
    /// gone; the next call gets a fresh one.
    #[error(
        "cannot {operation} in {}: the component trapped: {reason}; this is a defect in it, and the next call gets a fresh instance",
        root.display()
    )]
    Trap {
        /// What was attempted.
        operation: &'static str,
        /// The workspace.
        root: PathBuf,
        /// Why it trapped.
        reason: String,
        /// The trap, with the component's backtrace.
        source: Source,
    },

    /// The component was stopped because the call took too long.
    #[error(
        "cannot {operation} in {}: no end after {after:?}; allow more with RuntimeBuilder::call_timeout, or do less in one call",
        root.display()
    )]
    Timeout {
        /// What was attempted.
        operation: &'static str,
        /// The workspace.
        root: PathBuf,
        /// The time that was allowed.
        after: Duration,
    },

    /// The component asked for more memory than it may have.
    #[error(
        "cannot {operation} in {}: it takes more than the {limit} bytes of memory that are allowed; allow more with RuntimeBuilder::memory_limit, or do less in one call",
        root.display()
    )]
    OutOfMemory {
        /// What was attempted.
        operation: &'static str,
        /// The workspace.
        root: PathBuf,
        /// The limit in bytes.
        limit: usize,
    },

    /// The handle's instance is gone, because of a trap or a timeout in an earlier call. A lock was
    /// cleared then and its entries stay.
    #[error(
        "cannot {operation} in {}: the component failed in an earlier call of this handle{}; make a new one",
        root.display(),
        cause.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default()
    )]
    Dead {
        /// What was attempted.
        operation: &'static str,
        /// The workspace.
        root: PathBuf,
        /// What the earlier call failed with, if that is known.
        cause: Option<String>,
    },

    /// A snapshot was passed to a lock that it was not taken under.
    #[error("cannot record the snapshot: it was not taken under this lock; take it with Lock::snapshot")]
    ForeignSnapshot,

    /// A draft was passed to a lock that it was not made under.
    #[error("cannot take the draft: it was not made under this lock; make it with Lock::draft")]
    ForeignDraft,

    /// The workspace root can't be opened.
    #[error(
        "cannot open the workspace {}: {source}; it must be an existing directory that this user can search and read",
        path.display()
    )]
    Open {
        /// The root as it was given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The host itself failed: wasmtime, a thread, memory that the system does not have, or its source of
    /// randomness.
    #[error("cannot {operation}: {reason}")]
    Engine {
        /// What was attempted.
        operation: &'static str,
        /// Why it failed.
        reason: String,
        /// The cause.
        source: Source,
    },

    /// The embedder's engine does not fit the component's image that was compiled ahead of time, and this
    /// build can't compile another one.
    #[error(
        "cannot use the component's image: {reason}; make the engine with Runtime::engine_config and the same version of wasmtime, or build consolidation-host with the feature `compile`"
    )]
    Image {
        /// What does not fit.
        reason: String,
    },

    /// The embedder's engine can't interrupt a guest that does not end.
    #[error(
        "cannot use this engine: it does not interrupt guests; make it with Config::epoch_interruption(true)"
    )]
    EngineWithoutEpochs,
}

impl Error {
    /// The kind of failure, for programs to branch on.
    pub fn code(&self) -> ErrorCode {
        match self {
            Error::Guest(error) => error.code,
            Error::Open { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorCode::NotFound,
                io::ErrorKind::NotADirectory => ErrorCode::WrongFileType,
                io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
                _ => ErrorCode::Io,
            },
            Error::ForeignSnapshot | Error::ForeignDraft => ErrorCode::InvalidInput,
            Error::EngineWithoutEpochs | Error::Image { .. } => ErrorCode::Unsupported,
            Error::Trap { .. }
            | Error::Timeout { .. }
            | Error::OutOfMemory { .. }
            | Error::Dead { .. }
            | Error::Engine { .. } => ErrorCode::Internal,
        }
    }

    /// What the component reported, if that is what failed.
    pub fn guest(&self) -> Option<&GuestError> {
        match self {
            Error::Guest(error) => Some(error),
            _ => None,
        }
    }

    /// The file or directory concerned, absolute, where there is a single one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Error::Guest(error) => error.path.as_deref(),
            Error::Open { path, .. } => Some(path),
            _ => None,
        }
    }

    /// For a lock that is in use or lost: the owner on disk, if its record could be read.
    pub fn owner(&self) -> Option<&Owner> {
        self.guest()?.owner.as_ref()
    }

    /// For a call that takes a list: the index, from 0, of the item at fault.
    pub fn index(&self) -> Option<u64> {
        self.guest()?.index
    }

    /// For `stage_many`: the entries that are staged in spite of the error, in input order.
    pub fn staged(&self) -> &[EntryId] {
        self.guest().map_or(&[], |error| &error.staged)
    }

    pub(crate) fn engine(operation: &'static str, source: impl Into<Source>) -> Error {
        let source = source.into();
        Error::Engine { operation, reason: one_line(&causes(&*source)), source }
    }

    /// A failure that the component reports, with its path made absolute.
    pub(crate) fn guest_error(operation: &'static str, root: &Path, error: types::Error) -> Error {
        let mut code = ErrorCode::from(error.code);
        let mut message = one_line(&error.message);
        // WASI has no code for a read-only mount, so the component can't tell it from other I/O
        // errors.
        if code == ErrorCode::Io && sys::is_read_only(root) {
            code = ErrorCode::ReadOnly;
            message.push_str("; the file system is mounted read-only: mount it writable");
        }
        Error::Guest(Box::new(GuestError {
            operation,
            root: root.to_owned(),
            code,
            message,
            path: error.path.map(|path| root.join(path)),
            owner: error.owner.map(Into::into),
            index: error.index,
            staged: Vec::new(),
        }))
    }

    /// With what is staged in spite of it.
    pub(crate) fn with_staged(mut self, staged: Vec<EntryId>) -> Error {
        if let Error::Guest(error) = &mut self {
            error.staged = staged;
        }
        self
    }
}

/// A failure that the component reports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuestError {
    /// What was attempted.
    pub operation: &'static str,
    /// The workspace.
    pub root: PathBuf,
    /// The kind, for programs.
    pub code: ErrorCode,
    /// One sentence for people; paths in it are relative to the workspace.
    pub message: String,
    /// The file or directory concerned, absolute; none where no single one is.
    pub path: Option<PathBuf>,
    /// For a lock that is in use or lost: the owner on disk, if its record could be read.
    pub owner: Option<Owner>,
    /// For a call that takes a list: the index, from 0, of the item at fault.
    pub index: Option<u64>,
    /// For `stage_many`: the entries that are staged in spite of the error, in input order.
    pub staged: Vec<EntryId>,
}

impl fmt::Display for GuestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot {} in {}: {}", self.operation, self.root.display(), self.message)
    }
}

impl StdError for GuestError {}

/// Why the component did not come to the end of a call.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It ran past its deadline.
    Timeout { after: Duration },
    /// It was refused memory.
    OutOfMemory { limit: usize },
    /// It was allowed memory that the system does not have for it.
    Starved { source: io::Error },
    /// Anything else.
    Trap { reason: String, source: Source },
    /// It was not the component: a thread could not be had.
    Host(io::Error),
}

impl Fault {
    pub(crate) fn trap(stderr: &str, error: wasmtime::Error) -> Fault {
        let source: Source = error.into();
        let mut reason = one_line(&root_cause(&*source).to_string());
        // A panic of the component prints its message before it traps.
        let printed: String = one_line(panic_message(stderr)).chars().take(MAX_PRINTED).collect();
        if !printed.is_empty() {
            reason = format!("{reason} ({printed})");
        }
        Fault::Trap { reason, source }
    }

    /// Where no code of the component has run, what failed is the host: it has no memory, no descriptors or
    /// no files that are large enough (`ulimit`).
    pub(crate) fn of_the_host_unless_trapped(self) -> Fault {
        match self {
            Fault::Trap { reason, source } if !root_cause(&*source).is::<wasmtime::Trap>() => {
                Fault::Host(not_set_up(&reason))
            }
            other => other,
        }
    }

    /// Where code of a plugin may have run already: only what the system says was the host.
    #[cfg(feature = "plugins")]
    pub(crate) fn of_the_host_if_the_system_refused(self) -> Fault {
        match self {
            Fault::Trap { reason, source } if system_error(&*source).is_some() => {
                Fault::Host(not_set_up(&reason))
            }
            other => other,
        }
    }

    pub(crate) fn into_error(self, operation: &'static str, root: &Path) -> Error {
        let root = root.to_owned();
        match self {
            Fault::Timeout { after } => Error::Timeout { operation, root, after },
            Fault::OutOfMemory { limit } => Error::OutOfMemory { operation, root, limit },
            Fault::Trap { reason, source } => Error::Trap { operation, root, reason, source },
            Fault::Starved { source } => Error::engine(operation, io::Error::other(starved(&source))),
            Fault::Host(source) => Error::engine(operation, source),
        }
    }
}

/// What it means that the system has no memory for a growth, and what helps.
pub(crate) fn starved(source: &io::Error) -> String {
    format!("the system has no more memory for it: {source}; allow this process more (`ulimit -v`)")
}

fn not_set_up(reason: &str) -> io::Error {
    io::Error::other(format!("the sandbox can't be set up: {}", limited(reason)))
}

/// What the system refuses to this process, and what helps.
pub(crate) fn limited(reason: impl fmt::Display) -> String {
    format!("{reason}; look at the limits of this process (`ulimit -v`, `-f`, `-n`)")
}

/// The answer of the system that an error comes from, if it comes from one.
pub(crate) fn system_error(error: &(dyn StdError + 'static)) -> Option<io::Error> {
    let cause = root_cause(error);
    #[cfg(unix)]
    if let Some(errno) = cause.downcast_ref::<rustix::io::Errno>() {
        return Some((*errno).into());
    }
    let error = cause.downcast_ref::<io::Error>()?;
    Some(error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error))
}

fn root_cause<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause
}

pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error;
    while let Some(next) = cause.source() {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next;
    }
    text
}

/// Without the hint at a variable that the sandbox does not have.
fn panic_message(stderr: &str) -> &str {
    stderr.split_once("\nnote: run with `RUST_BACKTRACE").map_or(stderr, |(message, _)| message)
}

/// One line for logs and terminals, whatever a component prints.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.contains(char::is_control) { words.escape_debug().to_string() } else { words }
}
