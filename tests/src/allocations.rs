//! Counting what a program takes from the allocator.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The system's allocator, with a count. A benchmark makes it its `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

/// Bytes that were taken less those that were given back, by threads that share this sum. One of them alone may have given
/// back more than it took; then it wraps. Apart from the others, so that threads do not wait for each other to count.
#[repr(align(128))]
struct Sum(AtomicU64);

const SUMS: usize = 64;
static BYTES: [Sum; SUMS] = [const { Sum(AtomicU64::new(0)) }; SUMS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static SUM: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Allocations of this thread so far.
pub fn count() -> u64 {
    COUNT.get()
}

/// Bytes in use by all threads, with what glibc's allocator adds: eight bytes for each piece, rounded up to sixteen, 32 at
/// least.
pub fn bytes() -> u64 {
    BYTES.iter().fold(0, |bytes, sum| bytes.wrapping_add(sum.0.load(Ordering::Relaxed)))
}

fn footprint(layout: Layout) -> u64 {
    (layout.size() as u64 + 8).next_multiple_of(16).max(32)
}

/// The sum of this thread. Where the thread is about to end, any will do.
fn sum() -> &'static AtomicU64 {
    let number = SUM.try_with(|sum| {
        sum.get().unwrap_or_else(|| {
            let number = THREADS.fetch_add(1, Ordering::Relaxed) % SUMS;
            sum.set(Some(number));
            number
        })
    });
    &BYTES[number.unwrap_or_default()].0
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Where the thread is about to end nobody counts any more.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        sum().fetch_add(footprint(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        sum().fetch_sub(footprint(layout), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}
