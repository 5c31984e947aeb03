//! Which system calls `consolidate` makes in its workspace, as `strace` sees them. Without a strace that may
//! trace the tests say so and pass. What the rules ask for natively is pinned in `rules::calls`: what is more
//! here is what the sandbox adds, and is explained in `docs/performance.md`.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

use super::process::{CONSOLIDATE, Program, payloads};
use crate::support::TestWorkspace;
use std::collections::BTreeMap;
use std::fs;

fn possible() -> bool {
    let ran = Program::shell("strace -y -o /dev/null true").run();
    if !ran.status.success() {
        eprintln!("skipped: there is no strace that may trace: {}", ran.err.trim());
    }
    // Another implementation of WASI makes other calls.
    ran.status.success() && consolidation_host::measure::WASI == "lean"
}

type Counts = BTreeMap<String, usize>;

/// The calls that name something in the workspace, or a file of it that is open. Without those that a debug
/// build of the standard library makes to see whether a file is open that it closes.
fn calls_of(workspace: &TestWorkspace, arguments: &[&str], input: String) -> Counts {
    let logs = tempfile::tempdir().expect("a temporary directory");
    let log = logs.path().join("log");
    Program::new("strace")
        .args(["-qq", "-y", "-s", "0", "-e", "signal=none", "-o"])
        .args([log.as_os_str()])
        .args([CONSOLIDATE, "--root"])
        .args([workspace.root()])
        .args(arguments)
        .current_dir(logs.path())
        .input(input)
        .run()
        .exits(0);
    let root = workspace.root().canonicalize().expect("it is there");
    let root = root.to_str().expect("it is UTF-8");
    let log = fs::read_to_string(log).expect("strace has written");
    let mut counts = Counts::new();
    for line in log.lines().filter(|line| line.contains(root) && !line.starts_with("fcntl")) {
        let call = line.split('(').next().unwrap_or(line);
        *counts.entry(call.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// The most frequent first.
fn told(counts: Counts) -> String {
    let mut counts: Vec<(String, usize)> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let counts: Vec<String> = counts.iter().map(|(call, count)| format!("{count} {call}")).collect();
    counts.join(", ")
}

/// What ten more entries add.
fn added(few: &Counts, mut many: Counts) -> String {
    for (call, count) in &mut many {
        *count -= few.get(call).copied().unwrap_or(0);
    }
    told(many)
}

/// One that has seen a run, so that nothing has to be created, with so many entries.
fn workspace(entries: usize) -> TestWorkspace {
    let workspace = TestWorkspace::new();
    workspace.stage(1);
    workspace.run_shell(&[], "cat > /dev/null").run().exits(0);
    if entries > 0 {
        workspace.stage(entries);
    }
    workspace
}

/// For `pow`, which is all that is asked of it: `host/src/sys/pow.rs`.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn start_loads_no_library_of_mathematics() {
    let program = fs::read(CONSOLIDATE).expect("it was built");
    let names = |name: &[u8]| program.windows(name.len()).any(|bytes| bytes == name);
    assert!(names(b"libc.so.6\0"), "what is loaded is named otherwise by now");
    assert!(!names(b"libm.so.6\0"));
}

#[test]
fn staging_makes_just_these_system_calls() {
    if !possible() {
        return;
    }
    let workspace = workspace(0);
    let stage = |entries| calls_of(&workspace, &["stage"], payloads(0..entries));
    let few = stage(1);
    insta::assert_snapshot!(added(&few, stage(11)), @"10 close, 10 fsync, 10 openat, 10 pwrite64, 10 renameat");
    insta::assert_snapshot!(told(few), @"3 fsync, 3 openat, 2 close, 1 open, 1 pwrite64, 1 readlink, 1 renameat");
}

#[test]
fn status_makes_just_these_system_calls() {
    if !possible() {
        return;
    }
    let status = |entries| calls_of(&workspace(entries), &["status"], String::new());
    let few = status(1);
    insta::assert_snapshot!(added(&few, status(11)), @"");
    insta::assert_snapshot!(told(few), @"7 openat, 6 getdents64, 5 close, 3 lseek, 2 newfstatat, 1 open, 1 readlink");
}

/// The command has no descriptor of the workspace, and is not followed.
#[test]
fn run_makes_just_these_system_calls() {
    if !possible() {
        return;
    }
    let run = |entries| calls_of(&workspace(entries), &["run", "--", "true"], String::new());
    let few = run(1);
    insta::assert_snapshot!(added(&few, run(11)), @"10 close, 10 newfstatat, 10 openat, 10 pread64, 10 unlinkat");
    insta::assert_snapshot!(told(few), @"21 openat, 17 close, 13 newfstatat, 12 getdents64, 6 lseek, 6 pread64, 5 fsync, 4 pwrite64, 4 renameat, 4 unlinkat, 1 linkat, 1 open, 1 readlink");
}
