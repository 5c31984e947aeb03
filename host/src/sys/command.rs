//! What the command line needs of the system: its name, and processes that work for it.

use std::io;
use std::process::Stdio;

/// The host name; empty if there is none.
pub(crate) fn host_name() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_default();
}

/// A child's standard output that is our standard error.
pub(crate) fn stderr_as_stdio() -> io::Result<Stdio> {
    #[cfg(unix)]
    return std::os::fd::AsFd::as_fd(&io::stderr()).try_clone_to_owned().map(Stdio::from);
    #[cfg(not(unix))]
    return Ok(Stdio::null());
}

/// Sends a signal to every process of a group, if there is any.
pub(crate) fn signal_group(group: u32, signal: i32) {
    #[cfg(unix)]
    {
        use rustix::process::{Pid, Signal, kill_process_group};
        // Group 1 would be written as -1, which means every process there is.
        let group = i32::try_from(group).ok().filter(|group| *group > 1).and_then(Pid::from_raw);
        if let (Some(group), Some(signal)) = (group, Signal::from_named_raw(signal)) {
            // ESRCH: it ended just now, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
    #[cfg(not(unix))]
    let _ = (group, signal);
}
