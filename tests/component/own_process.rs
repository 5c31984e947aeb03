//! Tests that need a process for themselves: to count its descriptors, or to run without root's
//! rights.

use std::env;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// Set in the process that runs the body of a test.
const CHILD: &str = "CONSOLIDATION_TEST_CHILD";

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// Runs the body of the test of this name in a process of its own.
#[track_caller]
pub(super) fn alone(test: &str, body: impl FnOnce()) {
    if env::var_os(CHILD).is_some() {
        body();
    } else {
        run(test, |_| ());
    }
}

/// The same; `check` then looks at what the process printed.
#[track_caller]
pub(super) fn alone_and_heard(test: &str, body: impl FnOnce(), check: impl FnOnce(&str)) {
    if env::var_os(CHILD).is_some() {
        body();
    } else if let Some(printed) = run(test, |_| ()) {
        check(&printed);
    }
}

/// Runs the body of the test of this name as a user whose access the kernel checks.
#[track_caller]
pub(super) fn without_privileges(test: &str, body: impl FnOnce()) {
    if env::var_os(CHILD).is_some() || !rustix::process::geteuid().is_root() {
        body();
    } else {
        run(test, |command| {
            // Folders of root's may be closed to it.
            command.uid(NOBODY).gid(NOBODY).current_dir("/").env_remove("TMPDIR");
        });
    }
}

#[track_caller]
fn run(test: &str, prepare: impl FnOnce(&mut Command)) -> Option<String> {
    let program = env::current_exe().expect("the test program has a path");
    let mut command = Command::new(program);
    // The name within this program; `module_path!` puts the program's own before it.
    let name = test.split_once("::").map_or(test, |(_, name)| name);
    command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").stdin(Stdio::null());
    prepare(&mut command);
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("skipped: another user can't start the test program: {error}");
            return None;
        }
        Err(error) => panic!("the test program can't be started: {error}"),
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && printed.contains("1 passed"),
        "in its own process: {}\n{printed}{errors}",
        output.status
    );
    Some(format!("{printed}{errors}"))
}
