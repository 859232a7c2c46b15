//! What keeps a router alive: every clone of it, and every tenant that was found.

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::sync::DropGuard;

use crate::inner::Inner;

/// Counts are kept apart, so that threads that find tenants at the same time do not write to one cache line.
const STRIPES: usize = 16;

thread_local! {
    /// Where it is tells threads apart.
    static HERE: u8 = const { 0 };
}

/// A share in a router; when the last one is dropped, its tasks end.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Kept>);

/// The alignment keeps two counts off one cache line, and off the one that is fetched with it.
#[repr(align(128))]
struct Kept {
    inner: Arc<Inner>,
    _tasks: Arc<DropGuard>,
}

impl Handle {
    /// For work that goes on when the caller has gone.
    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }
}

impl Deref for Handle {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0.inner
    }
}

/// One share for each stripe.
pub(crate) struct Handles([Handle; STRIPES]);

impl Handles {
    pub(crate) fn of(inner: &Arc<Inner>) -> Self {
        let tasks = Arc::new(inner.shutdown.clone().drop_guard());
        Self(std::array::from_fn(|_| Handle(Arc::new(Kept { inner: Arc::clone(inner), _tasks: Arc::clone(&tasks) }))))
    }

    /// A share that other threads do not count on, with luck.
    #[inline]
    pub(crate) fn share(&self) -> Handle {
        let here = HERE.with(|here| std::ptr::from_ref(here).addr()) as u64;
        // Threads' stacks are far apart at round distances: a product spreads them (Fibonacci hashing; Knuth, volume 3).
        let stripe = here.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - STRIPES.ilog2());
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of stripes")]
        let stripe = stripe as usize;
        self.0[stripe].clone()
    }
}

impl Deref for Handles {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0[0]
    }
}
