//! What the standard library would bring to the component, and what it would want of the host for it: its
//! start looks at the environment and the standard streams. Invariant: there is one thread.
#![allow(
    unsafe_code,
    reason = "the interface of the component model for memory, and a static without threads"
)]

use crate::bindings::wasi::cli::stderr;
use crate::prelude::*;
use alloc::alloc::{alloc as allocate, handle_alloc_error, realloc as reallocate};
use core::alloc::Layout;
use core::ops::Deref;
use core::panic::PanicInfo;
use core::{ptr, slice};

#[cfg(target_feature = "atomics")]
compile_error!("the component is made for one thread");

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Compiled code takes this for granted, and C libraries for WebAssembly compare byte by byte.
///
/// # Safety
/// As of `memcmp` of C: both have so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: the caller promises that both have so many bytes.
    let (one, other) = unsafe { (slice::from_raw_parts(one, len), slice::from_raw_parts(other, len)) };
    let words = |bytes| <[u8]>::as_chunks::<8>(bytes).0.iter().map(|word| u64::from_ne_bytes(*word));
    let same = words(one).zip(words(other)).take_while(|(one, other)| one == other).count() * 8;
    let pairs = one[same..].iter().zip(&other[same..]);
    pairs
        .map(|(one, other)| i32::from(*one) - i32::from(*other))
        .find(|difference| *difference != 0)
        .unwrap_or(0)
}

/// Says why on standard error, for the message of the trap.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let words = format!("{info}\n");
    // A write takes 4096 bytes at most.
    let words = &words.as_bytes()[..words.len().min(4096)];
    let _ = stderr::get_stderr().blocking_write_and_flush(words);
    core::arch::wasm32::unreachable()
}

/// Where the host puts what it passes.
///
/// # Safety
/// As the canonical ABI of the component model says of `realloc`.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *mut u8, old_len: usize, align: usize, len: usize) -> *mut u8 {
    // SAFETY: the caller promises a layout that is valid, and that `old` was allocated here with it.
    let new = unsafe {
        match (old_len, len) {
            (0, 0) => return ptr::without_provenance_mut(align),
            (0, _) => allocate(Layout::from_size_align_unchecked(len, align)),
            (..) => reallocate(old, Layout::from_size_align_unchecked(old_len, align), len),
        }
    };
    if new.is_null() { handle_alloc_error(Layout::new::<u8>()) } else { new }
}

/// A static of a type that threads could not share.
pub(crate) struct Single<T>(T);

// SAFETY: there is one thread, or this module does not compile.
unsafe impl<T> Sync for Single<T> {}

impl<T> Single<T> {
    pub(crate) const fn new(value: T) -> Self {
        Single(value)
    }
}

impl<T> Deref for Single<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
