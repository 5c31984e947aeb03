//! One workspace: its root directory, the world outside, and what all operations share.

use crate::error::{Error, ErrorCode, Result};
use crate::fs::{Dir, FsErrorKind};
use crate::layout::{EntryId, FlagName, STAGING, clip};
use crate::prelude::*;
use crate::record::LockRecord;
use crate::system::{Identity, System};
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::sync::atomic::AtomicBool;

/// The process that hosts us.
#[derive(Debug)]
pub(crate) struct Here {
    /// Its texts have a bounded length: they must fit into the tail of the record.
    pub(crate) identity: Identity,
    /// What the names of its flags begin with.
    pub(crate) flags: String,
    /// What its records say of it.
    pub(crate) members: Vec<u8>,
}

/// A workspace. The operations are in [`crate::staging`] and [`crate::lock`].
#[derive(Debug)]
pub struct Workspace<D, S> {
    pub(crate) root: Arc<D>,
    pub(crate) system: S,
    last_id: Cell<Option<(u64, u128)>>,
    here: RefCell<Option<Arc<Here>>>,
    /// The name of the staging directory is known to be durable.
    pub(crate) staging_is_durable: Cell<bool>,
    /// The names of the directories of the runs are known to be durable.
    pub(crate) runs_are_durable: Arc<AtomicBool>,
}

impl<D: Dir, S: System> Workspace<D, S> {
    /// The workspace in this directory.
    pub fn new(root: D, system: S) -> Self {
        Workspace {
            root: Arc::new(root),
            system,
            last_id: Cell::new(None),
            here: RefCell::default(),
            staging_is_durable: Cell::new(false),
            runs_are_durable: Arc::default(),
        }
    }

    /// The world outside.
    pub fn system(&self) -> &S {
        &self.system
    }

    /// The process that hosts us. It is asked for once, and again where it has become another one: a fork takes
    /// what it was told along.
    pub(crate) fn here(&self) -> Result<Arc<Here>> {
        let mut known = self.here.borrow_mut();
        if let Some(here) = &*known
            && here.identity.pid == self.system.pid()
        {
            return Ok(here.clone());
        }
        let mut identity = self.system.current();
        if identity.pid == 0 {
            // Checked before any file is made: a record with pid 0 would be stale from the start.
            return Err(Error::new(ErrorCode::Internal, "the host gives no process id; the lock needs one"));
        }
        let Identity { start, scope, .. } = &mut identity;
        for text in [start, &mut scope.machine, &mut scope.boot, &mut scope.pid_namespace] {
            text.truncate(clip(text).len());
        }
        let flags = FlagName::beginning(&identity);
        let start = (!identity.start.is_empty()).then_some(&*identity.start);
        let members = LockRecord::process_members(start, Some(&identity.scope));
        Ok(known.insert(Arc::new(Here { identity, flags, members })).clone())
    }

    /// A new id. Those that one workspace value makes ascend, also within a millisecond and when the
    /// clock is put back (RFC 9562, section 6.2, method 2: the random part is counted up by a random
    /// step).
    pub(crate) fn new_id(&self) -> EntryId {
        // The 74 bits that are not time, version or variant, of which the uppermost starts as 0 to
        // leave room for counting.
        const FRESH: u128 = (1 << 73) - 1;
        let mut random = [0u8; 16];
        self.system.random(&mut random);
        let random = u128::from_be_bytes(random);
        let now = self.system.now().millis();
        let (millis, bits) = match self.last_id.get() {
            Some((last_millis, last)) if now <= last_millis => {
                let next = last + 1 + (random & u128::from(u32::MAX));
                if next >> 74 == 0 { (last_millis, next) } else { (last_millis + 1, random & FRESH) }
            }
            _ => (now, random & FRESH),
        };
        self.last_id.set(Some((millis, bits)));
        // 12 bits beside the version, 62 beside the variant.
        let high = u16::try_from(bits >> 62).unwrap_or(0) & 0x0fff;
        let low = u64::try_from(bits & ((1 << 62) - 1)).unwrap_or(0);
        let mut parts = [0u8; 10];
        parts[..2].copy_from_slice(&high.to_be_bytes());
        parts[2..].copy_from_slice(&low.to_be_bytes());
        EntryId::from_parts(millis, parts)
    }

    /// The staging directory, or `None` if it is missing.
    pub(crate) fn staging(&self) -> Result<Option<D>> {
        open_existing(&*self.root, STAGING, STAGING)
    }

    /// The staging directory, created if it is missing. True if it was created.
    pub(crate) fn staging_or_create(&self) -> Result<(D, bool)> {
        open_or_create(&*self.root, STAGING, STAGING)
    }
}

/// An id that stands for a moment only.
pub(crate) fn fleeting_id(system: &impl System) -> EntryId {
    let mut random = [0u8; 10];
    system.random(&mut random);
    EntryId::from_parts(system.now().millis(), random)
}

/// Opens a directory; none if it is missing.
pub(crate) fn open_existing<D: Dir>(parent: &D, name: &str, path: &str) -> Result<Option<D>> {
    match parent.open_dir(name) {
        Ok(dir) => Ok(Some(dir)),
        Err(error) if error.kind == FsErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("open the directory", path, &error)),
    }
}

/// Opens a directory and one in it, creating what is missing.
pub(crate) fn open_or_create_nested<D: Dir>(
    parent: &D,
    (name, path): (&str, &str),
    (nested, nested_path): (&str, &str),
) -> Result<(D, D)> {
    // Most often both are there. If not, each step knows what it failed at.
    if let Ok(both) = parent.open_nested(name, nested) {
        return Ok(both);
    }
    let (dir, _) = open_or_create(parent, name, path)?;
    let (nested, _) = open_or_create(&dir, nested, nested_path)?;
    Ok((dir, nested))
}

/// Opens a directory, creating it if it is missing. True if it was created.
pub(crate) fn open_or_create<D: Dir>(parent: &D, name: &str, path: &str) -> Result<(D, bool)> {
    let mut created = false;
    // Another process may create it, or remove it, between any two of our steps.
    for _ in 0..8 {
        match parent.open_dir(name) {
            Ok(dir) => return Ok((dir, created)),
            Err(error) if error.kind == FsErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open the directory", path, &error)),
        }
        match parent.create_dir(name) {
            Ok(()) => created = true,
            // Either somebody created it just now, or a dangling symbolic link stands there, which
            // the next round refuses.
            Err(error) if error.kind == FsErrorKind::Exists => {}
            Err(error) => return Err(Error::io("create the directory", path, &error)),
        }
    }
    Err(Error::new(ErrorCode::Io, format!("the directory {path} is created and removed again and again"))
        .at(path))
}
