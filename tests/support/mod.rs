//! What the tests share: temporary workspaces, files as other programs write them, a world of
//! processes ([`system`]) and a directory that fails on demand ([`faulty`]).

pub(crate) mod events;
pub(crate) mod faulty;
pub(crate) mod original;
pub(crate) mod plugin;
pub(crate) mod system;

use consolidation_guest::layout::{EntryId, LOCK, OWNERS, STAGING};
use consolidation_guest::native::NativeDir;
use consolidation_guest::record::LockRecord;
use consolidation_guest::time::to_rfc3339;
use consolidation_guest::workspace::Workspace;
use faulty::{Faults, FaultyDir};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use system::{TestSystem, wall_clock};
use tempfile::TempDir;

/// A payload that has nothing but what must be there.
pub(crate) const MINIMAL: &str = r#"{"source":{"segment_id":"conv-1/session-1","range":[0,17]}}"#;

/// A workspace in a temporary directory.
pub(crate) struct TestWorkspace(TempDir);

impl TestWorkspace {
    /// An empty root.
    pub(crate) fn new() -> Self {
        TestWorkspace(tempfile::tempdir().expect("a temporary directory"))
    }

    /// One with an empty staging directory.
    pub(crate) fn with_staging() -> Self {
        let workspace = TestWorkspace::new();
        fs::create_dir(workspace.staging()).expect("a staging directory");
        workspace
    }

    /// Its root.
    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Its staging directory, which may not exist.
    pub(crate) fn staging(&self) -> PathBuf {
        self.root().join(STAGING)
    }

    /// A path in the staging directory.
    pub(crate) fn staged(&self, name: &str) -> PathBuf {
        self.staging().join(name)
    }

    /// The path of the lock.
    pub(crate) fn lock(&self) -> PathBuf {
        self.staged(LOCK)
    }

    /// The path of a name among the owner flags.
    pub(crate) fn owner(&self, name: &str) -> PathBuf {
        self.staged(OWNERS).join(name)
    }

    /// As a process sees it.
    pub(crate) fn open(&self, system: &TestSystem) -> Workspace<NativeDir, TestSystem> {
        Workspace::new(NativeDir::open_path(self.root()).expect("the root opens"), system.clone())
    }

    /// As a process sees it that meets faults.
    pub(crate) fn open_faulty(
        &self,
        system: &TestSystem,
        faults: &Faults,
    ) -> Workspace<FaultyDir, TestSystem> {
        Workspace::new(FaultyDir::open_path(self.root(), faults), system.clone())
    }

    /// Writes a file into the staging directory, creating that if it is missing.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.staging()).expect("a staging directory");
        fs::write(self.staged(name), content).expect("a file in the staging directory");
    }

    /// Writes an entry, younger than all before it.
    pub(crate) fn put_entry(&self) -> EntryId {
        let id = new_entry_id();
        self.put(&id.file_name(), MINIMAL);
        id
    }

    /// Writes a file among the owner flags.
    pub(crate) fn put_owner(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.staged(OWNERS)).expect("a directory of owner flags");
        fs::write(self.owner(name), content).expect("an owner flag");
    }

    /// The bytes of the lock; none if there is nothing.
    pub(crate) fn lock_bytes(&self) -> Option<Vec<u8>> {
        fs::read(self.lock()).ok()
    }

    /// The record in the lock.
    pub(crate) fn lock_record(&self) -> LockRecord {
        let content = fs::read(self.lock()).expect("the lock is a file");
        LockRecord::parse(&content).expect("the lock is a record")
    }

    /// The names in the staging directory that are not hidden, with what is in them. Directories and
    /// links are not followed.
    pub(crate) fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        names(&self.staging())
            .into_iter()
            .filter(|name| !name.starts_with('.'))
            .map(|name| {
                let path = self.staged(&name);
                let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
                let content = if is_file { fs::read(path).unwrap_or_default() } else { Vec::new() };
                (name, content)
            })
            .collect()
    }

    /// The names of the owner flags.
    pub(crate) fn owners(&self) -> Vec<String> {
        names(&self.staged(OWNERS))
    }

    /// The names of writes in progress, or given up.
    pub(crate) fn temporaries(&self) -> Vec<String> {
        let mut names = names(&self.staging());
        names.retain(|name| name.ends_with(".tmp"));
        names
    }

    /// Is there neither lock nor flag nor a write in progress?
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        assert!(self.lock().symlink_metadata().is_err(), "the lock is still there");
        assert_eq!(self.owners(), [] as [String; 0], "owner flags are left");
        assert_eq!(self.temporaries(), [] as [String; 0], "temporary files are left");
    }
}

/// The names in a directory, sorted; none if it is missing.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// An id that is younger than all that this gave before.
pub(crate) fn new_entry_id() -> EntryId {
    static GIVEN: AtomicU64 = AtomicU64::new(0);
    entry_id(1_760_000_000_000 + GIVEN.fetch_add(1, Ordering::Relaxed), 1)
}

/// An id of this time in milliseconds.
pub(crate) fn entry_id(millis: u64, low: u64) -> EntryId {
    let text = format!("{:08x}-{:04x}-7000-8000-{low:012x}", millis >> 16 & 0xffff_ffff, millis & 0xffff);
    EntryId::parse(&text).expect("a canonical id")
}

/// A lock record as other programs write it and read it: these members and no others.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OriginalRecord {
    pub(crate) pid: u32,
    pub(crate) pod_name: String,
    pub(crate) started_at: String,
    pub(crate) consumed_ids: Vec<String>,
}

/// A lock file of the original format that was written just now.
pub(crate) fn original_record(pid: u32, pod_name: &str, consumed_ids: &[&str]) -> String {
    let record = OriginalRecord {
        pid,
        pod_name: pod_name.into(),
        started_at: to_rfc3339(wall_clock()),
        consumed_ids: consumed_ids.iter().map(ToString::to_string).collect(),
    };
    serde_json::to_string_pretty(&record).expect("a record is JSON")
}

/// Makes a file look as if it was written so many seconds ago; a negative number is in the future.
pub(crate) fn set_age(path: &Path, seconds: i64) {
    let age = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let time = if seconds >= 0 { now - age } else { now + age };
    let file = fs::File::options().write(true).open(path).expect("the file opens");
    file.set_modified(time).expect("the time is set");
}

/// Makes a named pipe.
#[cfg(unix)]
pub(crate) fn make_fifo(path: &Path) {
    let status = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
    assert!(status.success(), "mkfifo made no pipe");
}

/// What `work` returns. If it stops at the named pipe and waits for a writer, it is let go and the
/// test fails.
#[cfg(unix)]
#[track_caller]
pub(crate) fn without_waiting_at<T: Send + 'static>(
    fifo: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, wait) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        let _ = done.send(work());
    });
    match wait.recv_timeout(Duration::from_secs(10)) {
        Ok(result) => result,
        Err(_) => {
            // Opening it both ways does not wait, and lets a reader go on.
            let _pipe = fs::File::options().read(true).write(true).open(fifo);
            let _ = worker.join();
            panic!("waited for a writer of the named pipe {}", fifo.display());
        }
    }
}
