//! How old what a router knows may be.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Nothing was heard yet.
const NEVER: i64 = i64::MIN;

/// When the control plane last said something, on the clock that nobody sets.
pub(crate) struct Freshness {
    began: Instant,
    /// In milliseconds after `began`; before it for what a snapshot brought.
    heard_ms: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { began: Instant::now(), heard_ms: AtomicU64::new(NEVER.cast_unsigned()) }
    }
}

impl Freshness {
    /// The control plane said something now.
    pub(crate) fn hear(&self) {
        self.hear_ago(Duration::ZERO);
    }

    /// What is known is so old.
    pub(crate) fn hear_ago(&self, age: Duration) {
        let heard_ms = self.now_ms().saturating_sub(millis(age)).max(NEVER + 1);
        self.heard_ms.store(heard_ms.cast_unsigned(), Ordering::Relaxed);
    }

    /// Since the control plane last said something; `None` where it never did.
    pub(crate) fn age(&self) -> Option<Duration> {
        let age_ms = self.now_ms().saturating_sub(self.heard_ms()?);
        Some(Duration::from_millis(u64::try_from(age_ms).unwrap_or_default()))
    }

    pub(crate) fn heard_ms(&self) -> Option<i64> {
        Some(self.heard_ms.load(Ordering::Relaxed).cast_signed()).filter(|heard_ms| *heard_ms != NEVER)
    }

    fn now_ms(&self) -> i64 {
        millis(self.began.elapsed())
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_from_when_something_was_heard_however_long_ago() {
        let freshness = Freshness::default();
        assert_eq!((freshness.age(), freshness.heard_ms()), (None, None));
        freshness.hear_ago(Duration::from_hours(1_000_000));
        assert!(freshness.age().expect("heard") >= Duration::from_hours(1_000_000));
        freshness.hear_ago(Duration::MAX);
        assert!(freshness.age().expect("heard") > Duration::from_hours(1_000_000));
        freshness.hear();
        assert!(freshness.age().expect("heard") < Duration::from_hours(1));
    }
}
