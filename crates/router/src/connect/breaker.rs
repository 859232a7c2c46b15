//! Leaving a server that does not answer alone for a while, so that nobody waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many failures in a row, and the server is left alone.
const FAILURES_MAX: u32 = 3;
/// The first pause; it doubles up to [`PAUSE_MAX`]. Each is drawn between half and all of it, so that many routers do not
/// come back at the same moment.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Whether a server is asked. After a pause one caller tries it; the others go on being refused until that is decided.
pub(crate) struct Breaker {
    failures_max: u32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    /// What was wrong the last time.
    why: Option<Arc<str>>,
    /// Nobody asks before.
    until: Option<Instant>,
    is_tried: bool,
}

/// Nobody asks the server for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftAlone {
    /// How long.
    pub(crate) retry_after: Duration,
    /// What was wrong the last time: those who come meanwhile are to be told, too.
    pub(crate) why: Arc<str>,
}

/// Leave to ask the server once. What came of it is to be said; dropped without, nothing is learnt.
#[must_use]
pub(crate) struct Attempt<'b> {
    breaker: &'b Breaker,
    is_trial: bool,
}

impl Breaker {
    /// For a server that nothing takes the place of: a failure may be an accident.
    pub(crate) fn patient() -> Self {
        Self { failures_max: FAILURES_MAX, state: Mutex::default() }
    }

    /// For a server that others stand in for.
    pub(crate) fn impatient() -> Self {
        Self { failures_max: 1, state: Mutex::default() }
    }

    /// Since the server is left alone: whether it is time to try it. `None` while it is not.
    pub(crate) fn trial_due(&self, now: Instant) -> Option<bool> {
        let state = self.state();
        state.until.map(|until| !state.is_tried && until <= now)
    }

    /// Leave to ask, or how long the server is left alone and why.
    pub(crate) fn ask(&self, now: Instant) -> Result<Attempt<'_>, LeftAlone> {
        let mut state = self.state();
        let Some(until) = state.until else { return Ok(Attempt { breaker: self, is_trial: false }) };
        if state.is_tried || now < until {
            let retry_after = until.saturating_duration_since(now).max(Duration::from_millis(10));
            return Err(LeftAlone { retry_after, why: state.why.clone().unwrap_or_default() });
        }
        state.is_tried = true;
        Ok(Attempt { breaker: self, is_trial: true })
    }

    /// Nothing panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The server answered, whatever it said.
    pub(crate) fn answered(self) {
        let mut state = self.breaker.state();
        state.failures = 0;
        state.why = None;
        state.until = None;
    }

    /// It did not, or in a way that nobody can use.
    pub(crate) fn failed(self, now: Instant, why: impl Into<Arc<str>>) {
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        state.why = Some(why.into());
        if state.failures >= self.breaker.failures_max {
            let doublings = (state.failures - self.breaker.failures_max).min(16);
            let pause = PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX);
            state.until = Some(now + pause.mul_f64(rand::random_range(0.5..1.0)));
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.state().is_tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32, now: Instant) {
        for _ in 0..times {
            breaker.ask(now).expect("leave").failed(now, "silence");
        }
    }

    #[test]
    fn a_cluster_that_fails_is_left_alone_and_tried_by_one_at_a_time() {
        let (breaker, start) = (Breaker::patient(), Instant::now());
        fail(&breaker, FAILURES_MAX - 1, start);
        breaker.ask(start).expect("one success forgets").answered();
        fail(&breaker, FAILURES_MAX, start);
        let left_alone = breaker.ask(start).err().expect("left alone");
        assert!(left_alone.retry_after <= PAUSE_FIRST);
        assert_eq!(&*left_alone.why, "silence");
        let later = start + PAUSE_FIRST;
        let trial = breaker.ask(later).expect("a trial");
        assert!(breaker.ask(later).is_err());
        drop(trial);
        breaker.ask(later).expect("a trial that was given up is another's").failed(later, "no TLS");
        assert_eq!(&*breaker.ask(later).err().expect("left alone").why, "no TLS");
        let much_later = later + PAUSE_FIRST * 2;
        breaker.ask(much_later).expect("a trial").answered();
        assert!(breaker.ask(much_later).is_ok() && breaker.ask(much_later).is_ok());
    }

    #[test]
    fn a_server_that_others_stand_in_for_is_left_alone_at_once() {
        let (breaker, start) = (Breaker::impatient(), Instant::now());
        assert_eq!(breaker.trial_due(start), None);
        fail(&breaker, 1, start);
        assert_eq!(breaker.trial_due(start), Some(false));
        let later = start + PAUSE_FIRST;
        assert_eq!(breaker.trial_due(later), Some(true));
        let trial = breaker.ask(later).expect("a trial");
        assert_eq!(breaker.trial_due(later), Some(false), "another tries it");
        trial.answered();
        assert_eq!(breaker.trial_due(later), None);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let (breaker, mut now) = (Breaker::patient(), Instant::now());
        fail(&breaker, FAILURES_MAX, now);
        for _ in 0..20 {
            now += PAUSE_MAX;
            fail(&breaker, 1, now);
        }
        assert!(breaker.ask(now).err().expect("left alone").retry_after <= PAUSE_MAX);
    }
}
