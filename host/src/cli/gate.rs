//! `consolidate __gate CMD`, the process that becomes CMD.
//!
//! The lock record names the process group of the command, so that the lock counts as held while any
//! process of it lives, also when `consolidate` itself was killed. The group is known only once the
//! process exists. So it starts as this gate, which waits for one byte on standard input, sent after
//! the record is on disk; the rest of standard input is the command's. Invariant: if `consolidate`
//! dies before it has recorded the group, the gate reads the end of its input and CMD never runs.

use std::ffi::OsString;
use std::process::ExitCode;

/// The byte that opens the gate.
pub(super) const GO: u8 = b'\n';

/// As a shell does: the command was found and can't be run, or it was not found.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

#[cfg(unix)]
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;

    let mut byte = [0];
    // Not through `std::io::stdin`, whose buffer would take away what is the command's.
    let opened = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(File::from)
        .and_then(|mut input| input.read(&mut byte));
    if !matches!(opened, Ok(1)) || byte[0] != GO {
        say(format_args!("the run ended before its command was started"));
        return ExitCode::from(CANNOT_RUN);
    }
    let Some((program, rest)) = arguments.command.split_first() else {
        return ExitCode::from(NOT_FOUND);
    };
    let error = std::process::Command::new(program).args(rest).exec();
    say(format_args!("cannot run {}: {error}", program.display()));
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN })
}

/// `eprintln!` panics if standard error is full or closed.
#[cfg(unix)]
fn say(message: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "consolidate: {message}");
}

#[cfg(not(unix))]
pub(super) fn run(_: &Arguments) -> ExitCode {
    ExitCode::from(CANNOT_RUN)
}
