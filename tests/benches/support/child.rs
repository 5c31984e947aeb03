//! This program once more, as a process of its own that does one thing and prints what it found: one line for
//! each, a name and numbers.

use std::process::{Command, Stdio};

/// What tells it that it is one.
pub(crate) const CHILD: &str = "--child";

/// Such a process, to be started.
pub(crate) fn command(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args([CHILD, what]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// The lines that a process printed. Panics if it failed.
pub(crate) fn lines(started: std::process::Child) -> Vec<(String, Vec<f64>)> {
    let ran = started.wait_with_output().expect("waited for");
    assert!(ran.status.success(), "a process of the benchmarks: {}", ran.status);
    let text = String::from_utf8(ran.stdout).expect("it prints text");
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        Some((name, words.map(|word| word.parse().expect("a number")).collect()))
    };
    text.lines().filter_map(line).collect()
}
