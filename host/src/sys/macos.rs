//! Evidence on macOS, from `proc_pidinfo` and `sysctl`. Untested: it was written from the headers
//! and never ran. Invariant: what a call refuses to tell stays empty, and the process "running".

#![allow(unsafe_code, reason = "these calls have no safe wrapper among the dependencies")]

use super::{Evidence, Identity, ProcessState, machine, unix};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::mem::{self, MaybeUninit};
use std::ptr;

pub(super) fn identity(pid: u32) -> Identity {
    Identity {
        pid,
        start: info(pid).map(|info| start(&info)).unwrap_or_default(),
        machine: machine(&host_uuid(), &unix::host_name()),
        boot: sysctl_string(c"kern.bootsessionuuid"),
        // There is one namespace for all; it is named so that two parts of it are equal.
        pid_namespace: "global".to_owned(),
    }
}

/// A process that `kill` found. One of another user can't be looked at and stays "running".
pub(super) fn group_may_run(_pgid: u32) -> bool {
    true
}

pub(super) fn look(pid: u32) -> Evidence {
    match info(pid) {
        None => Evidence::bare(ProcessState::Running),
        Some(info) => Evidence {
            state: if info.pbi_status == libc::SZOMB { ProcessState::Zombie } else { ProcessState::Running },
            start: start(&info),
            started_at_ms: info.pbi_start_tvsec.checked_mul(1000).map(|ms| ms + info.pbi_start_tvusec / 1000),
        },
    }
}

fn start(info: &libc::proc_bsdinfo) -> String {
    format!("{}.{:06}", info.pbi_start_tvsec, info.pbi_start_tvusec)
}

fn info(pid: u32) -> Option<libc::proc_bsdinfo> {
    let raw = i32::try_from(pid).ok()?;
    let size = i32::try_from(mem::size_of::<libc::proc_bsdinfo>()).ok()?;
    let mut info = MaybeUninit::<libc::proc_bsdinfo>::uninit();
    // An argument of 1 asks for zombies too.
    // SAFETY: the buffer is writable, aligned, and `size` bytes long.
    let written =
        unsafe { libc::proc_pidinfo(raw, libc::PROC_PIDTBSDINFO, 1, info.as_mut_ptr().cast(), size) };
    if written != size {
        return None;
    }
    // SAFETY: the call filled the whole struct, which is made of integers.
    let info = unsafe { info.assume_init() };
    (info.pbi_pid == pid).then_some(info)
}

fn host_uuid() -> String {
    let mut uuid = [0u8; 16];
    let wait = libc::timespec { tv_sec: 1, tv_nsec: 0 };
    // SAFETY: the call writes 16 bytes to the first pointer and reads the second.
    if unsafe { libc::gethostuuid(uuid.as_mut_ptr(), &wait) } != 0 || uuid == [0; 16] {
        return String::new();
    }
    uuid.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sysctl_string(name: &CStr) -> String {
    let mut buffer = [0u8; 128];
    let mut length = buffer.len();
    // SAFETY: the name ends with NUL, `length` is the size of the writable buffer, and nothing is
    // set.
    let answer = unsafe {
        libc::sysctlbyname(name.as_ptr(), buffer.as_mut_ptr().cast(), &mut length, ptr::null_mut(), 0)
    };
    if answer != 0 {
        return String::new();
    }
    match CStr::from_bytes_until_nul(&buffer) {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => String::new(),
    }
}
