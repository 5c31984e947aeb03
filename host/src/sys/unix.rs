//! What every Unix has: `kill` with signal 0, `statvfs` and limits.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process, test_kill_process_group};
use std::path::Path;

/// `kill(pid, 0)`.
pub(super) fn pid_alive(pid: u32) -> bool {
    match positive(pid) {
        Some(pid) => is_alive(test_kill_process(pid)),
        None => false,
    }
}

/// `kill(-pgid, 0)`.
pub(super) fn group_alive(pgid: u32) -> bool {
    match positive(pgid) {
        // kill(-1, 0) asks for any process at all, not for group 1.
        Some(group) if group != Pid::INIT => is_alive(test_kill_process_group(group)),
        _ => false,
    }
}

/// An id as `kill` takes it. 0 would mean our own process group, and what does not fit in an `i32`
/// would turn negative, which means a group or everybody: no process has such ids.
fn positive(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Only ESRCH says that there is no such process. EPERM says that there is one, of another user, and
/// any other answer (a sandbox may deny the call) says nothing.
fn is_alive(answer: Result<(), Errno>) -> bool {
    answer != Err(Errno::SRCH)
}

pub(super) fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|about| about.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

pub(super) fn address_space_is_limited() -> bool {
    rustix::process::getrlimit(rustix::process::Resource::As).current.is_some()
}

/// The host name.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_esrch_means_dead() {
        assert!(is_alive(Ok(())));
        assert!(!is_alive(Err(Errno::SRCH)));
        for errno in [Errno::PERM, Errno::INVAL, Errno::NOSYS, Errno::ACCESS] {
            assert!(is_alive(Err(errno)), "{errno}");
        }
    }

    #[test]
    fn ids_outside_of_1_to_i32_max_never_reach_kill() {
        assert_eq!(positive(0), None);
        assert_eq!(positive(1 << 31), None);
        assert_eq!(positive(u32::MAX), None);
        assert!(positive(i32::MAX as u32).is_some());
        assert!(!group_alive(0));
        assert!(!group_alive(1));
        assert!(!group_alive(u32::MAX));
    }

    #[test]
    fn own_process_and_group_are_alive() {
        assert!(pid_alive(std::process::id()));
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        assert!(group == 1 || group_alive(group.cast_unsigned()));
    }
}
