//! The heap of the `consolidate` program, whose life is some milliseconds. Nobody but a program may do this: the
//! settings are those of the whole process.
//!
//! A start touches some ninety pages of it, one after the other, and each page is a fault of its own, which takes
//! as long as a thousand instructions. Here they come in one call.
#![allow(unsafe_code, reason = "calls of the C library and of the kernel by pointer")]

use rustix::mm::{Advice, madvise};

/// What a short command uses of it.
const USED: usize = 360 << 10;
/// From this size on a block has a mapping of its own; glibc begins with a smaller one and goes up to 32 MiB by
/// itself, unless it is set.
const OWN_MAPPING: i32 = 1 << 20;
/// As much may be free at the end of the heap without going back to the kernel, in glibc's own proportion.
const KEPT: i32 = 2 * OWN_MAPPING;
const PAGE: usize = 4096;

/// Gets the pages that will be used. What can't be had now, by an older kernel or for a limit, comes one by one,
/// as it does without this.
pub(crate) fn prepare() {
    // SAFETY: mallopt(3) takes numbers, and how malloc gets its memory changes nothing of what it gives.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        // An arena for each thread is 64 MiB of address space, which a process with a limit (`ulimit -v`) has not,
        // and few threads of a command work at the same time.
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    let mut block = Vec::<u8>::new();
    if block.try_reserve_exact(USED).is_err() {
        return;
    }
    let begin = block.as_mut_ptr();
    let until_page = begin.align_offset(PAGE);
    let length = (block.capacity() - until_page) / PAGE * PAGE;
    // SAFETY: the pages are the block's. madvise(2), MADV_POPULATE_WRITE: they become present as if they had been
    // written to, and their content stays as it is.
    let _ = unsafe { madvise(begin.add(until_page).cast(), length, Advice::LinuxPopulateWrite) };
}
