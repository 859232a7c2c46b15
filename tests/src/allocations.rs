//! Counting what a program takes from the allocator.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, with a count. A benchmark makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Allocations of this thread so far.
pub fn count() -> u64 {
    COUNT.get()
}

/// Bytes in use by all threads, with what glibc's allocator adds: eight bytes for each piece, rounded up to sixteen, 32 at least.
pub fn bytes() -> u64 {
    BYTES.load(Ordering::Relaxed)
}

fn footprint(layout: Layout) -> u64 {
    (layout.size() as u64 + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Where the thread is about to end nobody counts any more.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        BYTES.fetch_add(footprint(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.fetch_sub(footprint(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
