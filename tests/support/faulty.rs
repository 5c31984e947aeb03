//! A directory that records every call and fails those that a test picks. Invariant: a call that is
//! not picked does what the native one does, and a refused call does nothing at all.

use consolidation_guest::fs::{Dir, File, FsError, FsErrorKind, FsResult, Listed, Stat};
use consolidation_guest::native::{NativeDir, NativeFile};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The kinds of calls, of a directory and of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    OpenDir,
    CreateDir,
    List,
    Stat,
    Open,
    OpenForUpdate,
    Create,
    Link,
    Rename,
    Unlink,
    SyncNames,
    Read,
    Write,
    Sync,
}

impl Op {
    /// Does it change what is on the disk?
    pub(crate) fn changes(self) -> bool {
        matches!(self, Op::CreateDir | Op::Create | Op::Link | Op::Rename | Op::Unlink | Op::Write)
    }
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) op: Op,
    /// Of what, from the root; the root itself is `.`.
    pub(crate) path: String,
    /// The new name of a link and a rename.
    pub(crate) to: String,
    /// How it failed, by our doing or by itself.
    pub(crate) failed: Option<FsErrorKind>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done.
    Pass,
    /// It is not done and fails.
    Refuse(FsErrorKind),
    /// It is done, and the answer is lost: it reports failure.
    After(FsErrorKind),
    /// A write or a read is done for so many bytes only.
    Short(usize),
}

type Rule = Box<dyn FnMut(usize, &Call) -> Fault + Send>;

/// The faults of all directories and files of one tree, and the calls that were made there.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Mutex<Script>>);

struct Script {
    rule: Rule,
    calls: Vec<Call>,
}

impl Faults {
    /// What becomes of a call, by its number from 0 and what it is.
    pub(crate) fn by(rule: impl FnMut(usize, &Call) -> Fault + Send + 'static) -> Self {
        Faults(Arc::new(Mutex::new(Script { rule: Box::new(rule), calls: Vec::new() })))
    }

    /// None.
    pub(crate) fn none() -> Self {
        Faults::by(|_, _| Fault::Pass)
    }

    /// Of the call with this number.
    pub(crate) fn nth(number: usize, fault: Fault) -> Self {
        Faults::by(move |index, _| if index == number { fault } else { Fault::Pass })
    }

    /// Of every call of this kind.
    pub(crate) fn of(op: Op, fault: Fault) -> Self {
        Faults::by(move |_, call| if call.op == op { fault } else { Fault::Pass })
    }

    /// The process is killed before the call with this number: nothing that follows is done.
    pub(crate) fn killed_before(number: usize) -> Self {
        Faults::by(move |index, _| if index >= number { Fault::Refuse(FsErrorKind::Io) } else { Fault::Pass })
    }

    /// From now on; numbers start at 0 again.
    pub(crate) fn become_(&self, rule: impl FnMut(usize, &Call) -> Fault + Send + 'static) {
        let mut script = self.script();
        script.rule = Box::new(rule);
        script.calls.clear();
    }

    /// The calls that were made, in order.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.script().calls.clone()
    }

    /// The calls that were made, without those that only look, as `op path` and `op path -> path`.
    pub(crate) fn changes(&self) -> Vec<String> {
        let told = |call: &Call| {
            let Call { op, path, to, .. } = call;
            if to.is_empty() { format!("{op:?} {path}") } else { format!("{op:?} {path} -> {to}") }
        };
        let changes = |call: &&Call| call.op.changes() || matches!(call.op, Op::Sync | Op::SyncNames);
        self.script().calls.iter().filter(changes).map(told).collect()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call, or not.
    fn call<T>(&self, op: Op, path: &str, to: &str, make: impl FnOnce(usize) -> FsResult<T>) -> FsResult<T> {
        let mut call = Call { op, path: path.into(), to: to.into(), failed: None };
        let (number, fault) = {
            let mut script = self.script();
            let number = script.calls.len();
            let fault = (script.rule)(number, &call);
            script.calls.push(call.clone());
            (number, fault)
        };
        let result = match fault {
            Fault::Pass => make(usize::MAX),
            Fault::Short(bytes) => make(bytes),
            Fault::Refuse(kind) => Err(FsError::new(kind)),
            Fault::After(kind) => make(usize::MAX).and(Err(FsError::new(kind))),
        };
        if let Err(error) = &result {
            call.failed = Some(error.kind);
            // A rule that was replaced meanwhile has cleared the list.
            if let Some(recorded) = self.script().calls.get_mut(number) {
                *recorded = call;
            }
        }
        result
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Faults").finish_non_exhaustive()
    }
}

/// A native directory with faults.
#[derive(Debug)]
pub(crate) struct FaultyDir {
    inner: NativeDir,
    path: String,
    faults: Faults,
}

impl FaultyDir {
    /// The directory at this path, as a root.
    pub(crate) fn open_path(path: &Path, faults: &Faults) -> Self {
        let inner = NativeDir::open_path(path).expect("the directory opens");
        FaultyDir { inner, path: String::new(), faults: faults.clone() }
    }

    fn own_path(&self) -> &str {
        if self.path.is_empty() { "." } else { &self.path }
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.into() } else { format!("{}/{name}", self.path) }
    }

    fn file(&self, inner: NativeFile, name: &str) -> FaultyFile {
        FaultyFile { inner, path: self.path_of(name), faults: self.faults.clone() }
    }
}

impl Dir for FaultyDir {
    type File = FaultyFile;

    fn open_dir(&self, name: &str) -> FsResult<Self> {
        let path = self.path_of(name);
        let inner = self.faults.call(Op::OpenDir, &path, "", |_| self.inner.open_dir(name))?;
        Ok(FaultyDir { inner, path, faults: self.faults.clone() })
    }

    fn create_dir(&self, name: &str) -> FsResult<()> {
        self.faults.call(Op::CreateDir, &self.path_of(name), "", |_| self.inner.create_dir(name))
    }

    fn list(&self, each: &mut dyn FnMut(Listed<'_>)) -> FsResult<()> {
        self.faults.call(Op::List, self.own_path(), "", |_| self.inner.list(each))
    }

    fn stat(&self, name: &str) -> FsResult<Stat> {
        self.faults.call(Op::Stat, &self.path_of(name), "", |_| self.inner.stat(name))
    }

    fn open(&self, name: &str) -> FsResult<FaultyFile> {
        let file = self.faults.call(Op::Open, &self.path_of(name), "", |_| self.inner.open(name))?;
        Ok(self.file(file, name))
    }

    fn open_for_update(&self, name: &str) -> FsResult<FaultyFile> {
        let path = self.path_of(name);
        let file = self.faults.call(Op::OpenForUpdate, &path, "", |_| self.inner.open_for_update(name))?;
        Ok(self.file(file, name))
    }

    fn create(&self, name: &str) -> FsResult<FaultyFile> {
        let file = self.faults.call(Op::Create, &self.path_of(name), "", |_| self.inner.create(name))?;
        Ok(self.file(file, name))
    }

    fn link(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        self.faults.call(Op::Link, &self.path_of(name), &to.path_of(new_name), |_| {
            self.inner.link(name, &to.inner, new_name)
        })
    }

    fn rename(&self, name: &str, to: &Self, new_name: &str) -> FsResult<()> {
        self.faults.call(Op::Rename, &self.path_of(name), &to.path_of(new_name), |_| {
            self.inner.rename(name, &to.inner, new_name)
        })
    }

    fn unlink(&self, name: &str) -> FsResult<()> {
        self.faults.call(Op::Unlink, &self.path_of(name), "", |_| self.inner.unlink(name))
    }

    fn sync(&self) -> FsResult<()> {
        self.faults.call(Op::SyncNames, self.own_path(), "", |_| self.inner.sync())
    }
}

/// A native file with faults.
pub(crate) struct FaultyFile {
    inner: NativeFile,
    path: String,
    faults: Faults,
}

impl File for FaultyFile {
    fn read(&self, len: usize, offset: u64) -> FsResult<Vec<u8>> {
        self.faults.call(Op::Read, &self.path, "", |most| self.inner.read(len.min(most), offset))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> FsResult<usize> {
        self.faults
            .call(Op::Write, &self.path, "", |most| self.inner.write(&bytes[..bytes.len().min(most)], offset))
    }

    fn sync(&self) -> FsResult<()> {
        self.faults.call(Op::Sync, &self.path, "", |_| self.inner.sync())
    }
}

/// Every kind of failure that the rules tell apart.
pub(crate) const ALL_KINDS: [FsErrorKind; 14] = [
    FsErrorKind::NotFound,
    FsErrorKind::Exists,
    FsErrorKind::WrongType,
    FsErrorKind::Access,
    FsErrorKind::NotPermitted,
    FsErrorKind::ReadOnly,
    FsErrorKind::NoSpace,
    FsErrorKind::TooLarge,
    FsErrorKind::Unsupported,
    FsErrorKind::TooManyLinks,
    FsErrorKind::Interrupted,
    FsErrorKind::Invalid,
    FsErrorKind::Exhausted,
    FsErrorKind::Io,
];
