//! How many requests in a time: the generic cell rate algorithm, which needs one number for each tenant.

use std::time::Duration;

/// A rate, in the form in which it is compared: at most `requests` at once, and over any longer time no more than the
/// interval allows beyond them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// What one request takes up. Rounded up: a rate is never exceeded, however long one looks.
    step_ns: u64,
    /// How far a tenant may be ahead.
    ahead_ns_max: u64,
}

impl Pace {
    /// So many requests in an interval; one at least.
    pub(crate) fn new(requests: u32, interval: Duration) -> Self {
        let requests = u64::from(requests.max(1));
        let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        let step_ns = interval_ns.div_ceil(requests);
        Self { step_ns, ahead_ns_max: step_ns.saturating_mul(requests) }
    }
}

/// What a tenant has used up of a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    /// When everything that was let through will have been earned.
    earned_at_ns: u64,
}

impl Rate {
    /// The rate after one more request, or how long until there is room for it.
    pub(crate) fn after_one(self, pace: Pace, now_ns: u64) -> Result<Self, Duration> {
        let earned_at_ns = self.earned_at_ns.max(now_ns).saturating_add(pace.step_ns);
        let ahead_ns = earned_at_ns - now_ns;
        if ahead_ns <= pace.ahead_ns_max {
            Ok(Self { earned_at_ns })
        } else {
            Err(Duration::from_nanos(ahead_ns - pace.ahead_ns_max))
        }
    }

    /// Whether nothing is owed, so that forgetting it changes nothing.
    pub(crate) fn is_settled(self, now_ns: u64) -> bool {
        self.earned_at_ns <= now_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_interval_may_come_at_once_and_then_one_by_one() {
        let pace = Pace::new(3, SECOND);
        let mut rate = Rate::default();
        for _ in 0..3 {
            rate = rate.after_one(pace, 5).expect("within the interval");
        }
        let wait = rate.after_one(pace, 5).expect_err("one too many");
        assert_eq!(wait, Duration::from_nanos(333_333_334));
        let soon = 5 + 333_333_334;
        assert!(rate.after_one(pace, soon - 1).is_err());
        rate = rate.after_one(pace, soon).expect("the wait was right");
        assert!(rate.after_one(pace, soon).is_err());
        assert!(!rate.is_settled(soon) && rate.is_settled(soon + 1_000_000_002));
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_an_interval_at_once_and_the_rate_beyond_it(
            requests in 1..200_u32,
            gaps_us in prop::collection::vec(0..100_000_u64, 1..400),
        ) {
            let pace = Pace::new(requests, SECOND);
            let (mut rate, mut now_ns, mut let_through) = (Rate::default(), 0, Vec::new());
            for gap_us in gaps_us {
                now_ns += gap_us * 1_000;
                match rate.after_one(pace, now_ns) {
                    Ok(after) => {
                        rate = after;
                        let_through.push(now_ns);
                    }
                    // The time that is told is enough, and not a nanosecond too long.
                    Err(wait) => {
                        let wait_ns = u64::try_from(wait.as_nanos()).expect("short");
                        prop_assert!(rate.after_one(pace, now_ns + wait_ns).is_ok());
                        prop_assert!(rate.after_one(pace, now_ns + wait_ns - 1).is_err());
                    }
                }
            }
            for (first, from) in let_through.iter().enumerate() {
                for (last, to) in let_through.iter().enumerate().skip(first) {
                    let earned = u128::from(to - from) * u128::from(requests) / SECOND.as_nanos();
                    let seen = u128::try_from(last - first + 1).expect("few");
                    prop_assert!(seen <= u128::from(requests) + earned, "{seen} in {} ns", to - from);
                }
            }
        }

        #[test]
        fn a_rate_that_changes_holds_from_then_on(before in 1..1_000_u32, after in 1..1_000_u32) {
            let (old, new) = (Pace::new(before, SECOND), Pace::new(after, SECOND));
            let mut rate = Rate::default();
            while let Ok(next) = rate.after_one(old, 0) {
                rate = next;
            }
            // Everything was used up, so the new rate begins with nothing, and gives one interval's worth in the next.
            let in_one_interval = (0..=1_000_u64).filter(|ms| {
                let mut let_through = false;
                while let Ok(next) = rate.after_one(new, ms * 1_000_000) {
                    (rate, let_through) = (next, true);
                }
                let_through
            });
            prop_assert!(in_one_interval.count() <= after as usize + 1);
        }
    }
}
