//! What the parts are made of that threads share, in one place: `tests/models` compiles them once more on top of a scheduler
//! that tries interleavings.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use std::sync::{Mutex, MutexGuard};
pub(crate) use std::thread::yield_now;

pub(crate) use tokio::time::timeout_at;
