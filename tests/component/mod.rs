//! The host library with the real component: what an embedder sees, on real directories, with real
//! processes.

#![cfg(unix)]

mod consolidate;
mod events;
mod faults;
mod kept;
mod lock;
mod own_process;
pub(crate) mod patched;
mod roots;
mod runs;
mod sandbox;
mod scale;
mod space;
mod staging;
mod threads;

use crate::support::TestWorkspace;
use consolidation_host::{Durability, Error, ErrorCode, Runtime, Workspace};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The pod that takes locks in these tests.
const POD: &str = "pod-b";

/// Long enough for anything that is bound to happen, on a machine that has other things to do.
const LONG: Duration = Duration::from_secs(60);

/// A handle that does not synchronise what it stages.
fn open(workspace: &TestWorkspace) -> Workspace {
    Workspace::open(workspace.root()).expect("the workspace opens").with_durability(Durability::None)
}

/// The same, with another runtime.
fn open_with(runtime: &Runtime, workspace: &TestWorkspace) -> Workspace {
    runtime.open(workspace.root()).expect("the workspace opens").with_durability(Durability::None)
}

/// A payload that tells its number.
fn payload(number: u64) -> String {
    format!(
        r#"{{"source": {{"segment_id": "segment-{number}", "range": [{number}, {}]}}, "requests": [{{"intent": "ask", "summary": "number {number}"}}]}}"#,
        number + 9
    )
}

/// As many payloads.
fn payloads(count: u64) -> Vec<String> {
    (0..count).map(payload).collect()
}

/// The error, which has this code.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode) -> Error {
    let error = result.expect_err("it is refused");
    assert_eq!(error.code(), code, "{error}");
    error
}

/// Waits until it is so.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that runs until this is dropped.
struct Running(Child);

impl Running {
    fn start() -> Self {
        let sleep = Command::new("sleep").arg("3600").stdin(Stdio::null()).spawn();
        Running(sleep.expect("sleep is started"))
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What stands in a directory and below it: for a file its content, for a link its target, for
/// anything else what it is. Nothing is followed.
/// The outcomes of runs are left out: they have tests of their own.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).expect("the directory is listed").flatten() {
            let path = entry.path();
            if path.ends_with(consolidation_guest::layout::RUNS) {
                continue;
            }
            let kind = entry.file_type().expect("its type is known");
            let content = if kind.is_file() {
                fs::read(&path).expect("the file is read")
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).expect("the link is read");
                format!("-> {}", target.display()).into_bytes()
            } else {
                if kind.is_dir() {
                    open.push(path.clone());
                }
                format!("{kind:?}").into_bytes()
            };
            found.insert(path, content);
        }
    }
    found
}

/// Reads a snapshot to its end.
#[track_caller]
fn read_all(snapshot: &consolidation_host::Snapshot<'_>) {
    while !snapshot.next_batch(1_000, 1 << 20).expect("read").done {}
}
