//! The native build of the component's rules: the same steps on the same files, without a sandbox.

use super::process::ThisProcess;
use consolidation_guest::durable::Durability;
use consolidation_guest::layout::EntryId;
use consolidation_guest::lock::{AcquireOptions, Held};
use consolidation_guest::native::NativeDir;
use consolidation_guest::staging::Limits;
use consolidation_guest::workspace::Workspace;
use std::path::Path;

/// A workspace of the native build, as a pod uses it.
pub(crate) struct Native {
    pub(crate) workspace: Workspace<NativeDir, ThisProcess>,
    durability: Durability,
}

/// A lock of the native build.
pub(crate) type NativeLock = Held<NativeDir, ThisProcess>;

/// How many entries a batch has, and how many bytes; as much as the command line takes at once.
const BATCH: (u32, u64) = (1_000, 1 << 20);

/// How many entries a run takes, and how many are deleted between two renewals of the lease; as in the host.
const RUN: u64 = 50_000;
const CLEAN_UP: u32 = 500;

impl Native {
    pub(crate) fn open(root: &Path, durability: Durability) -> Native {
        let directory = NativeDir::open_path(root).expect("the directory opens");
        Native { workspace: Workspace::new(directory, ThisProcess), durability }
    }

    pub(crate) fn acquire(&self) -> NativeLock {
        let options = AcquireOptions {
            pod_name: "bench".into(),
            lease_seconds: Some(60),
            durability: self.durability,
            ..AcquireOptions::default()
        };
        self.workspace.acquire(&options).expect("the lock is free").0
    }

    pub(crate) fn stage(&self, payload: &str) {
        self.workspace.stage(&[payload], None, self.durability).expect("staged");
    }

    pub(crate) fn stage_many(&self, payloads: &[String]) -> Vec<String> {
        let ids = self.workspace.stage(payloads, None, self.durability).expect("staged");
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    /// Reads everything that is staged, and says how many entries that were.
    pub(crate) fn snapshot(&self) -> u64 {
        let mut snapshot = self.workspace.take_snapshot(Limits::default()).expect("taken");
        let mut entries = 0;
        loop {
            let batch = snapshot.next_batch(BATCH.0, BATCH.1);
            entries += batch.entries.len() as u64;
            if batch.done {
                return entries;
            }
        }
    }

    /// What a status asks for: how many entries there are, and who holds the lock.
    pub(crate) fn status(&self) -> u64 {
        self.workspace.lock_status().expect("looked at");
        self.workspace.summarize().expect("counted").entries
    }

    /// A lock that lists entries as consumed.
    pub(crate) fn acquire_for(&self, ids: &[String]) -> NativeLock {
        let mut lock = self.acquire();
        let ids = ids.iter().filter_map(|id| EntryId::parse(id)).collect();
        self.workspace.record_consumed(&mut lock, ids).expect("recorded");
        lock
    }

    /// Consolidates everything into nothing, in the steps of `Workspace::consolidate`, and says how many
    /// entries that were.
    pub(crate) fn run(&self) -> u64 {
        let mut lock = self.acquire();
        let limits = Limits { max_entries: Some(RUN), ..Limits::default() };
        let mut snapshot = self.workspace.take_snapshot(limits).expect("taken");
        let mut consumed = 0;
        while !snapshot.ids().is_empty() {
            self.workspace.record_snapshot(&mut lock, &mut snapshot).expect("recorded");
            loop {
                snapshot.fill().expect("listed");
                if snapshot.next_batch(100, BATCH.1).done {
                    break;
                }
            }
            self.workspace.record_snapshot(&mut lock, &mut snapshot).expect("recorded");
            loop {
                let report = lock.clean_up(CLEAN_UP).expect("deleted");
                consumed += report.removed;
                if report.left == 0 {
                    break;
                }
            }
            snapshot.advance(limits, false).expect("goes on");
        }
        lock.release_only(None).expect("released");
        consumed
    }
}
