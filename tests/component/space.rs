//! File systems that are full or mounted read-only. They are mounted for the test, which takes root's
//! rights; without them the tests say so and pass.

#![cfg(target_os = "linux")]

use super::{POD, payload, payloads, refused, tree};
use crate::support::names;
use consolidation_host::{Durability, ErrorCode, Limits, LockStatus, Workspace};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A file system that is mounted until this is dropped.
struct Mounted {
    point: TempDir,
}

impl Mounted {
    /// None if this process may not mount.
    fn new(arguments: &[&str], source: &str) -> Option<Self> {
        let point = tempfile::tempdir().expect("a temporary directory");
        mount(arguments, source, point.path()).then_some(Mounted { point })
    }

    /// A file system in memory of this size, or with so many names.
    fn small(options: &str) -> Option<Self> {
        Mounted::new(&["-t", "tmpfs", "-o", options], "none")
    }

    /// A second, read-only view of a directory.
    fn read_only(directory: &Path) -> Option<Self> {
        let directory = directory.to_str().expect("a temporary directory has a plain name");
        let mounted = Mounted::new(&["--bind"], directory)?;
        mount(&["-o", "remount,bind,ro"], directory, mounted.root()).then_some(mounted)
    }

    fn root(&self) -> &Path {
        self.point.path()
    }

    fn open(&self) -> Workspace {
        Workspace::open(self.root()).expect("the workspace opens").with_durability(Durability::None)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a workspace may still have it open.
        let _ = Command::new("umount").arg("-l").arg(self.root()).stderr(Stdio::null()).status();
    }
}

fn mount(arguments: &[&str], source: &str, point: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(source).arg(point).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim());
            false
        }
        Err(error) => {
            eprintln!("skipped: there is no `mount`: {error}");
            false
        }
    }
}

/// What takes up all the bytes and all the names that are left, until it is dropped.
struct Filler(Vec<PathBuf>);

impl Filler {
    fn new(root: &Path) -> Self {
        // A small file system in memory with many bytes has few names, and the other way round.
        let few_names = rustix::fs::statvfs(root).expect("its size is known").f_favail < 1_000;
        let mut made = Vec::new();
        loop {
            let path = root.join(format!("filler-{}", made.len()));
            let Ok(mut file) = fs::File::create(&path) else { break };
            made.push(path);
            if !few_names {
                while file.write_all(&[b'x'; 512]).is_ok() {}
                break;
            }
        }
        assert!(!made.is_empty());
        Filler(made)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Full of bytes, and full of names.
const SMALL: [&str; 2] = ["size=512k", "size=8m,nr_inodes=64"];

#[test]
fn full_disk_fails_staging_and_leaves_nothing_half() {
    for options in SMALL {
        let Some(mounted) = Mounted::small(options) else { return };
        let workspace = mounted.open();
        let staged = workspace.stage_many(&payloads(3), None).expect("there is space");
        let filler = Filler::new(mounted.root());
        let before = names(&mounted.root().join("_staging"));
        for durability in [Durability::None, Durability::Full] {
            let workspace = workspace.with_durability(durability);
            let error = refused(workspace.stage(&payload(4)), ErrorCode::NoSpace);
            assert!(error.to_string().contains("free some space"), "{error}");
            let error = refused(workspace.stage_many(&payloads(20), None), ErrorCode::NoSpace);
            assert_eq!(error.staged(), [] as [String; 0]);
            assert_eq!(names(&mounted.root().join("_staging")), before, "{options}");
        }
        assert_eq!(workspace.list().expect("listed"), staged);
        assert_eq!(workspace.summarize().expect("counted").entries, 3);
        drop(filler);
        workspace.stage(&payload(4)).expect("there is space again");
    }
}

/// Some of the payloads fit.
#[test]
fn disk_that_becomes_full_in_the_middle_stages_nothing() {
    let Some(mounted) = Mounted::small("size=512k") else { return };
    let workspace = mounted.open();
    workspace.stage(&payload(1)).expect("there is space");
    let before = tree(mounted.root());
    let big = payload(2).replace("ask", &"x".repeat(50_000));
    let error = refused(workspace.stage_many(&vec![big; 30], None), ErrorCode::NoSpace);
    assert!(error.index().is_some_and(|index| index > 0), "{error:?}");
    assert_eq!(error.staged(), [] as [String; 0]);
    assert_eq!(tree(mounted.root()), before);
}

#[test]
fn full_disk_fails_acquire_and_leaves_no_half_lock() {
    for options in SMALL {
        for used_before in [true, false] {
            let Some(mounted) = Mounted::small(options) else { return };
            let workspace = mounted.open();
            if used_before {
                workspace.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
            }
            let filler = Filler::new(mounted.root());
            let error = refused(workspace.acquire(POD), ErrorCode::NoSpace);
            assert!(error.to_string().contains("free some space"), "{error}");
            let staging = mounted.root().join("_staging");
            assert!(!staging.join(".consolidation.lock").exists());
            assert_eq!(names(&staging.join(".owners")), [] as [String; 0]);
            assert_eq!(workspace.lock_status().expect("looked at"), LockStatus::Free);
            drop(filler);
            workspace.acquire(POD).expect("there is space again").release_only(None).expect("it is released");
        }
    }
}

#[test]
fn full_disk_leaves_the_stale_lock_to_the_next_run() {
    let Some(mounted) = Mounted::small("size=512k") else { return };
    let workspace = mounted.open();
    workspace.stage(&payload(1)).expect("there is space");
    let lock = mounted.root().join("_staging/.consolidation.lock");
    let stale = crate::support::original_record(u32::MAX, "pod-a", &[]);
    fs::write(&lock, &stale).expect("written");
    let filler = Filler::new(mounted.root());
    refused(workspace.acquire(POD), ErrorCode::NoSpace);
    assert_eq!(fs::read(&lock).expect("it is there"), stale.as_bytes());
    drop(filler);
    let lock = workspace.acquire(POD).expect("there is space again");
    assert!(lock.took_over().is_some());
    lock.release_only(None).expect("it is released");
}

#[test]
fn record_that_does_not_fit_leaves_the_earlier_one() {
    for options in SMALL {
        let Some(mounted) = Mounted::small(options) else { return };
        let workspace = mounted.open();
        let ids = workspace.stage_many(&payloads(30), None).expect("there is space");
        let lock = workspace.acquire(POD).expect("the lock is free");
        lock.record_consumed(&ids[..1]).expect("there is space");
        let before = fs::read(lock.path()).expect("the lock is there");
        let snapshot = lock.snapshot(Limits::default()).expect("taken");
        let filler = Filler::new(mounted.root());
        refused(lock.record_snapshot(&snapshot), ErrorCode::NoSpace);
        refused(lock.record_command_group(Some(7)), ErrorCode::NoSpace);
        assert_eq!(fs::read(lock.path()).expect("the lock is there"), before);
        let record = lock.record().expect("the record is at hand");
        assert_eq!(record.consumed_ids, ids[..1]);
        assert_eq!(record.command_group, None);
        assert!(!lock.is_lost());
        drop(snapshot);
        // There is no space for the outcome of the run, and without it nothing is deleted.
        refused(lock.release_with_cleanup(), ErrorCode::NoSpace);
        assert_eq!(workspace.list().expect("listed"), ids);
        assert_eq!(names(&mounted.root().join("_staging/.owners")), [] as [String; 0]);
        drop(filler);
        let lock = workspace.acquire(POD).expect("the lock is free");
        lock.record_consumed(&ids[..1]).expect("there is space");
        assert_eq!(lock.release_with_cleanup().expect("it is released").removed, 1);
        assert_eq!(workspace.list().expect("listed"), ids[1..]);
    }
}

#[test]
fn read_only_workspace_can_be_looked_at_and_not_changed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(mounted) = Mounted::read_only(directory.path()) else { return };
    let workspace = mounted.open();

    // Empty.
    assert_eq!(workspace.list().expect("listed"), [] as [String; 0]);
    assert_eq!(workspace.lock_status().expect("looked at"), LockStatus::Free);
    assert_eq!(workspace.unlock(POD, true, None).expect("there is nothing to remove"), None);
    for error in [
        refused(workspace.stage(&payload(1)), ErrorCode::ReadOnly),
        refused(workspace.acquire(POD), ErrorCode::ReadOnly),
    ] {
        assert!(error.to_string().contains("read-only"), "{error}");
    }

    // With entries and a lock that was never taken over.
    let writable = Workspace::open(directory.path()).expect("the workspace opens");
    let ids = writable.stage_many(&payloads(3), None).expect("staged");
    writable.acquire(POD).expect("the lock is free").release_only(None).expect("it is released");
    let lock = directory.path().join("_staging/.consolidation.lock");
    fs::write(lock, crate::support::original_record(u32::MAX, "pod-a", &[])).expect("written");
    let before = tree(directory.path());
    assert_eq!(workspace.list().expect("listed"), ids);
    assert_eq!(workspace.summarize().expect("counted").entries, 3);
    assert_eq!(workspace.read(&ids[1]).expect("read").id, ids[1]);
    let snapshot = workspace.snapshot(Limits::default()).expect("taken");
    assert_eq!(snapshot.next_batch(10, 1 << 20).expect("read").entries.len(), 3);
    assert!(matches!(workspace.lock_status(), Ok(LockStatus::Stale(_))));
    for error in [
        refused(workspace.stage(&payload(4)), ErrorCode::ReadOnly),
        refused(workspace.stage_many(&payloads(4), None), ErrorCode::ReadOnly),
        refused(workspace.acquire(POD), ErrorCode::ReadOnly),
        refused(workspace.unlock(POD, false, None), ErrorCode::ReadOnly),
        refused(workspace.unlock(POD, true, None), ErrorCode::ReadOnly),
    ] {
        assert!(error.to_string().contains("read-only"), "{error}");
    }
    assert_eq!(tree(directory.path()), before);
}

/// It was writable when the lock was taken.
#[test]
fn file_system_that_becomes_read_only_under_the_lock_is_told() {
    let Some(mounted) = Mounted::small("size=1m") else { return };
    let workspace = mounted.open();
    let ids = workspace.stage_many(&payloads(2), None).expect("staged");
    let lock = workspace.acquire(POD).expect("the lock is free");
    if !mount(&["-o", "remount,ro"], "none", mounted.root()) {
        return;
    }
    refused(lock.record_consumed(&ids), ErrorCode::ReadOnly);
    refused(lock.release_with_cleanup(), ErrorCode::ReadOnly);
    assert!(mount(&["-o", "remount,rw"], "none", mounted.root()));
    assert_eq!(workspace.list().expect("listed"), ids);
}
