//! One writer, any number of readers that write nothing.
//!
//! A sequence lock: the number is odd while a change is under way, and a reader that saw another number before than after
//! reads again. So readers never wait for each other and never hold the writer up; a reader waits for the writer only
//! within a change, which is a few dozen stores. What is read in between must be atomic, each word by itself. (Hans-J.
//! Boehm, "Can Seqlocks Get Along With Programming Language Memory Models?", MSPC 2012, has the fences.)

use crate::sync::{AtomicU64, Ordering, fence, yield_now};

/// Looks at a change under way so often before the processor is given to somebody else: the writer, with luck.
const LOOKS: u32 = 64;

/// Orders reads and changes.
pub(crate) struct VersionLock {
    number: AtomicU64,
}

impl Default for VersionLock {
    fn default() -> Self {
        Self { number: AtomicU64::new(0) }
    }
}

impl VersionLock {
    /// Reads until nothing changed meanwhile. `look` must not follow what it reads anywhere that could be wrong.
    #[inline]
    pub(crate) fn read<T>(&self, look: impl Fn() -> T) -> T {
        let mut looks = 0;
        loop {
            let before = self.number.load(Ordering::Acquire);
            if before & 1 == 0 {
                let seen = look();
                fence(Ordering::Acquire);
                if self.number.load(Ordering::Relaxed) == before {
                    return seen;
                }
            }
            looks += 1;
            if looks >= LOOKS {
                yield_now();
            }
        }
    }

    /// Makes a change that readers see as a whole. Only one thread at a time may.
    pub(crate) fn change<T>(&self, make: impl FnOnce() -> T) -> T {
        let before = self.number.load(Ordering::Relaxed);
        self.number.store(before.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let made = make();
        self.number.store(before.wrapping_add(2), Ordering::Release);
        made
    }
}
