//! Answers of the kernel that no file system and no sandbox here gives by itself, put in its place by
//! `strace`. Without a strace that may do so the tests say so and pass.

use super::process::{CONSOLIDATE, Program, Ran, ids_in, payloads, wait_until};
use crate::support::{TestWorkspace, original_record};

/// `consolidate` with this fault; of its first thread, which makes all calls that matter.
fn with_fault(workspace: &TestWorkspace, call: &str, fault: &str, arguments: &[&str]) -> Program {
    let inject = format!("inject={call}:{fault}");
    Program::new("strace")
        .args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, CONSOLIDATE])
        .args(arguments)
        .current_dir(workspace.root())
}

fn possible() -> bool {
    let ran = Program::shell("strace -o /dev/null -e trace=openat2 -e inject=openat2:error=EIO true").run();
    if !ran.status.success() {
        eprintln!("skipped: there is no strace that may put faults in: {}", ran.err.trim());
    }
    ran.status.success()
}

const RUN: [&str; 5] = ["run", "--json", "--", "sh", "-c"];

fn run_with_fault(workspace: &TestWorkspace, call: &str, fault: &str) -> Ran {
    let arguments = [&RUN[..], &["cat > got && mv got done"]].concat();
    with_fault(workspace, call, fault, &arguments).run()
}

/// A sandbox that forbids to ask about processes proves nothing about any of them.
#[test]
fn probe_that_is_denied_never_makes_an_owner_dead() {
    if !possible() {
        return;
    }
    let workspace = TestWorkspace::new();
    let ids = workspace.stage(1);
    let live = Program::new("sleep").args(["60"]).start();
    let mut ended = Program::new("true").start();
    wait_until("it has ended", || ended.has_ended());
    for errno in ["EPERM", "EACCES", "ENOSYS", "EINVAL"] {
        for pid in [live.pid(), ended.pid()] {
            let record = original_record(pid, "pod-b", &[]);
            workspace.put(".consolidation.lock", &record);
            let fault = format!("error={errno}");
            let ran = run_with_fault(&workspace, "kill", &fault);
            assert_eq!(ran.status.code(), Some(75), "{errno}: {ran:?}");
            let error = ran.json_error();
            assert_eq!((&error["code"], &error["owner"]["pid"]), (&"in_use".into(), &pid.into()), "{errno}");
            let status = with_fault(&workspace, "kill", &fault, &["status", "--json"]).run().exits(0).json();
            assert_eq!(status["lock"]["state"], "held", "{errno}");
            with_fault(&workspace, "kill", &fault, &["unlock"]).run().exits(75);
            assert_eq!(workspace.lock_bytes().as_deref(), Some(record.as_bytes()), "{errno}");
            assert_eq!(workspace.ids(), ids);
        }
    }
    // Nothing is denied any more: the last one is dead.
    workspace.run_shell(&[], "cat > lines").run().exits(0);
    workspace.assert_nothing_left();
}

/// A network file system says ESTALE for a file that a peer has just removed.
#[test]
fn file_that_went_stale_at_any_look_loses_nothing_and_blocks_nobody() {
    if !possible() {
        return;
    }
    for call in ["openat2", "statx", "pread64"] {
        let mut met = 0;
        for number in 1..200 {
            let workspace = TestWorkspace::new();
            let ids = workspace.stage(3);
            workspace.put(".consolidation.lock", original_record(u32::MAX, "pod-dead", &[]));
            let ran = run_with_fault(&workspace, call, &format!("error=ESTALE:when={number}"));
            let what = format!("{call} {number}: {}{}", ran.out, ran.err);
            // It hit the loader of the program and not the program.
            if ran.err.contains("loading shared libraries") {
                continue;
            }
            let done = ids_in(&workspace.text("done"));
            let left = workspace.ids();
            for id in &ids {
                assert!(left.contains(id) || done.contains(id), "{id} is lost: {what}");
            }
            assert!(!ran.err.contains("panicked"), "{what}");
            match ran.status.code() {
                Some(0) => assert!(left.iter().all(|id| !done.contains(id)), "{what}"),
                Some(70 | 74 | 75) => drop(ran.json_error()),
                _ => panic!("{what}"),
            }
            let next = workspace.run_shell(&["--wait", "25"], "cat > lines").run();
            assert_eq!(next.status.code(), Some(0), "{what}\n{}", next.err);
            assert_eq!(workspace.ids(), [] as [String; 0], "{what}");
            // A temporary file whose creation was reported as failed goes when it is old.
            assert!(!workspace.lock().exists(), "{what}: the lock is still there");
            assert_eq!(workspace.owners(), [] as [String; 0], "{what}: owner flags are left");
            // Past the last call of a run nothing is put in any more.
            if ran.status.success() && done == ids && number > 5 {
                met += 1;
                if met > 5 {
                    break;
                }
            } else {
                met = 0;
            }
        }
    }
}

/// Some file systems can't synchronise a directory, and say so after the name is there.
#[test]
fn synchronisation_that_is_refused_never_makes_the_report_untrue() {
    if !possible() {
        return;
    }
    for call in ["fsync", "fdatasync"] {
        for errno in ["EINVAL", "EOPNOTSUPP", "EBADF", "EIO"] {
            for when in ["1", "2", "3", "4", "5", "1+"] {
                let what = format!("{call} {errno} {when}");
                let workspace = TestWorkspace::new();
                let fault = format!("error={errno}:when={when}");
                let ran =
                    with_fault(&workspace, call, &fault, &["--json", "stage"]).input(payloads(0..3)).run();
                let staged = if ran.status.success() {
                    ran.json()["staged"].take()
                } else {
                    assert_eq!(ran.status.code(), Some(74), "{what}: {}", ran.err);
                    ran.json_error()["staged"].take()
                };
                let staged: Vec<&str> = staged
                    .as_array()
                    .map_or(Vec::new(), |ids| ids.iter().filter_map(|id| id.as_str()).collect());
                let ids = workspace.ids();
                assert!(staged.iter().all(|id| ids.iter().any(|there| there == id)), "{what}: {}", ran.out);
                if ran.status.success() {
                    assert_eq!(staged, ids, "{what}");
                }
                if errno == "EINVAL" && call == "fsync" && ids.len() == 3 {
                    let ran = run_with_fault(&workspace, call, &fault);
                    let told = format!("{what}: {}{}", ran.out, ran.err);
                    match ran.status.code() {
                        Some(0) => assert_eq!(workspace.ids(), [] as [String; 0], "{told}"),
                        Some(74) => assert_eq!(workspace.ids(), ids, "{told}"),
                        _ => panic!("{told}"),
                    }
                }
                workspace.run_shell(&[], "cat > lines").run().exits(0);
                workspace.assert_nothing_left();
            }
        }
    }
}
