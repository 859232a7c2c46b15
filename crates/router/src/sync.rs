//! What the lock-free parts are made of, in one place: the tests compile them once more on top of a scheduler that
//! tries interleavings.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::thread::yield_now;
