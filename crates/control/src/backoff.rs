//! How long to wait before something is tried again.

use std::time::Duration;

use rand::RngExt;

/// The wait after an attempt, from the first on: doubles with each up to `most`, and spreads over half of it, so that
/// those that failed together do not come back together.
pub(crate) fn backoff(first: Duration, most: Duration, attempt: u32) -> Duration {
    let doubled = first.saturating_mul(1_u32 << attempt.saturating_sub(1).min(20)).min(most);
    doubled.mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        let (first, most) = (Duration::from_millis(500), Duration::from_mins(1));
        for attempt in 1..40 {
            let wait = backoff(first, most, attempt);
            assert!(wait >= first / 2 && wait <= most, "attempt {attempt}: {wait:?}");
        }
        assert!(backoff(first, most, 40) >= most / 2);
    }
}
