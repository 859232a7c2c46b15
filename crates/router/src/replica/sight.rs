//! What is known of a replica: whether it follows, and how far it is behind.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::read_from::ReplicaFault;
use crate::sync::{AtomicUsize, Ordering};

/// What was seen is good for so long, whatever lag is allowed: a replica may be promoted.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// A replica in use is looked at so often at most, when a connection comes back; and one that would not do is tried again
/// so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// When nothing was received for so long, nothing is on its way.
const STILL_FOR: Duration = Duration::from_millis(50);
/// How often a replica that seems too far behind is asked once more at once.
const LOOKS_MAX: u32 = 4;

/// Whether it follows, what it has received, whether it has replayed that and is connected to its primary, and the age of
/// the last transaction that it replayed in milliseconds. Every role may ask; of the receiver it learns no more than that
/// it streams.
const LOOK: &str = "
    SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_receive_lsn(),
           pg_catalog.pg_last_wal_replay_lsn() >= pg_catalog.pg_last_wal_receive_lsn()
               AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver),
           pg_catalog.floor(1000 * EXTRACT(epoch FROM
               pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()))::pg_catalog.int8";

/// What is known of one replica, over all tenants.
#[derive(Default)]
pub(crate) struct Sight {
    state: Mutex<State>,
    /// Connections that are borrowed.
    in_use: AtomicUsize,
}

#[derive(Default)]
struct State {
    looked: Option<Looked>,
    /// What it had received last, and since when nothing more came.
    received: Option<(String, Instant)>,
    /// Nobody looks before, unless a caller must.
    next_look: Option<Instant>,
}

/// What one look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Looked {
    at: Instant,
    follows: bool,
    /// How far it was behind at most; absent where that cannot be told.
    lag: Option<Duration>,
}

impl Looked {
    /// Why it would not do for somebody for whom it may be so far behind, if so.
    fn fault(&self, bound: Duration) -> Option<ReplicaFault> {
        if !self.follows {
            Some(ReplicaFault::NotStandby)
        } else if self.lag.is_none_or(|lag| lag > bound) {
            Some(ReplicaFault::TooFarBehind)
        } else {
            None
        }
    }
}

/// What a replica answers.
struct Answer {
    follows: bool,
    received: Option<String>,
    is_up_to_date: bool,
    age: Option<Duration>,
}

/// Whether a replica will do for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    /// Nobody knows: it was not looked at lately.
    Unknown,
    /// It would not do when it was looked at last.
    Bad(ReplicaFault),
}

impl Sight {
    /// Who looks for others looks twice where it seems further behind than this.
    pub(crate) const SLIGHT: Duration = Duration::from_secs(1);

    /// Whether it will do for somebody for whom it may be so far behind.
    pub(crate) fn verdict(&self, bound: Duration, now: Instant) -> Verdict {
        let Some(looked) = self.state().looked else { return Verdict::Unknown };
        if let Some(fault) = looked.fault(bound) {
            return Verdict::Bad(fault);
        }
        let since = now.saturating_duration_since(looked.at);
        // It may have stood still since.
        let is_within = looked.lag.is_some_and(|lag| lag.saturating_add(since) <= bound);
        if is_within && since < GOOD_FOR { Verdict::Good } else { Verdict::Unknown }
    }

    /// Whether it is time to look again off the callers' path; who is told so does it, and nobody else.
    pub(crate) fn claim(&self, now: Instant) -> bool {
        let mut state = self.state();
        let is_due = state.is_due(now);
        if is_due {
            state.next_look = Some(now + TRY_AGAIN);
        }
        is_due
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.state().is_due(now)
    }

    /// Asks it over a connection that nobody uses, and again within moments while it seems too far behind for somebody:
    /// what was only just received is not replayed yet. Answers whether it will do now.
    pub(crate) async fn look(&self, client: &Client, bound: Duration) -> Result<Result<(), ReplicaFault>, Error> {
        let mut look = 1;
        loop {
            // Before asking: what comes in afterwards is not seen.
            let began = Instant::now();
            let answer = Answer::of(&client.simple_query(LOOK).await?);
            let looked = self.judge(answer, began);
            if !looked.follows || looked.lag.is_some_and(|lag| lag <= bound) || look == LOOKS_MAX {
                self.note(looked);
                return Ok(looked.fault(bound).map_or(Ok(()), Err));
            }
            look += 1;
            tokio::time::sleep(STILL_FOR).await;
        }
    }

    fn judge(&self, answer: Answer, at: Instant) -> Looked {
        let mut state = self.state();
        let still_since = match (&state.received, answer.received) {
            (Some((known, since)), Some(received)) if *known == received => Some(*since),
            (_, received) => {
                state.received = received.map(|received| (received, at));
                None
            }
        };
        // While it catches up with what was written long ago, it may have replayed all that came so far, too.
        let is_still = still_since.is_some_and(|since| at.saturating_duration_since(since) >= STILL_FOR);
        let lag = if answer.is_up_to_date && is_still { Some(Duration::ZERO) } else { answer.age };
        Looked { at, follows: answer.follows, lag }
    }

    fn note(&self, looked: Looked) {
        let mut state = self.state();
        state.looked = Some(looked);
        state.next_look = Some(looked.at + LOOK_EVERY);
    }

    /// Counts a connection that is borrowed, and one that is given back.
    pub(crate) fn borrow(&self) {
        self.in_use.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_due(&self, now: Instant) -> bool {
        self.next_look.is_none_or(|next| next <= now)
    }
}

impl Answer {
    fn of(messages: &[SimpleQueryMessage]) -> Self {
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |number| row.and_then(|row| row.get(number));
        Self {
            follows: column(0) == Some("t"),
            received: column(1).map(str::to_owned),
            is_up_to_date: column(2) == Some("t"),
            // Its clock may be behind its primary's.
            age: column(3)
                .and_then(|age| age.parse().ok())
                .map(|age: i64| Duration::from_millis(age.max(0).unsigned_abs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answer(received: &str, is_up_to_date: bool, age: Option<Duration>) -> Answer {
        Answer { follows: true, received: Some(received.to_owned()), is_up_to_date, age }
    }

    fn note(sight: &Sight, answer: Answer, at: Instant) -> Looked {
        let looked = sight.judge(answer, at);
        sight.note(looked);
        looked
    }

    #[test]
    fn a_replica_of_an_idle_primary_is_not_behind_and_one_that_catches_up_is() {
        let (sight, start) = (Sight::default(), Instant::now());
        assert_eq!(sight.verdict(SECOND, start), Verdict::Unknown);
        let hour = Some(Duration::from_hours(1));
        assert_eq!(note(&sight, answer("0/10", true, hour), start).lag, hour, "more may be on its way");
        assert_eq!(sight.verdict(SECOND, start), Verdict::Bad(ReplicaFault::TooFarBehind));
        assert_eq!(note(&sight, answer("0/20", true, hour), start + SECOND).lag, hour, "and is");
        assert_eq!(note(&sight, answer("0/20", true, hour), start + STILL_FOR).lag, hour, "too soon to tell");
        let still = note(&sight, answer("0/20", true, hour), start + SECOND + STILL_FOR);
        assert_eq!(still.lag, Some(Duration::ZERO));
        assert_eq!(sight.verdict(SECOND, still.at), Verdict::Good);
        assert_eq!(note(&sight, answer("0/20", false, hour), start + SECOND * 2).lag, hour, "not replayed, or cut off");
        assert_eq!(note(&sight, answer("0/20", false, None), start).lag, None, "nobody can tell");
    }

    #[test]
    fn the_time_since_the_last_look_counts_as_lag() {
        let (sight, start) = (Sight::default(), Instant::now());
        note(&sight, answer("0/10", false, Some(SECOND)), start);
        assert_eq!(sight.verdict(SECOND * 3, start + SECOND * 2), Verdict::Good);
        assert_eq!(sight.verdict(SECOND * 3, start + SECOND * 3), Verdict::Unknown);
        assert_eq!(sight.verdict(SECOND / 2, start), Verdict::Bad(ReplicaFault::TooFarBehind), "for another bound");
        assert_eq!(sight.verdict(SECOND * 600, start + GOOD_FOR), Verdict::Unknown, "it may be promoted");
    }

    #[test]
    fn a_promoted_one_will_not_do_whatever_it_says_of_its_lag() {
        let (sight, start) = (Sight::default(), Instant::now());
        note(&sight, Answer { follows: false, ..answer("0/10", true, Some(Duration::ZERO)) }, start);
        assert_eq!(sight.verdict(SECOND, start), Verdict::Bad(ReplicaFault::NotStandby));
    }

    #[test]
    fn one_at_a_time_looks() {
        let (sight, start) = (Sight::default(), Instant::now());
        assert!(sight.claim(start) && !sight.claim(start));
        assert!(sight.claim(start + TRY_AGAIN), "whoever was to look may not have");
        note(&sight, answer("0/10", true, Some(Duration::ZERO)), start);
        assert!(!sight.claim(start) && sight.claim(start + LOOK_EVERY));
    }
}
