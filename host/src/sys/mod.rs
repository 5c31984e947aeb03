//! Calls of the operating system, the only place for them and for `unsafe`. Invariant: a process
//! counts as absent only if the system says so; whatever is unclear counts as running.

#[cfg(feature = "cli")]
pub(crate) mod command;
#[cfg(lean_wasi)]
pub(crate) mod files;
#[cfg(all(feature = "cli", target_os = "linux", target_env = "gnu"))]
pub(crate) mod heap;
pub(crate) mod image;
#[cfg(all(feature = "compile", feature = "plugins"))]
pub(crate) mod own;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(unix)]
mod unix;

#[cfg(any(target_os = "linux", target_os = "android"))]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
use unknown as platform;

use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A process and where its id has a meaning. What the platform can't tell is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// When it started, in the platform's unit.
    pub(crate) start: String,
    pub(crate) machine: String,
    pub(crate) boot: String,
    pub(crate) pid_namespace: String,
}

/// What is known of a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Absent,
    Running,
    Zombie,
}

/// Evidence about one process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Evidence {
    pub(crate) state: ProcessState,
    /// As in [`Identity::start`].
    pub(crate) start: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub(crate) started_at_ms: Option<u64>,
}

impl Evidence {
    /// A state and nothing more.
    fn bare(state: ProcessState) -> Evidence {
        Evidence { state, start: String::new(), started_at_ms: None }
    }
}

/// Is there a process with this id, be it a zombie?
pub(crate) fn pid_alive(pid: u32) -> bool {
    #[cfg(unix)]
    return unix::pid_alive(pid);
    #[cfg(not(unix))]
    return unknown::alive(pid);
}

/// Is any process left in the group?
pub(crate) fn group_alive(pgid: u32) -> bool {
    #[cfg(unix)]
    return unix::group_alive(pgid) && platform::group_may_run(pgid);
    #[cfg(not(unix))]
    return unknown::alive(pgid);
}

/// Everything that is known of a process id.
pub(crate) fn inspect(pid: u32) -> Evidence {
    if !pid_alive(pid) {
        return Evidence::bare(ProcessState::Absent);
    }
    let seen = platform::look(pid);
    // It may have ended and been collected between the two looks: nothing was seen, and that is
    // taken for "running" unless the system now says otherwise.
    if seen.start.is_empty() && seen.state == ProcessState::Running && !pid_alive(pid) {
        return Evidence::bare(ProcessState::Absent);
    }
    seen
}

/// The process we are in. Computed once, and again in a child that was forked.
pub(crate) fn identity() -> Identity {
    static CACHED: Mutex<Option<Identity>> = Mutex::new(None);
    let pid = std::process::id();
    let mut cached = CACHED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*cached {
        Some(identity) if identity.pid == pid => identity.clone(),
        _ => cached.insert(platform::identity(pid)).clone(),
    }
}

/// Is the file system that holds `path` mounted read-only?
pub(crate) fn is_read_only(path: &Path) -> bool {
    #[cfg(unix)]
    return unix::is_read_only(path);
    #[cfg(not(unix))]
    return {
        let _ = path;
        false
    };
}

/// Is there a limit to the address space of this process (`ulimit -v`)?
pub(crate) fn address_space_is_limited() -> bool {
    #[cfg(unix)]
    return unix::address_space_is_limited();
    #[cfg(not(unix))]
    false
}

/// Where nothing tells processes apart: every id counts as alive.
#[cfg_attr(
    any(target_os = "linux", target_os = "android", target_os = "macos"),
    allow(dead_code, reason = "compiled everywhere so that it can't rot")
)]
mod unknown {
    use super::{Evidence, Identity, ProcessState};

    pub(super) fn alive(_id: u32) -> bool {
        true
    }

    pub(super) fn group_may_run(_pgid: u32) -> bool {
        true
    }

    pub(super) fn look(_pid: u32) -> Evidence {
        Evidence::bare(ProcessState::Running)
    }

    pub(super) fn identity(pid: u32) -> Identity {
        Identity { pid, ..Identity::default() }
    }
}

/// A machine's name: its id and its host name, or nothing if either is unknown, because half a name
/// would match machines that have nothing else in common.
fn machine(id: &str, host_name: &str) -> String {
    let (id, host_name) = (id.trim(), host_name.trim());
    if id.is_empty() || host_name.is_empty() {
        return String::new();
    }
    format!("{id}/{host_name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_is_empty_unless_both_parts_are_known() {
        assert_eq!(machine("4f2a\n", "worker-1"), "4f2a/worker-1");
        assert_eq!(machine("", "worker-1"), "");
        assert_eq!(machine("4f2a", " "), "");
    }

    #[test]
    fn own_process_is_running_with_the_start_of_its_identity() {
        let identity = identity();
        let seen = inspect(identity.pid);
        assert_eq!(identity.pid, std::process::id());
        assert_eq!(seen.state, ProcessState::Running);
        assert_eq!(seen.start, identity.start);
    }

    #[test]
    fn ids_that_no_process_can_have_are_absent() {
        for pid in [0, 1 << 31, u32::MAX] {
            if cfg!(unix) {
                assert!(!pid_alive(pid));
                assert_eq!(inspect(pid).state, ProcessState::Absent);
            }
        }
    }
}
