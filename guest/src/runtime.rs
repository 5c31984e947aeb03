//! What the standard library would bring to the component, and what it would want of the host for it: its
//! start looks at the environment and the standard streams. Invariant: there is one thread.
#![allow(
    unsafe_code,
    reason = "the interface of the component model for memory, and a static without threads"
)]

use crate::bindings::wasi::cli::stderr;
use crate::prelude::*;
use alloc::alloc::{alloc as allocate, handle_alloc_error, realloc as reallocate};
use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;
use core::ops::Deref;
use core::panic::PanicInfo;
use core::{ptr, slice};
use dlmalloc::GlobalDlmalloc;

#[cfg(target_feature = "atomics")]
compile_error!("the component is made for one thread");

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// dlmalloc, and before it what was freed last: a call makes some dozens of short texts and frees them again, each
/// of a size that the one before had too, and to look for a place for each took a tenth of its time.
struct Allocator;

/// Blocks come in multiples of that, up to [`SMALL`].
const STEP: usize = 32;
const SMALL: usize = 2048;
/// How many blocks of a size are kept: those of the entries that are handed over at once. Four megabytes in all, were
/// it so many of each size.
const KEPT: u32 = 64;

/// Blocks of one size that are free. The first word of each is where the next one is.
struct Free {
    first: Cell<*mut u8>,
    count: Cell<u32>,
}

static FREE: Single<[Free; SMALL / STEP]> =
    Single::new([const { Free { first: Cell::new(ptr::null_mut()), count: Cell::new(0) } }; SMALL / STEP]);

/// Which of them a block comes from, and what its size is there; none for those that are large or aligned to
/// more than dlmalloc aligns all.
fn free_of(layout: Layout) -> Option<(&'static Free, Layout)> {
    let index = layout.size().wrapping_sub(1) / STEP;
    let free = FREE.get(index).filter(|_| layout.align() <= 8)?;
    Some((free, Layout::from_size_align((index + 1) * STEP, 8).ok()?))
}

// SAFETY: a block that is handed out is dlmalloc's, or was handed out with the same size, was given back, and is in
// no list any more. Whether one belongs to a list is told by its size and alignment alone, which the caller promises
// to be the same when it is given back.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((free, whole)) = free_of(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { GlobalDlmalloc.alloc(layout) };
        };
        let first = free.first.get();
        if first.is_null() {
            // SAFETY: it has a size, of at least the caller's.
            return unsafe { GlobalDlmalloc.alloc(whole) };
        }
        // SAFETY: it is in the list, so it is nobody's and has a word, aligned to 8, that says where the next is.
        free.first.set(unsafe { first.cast::<*mut u8>().read() });
        free.count.set(free.count.get() - 1);
        first
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((free, whole)) = free_of(layout) else {
            // SAFETY: by its layout it is not one of ours, and so it is dlmalloc's.
            return unsafe { GlobalDlmalloc.dealloc(block, layout) };
        };
        if free.count.get() == KEPT {
            // SAFETY: it was allocated with this layout.
            return unsafe { GlobalDlmalloc.dealloc(block, whole) };
        }
        // SAFETY: it has a word, aligned to 8, and is the caller's, who gives it up.
        unsafe { block.cast::<*mut u8>().write(free.first.get()) };
        free.first.set(block);
        free.count.set(free.count.get() + 1);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that it is a valid layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (free_of(layout), free_of(new_layout)) {
            // SAFETY: it is dlmalloc's, and stays so.
            (None, None) => unsafe { GlobalDlmalloc.realloc(block, layout, size) },
            (Some((_, old)), Some((_, new))) if old == new => block,
            _ => {
                // SAFETY: both are as the caller promises; the new block is another one, and as many bytes are copied
                // as both have.
                unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

/// Compiled code takes this for granted, and C libraries for WebAssembly compare byte by byte.
///
/// # Safety
/// As of `memcmp` of C: both have so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, len: usize) -> i32 {
    // SAFETY: the caller promises that both have so many bytes.
    let (one, other) = unsafe { (slice::from_raw_parts(one, len), slice::from_raw_parts(other, len)) };
    let mut from = 0;
    while let (Some(word), Some(other_word)) = (one[from..].first_chunk::<8>(), other[from..].first_chunk()) {
        if u64::from_ne_bytes(*word) != u64::from_ne_bytes(*other_word) {
            break;
        }
        from += 8;
    }
    let pairs = one[from..].iter().zip(&other[from..]);
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
