//! Targets that are claimed ahead of their turn, so that one exchange with the catalog serves many that take no time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tenantry_domain::{RolloutId, TargetState, TenantId};
use tenantry_store::{ClaimedTarget, TargetResult};
use tracing::warn;

use super::target::Place;
use crate::control::Control;

/// For how long a reserve is meant to last: where targets take long, there is none.
const LASTS: Duration = Duration::from_millis(500);
/// What is still here after this goes back: targets take longer than they did, and others may have room for them.
const AGE_MAX: Duration = Duration::from_secs(1);
const SIZE_MAX: usize = 64;
/// The pause after the catalog did not answer.
const RETRY: Duration = Duration::from_millis(100);

/// What this process has claimed and not begun. Its leases are renewed with those of targets that run.
#[derive(Debug)]
pub(super) struct Reserve {
    waiting: VecDeque<(ClaimedTarget, Option<Place>)>,
    ends: Instant,
    /// What targets take, the latest counting most.
    usual: Option<Duration>,
    /// How many went well since one failed.
    well: usize,
    /// Nothing that is here is begun any more.
    is_dissolved: bool,
}

impl Reserve {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), ends: Instant::now(), usual: None, well: 0, is_dissolved: false }
    }

    /// How many targets to claim ahead, as fast as they are finished lately: few at first, and after a failure.
    pub(super) fn wanted(&self, concurrency: u32) -> usize {
        let Some(usual) = self.usual else { return 0 };
        let each = usual.max(Duration::from_millis(1)).as_micros();
        let meanwhile = LASTS.as_micros() / each * u128::from(concurrency);
        usize::try_from(meanwhile).unwrap_or(SIZE_MAX).min(SIZE_MAX).min(self.well)
    }

    /// Notes how a target went. A failure may stop the rollout, so that nothing that is here is begun.
    pub(super) fn note(&mut self, result: &TargetResult) {
        let took = result.duration;
        self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        self.well += 1;
        if result.state == TargetState::Failed {
            self.well = 0;
            self.dissolve();
        }
    }

    /// Takes in what was claimed ahead. There must be nothing here.
    pub(super) fn keep(&mut self, claimed: Vec<(ClaimedTarget, Option<Place>)>) {
        self.waiting.extend(claimed);
        self.ends = Instant::now() + AGE_MAX;
        self.is_dissolved = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When what is here goes back, if it is not begun before.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// The next one to begin.
    pub(super) fn take(&mut self) -> Option<(ClaimedTarget, Option<Place>)> {
        if self.is_over() { None } else { self.waiting.pop_front() }
    }

    fn is_over(&self) -> bool {
        self.is_dissolved || Instant::now() >= self.ends
    }

    /// Nothing that is here is begun: all goes back.
    fn dissolve(&mut self) {
        self.is_dissolved = true;
    }

    /// Asks whether the rollout is paused or stopped, or another replica has nothing to do: then all goes back. Without an
    /// answer, age ends the reserve soon.
    pub(super) async fn is_wanted_back(&mut self, control: &Control, id: RolloutId) -> bool {
        if let Ok(false) = control.store().may_begin_claimed(id, control.config().replica).await {
            self.dissolve();
        }
        self.is_over()
    }

    /// Gives back what is not to be begun. Where the catalog does not take it, it stays here for the next attempt.
    pub(super) async fn settle(&mut self, control: &Control, id: RolloutId, may_begin: bool) {
        if !may_begin {
            self.dissolve();
        }
        if !self.is_over() || self.waiting.is_empty() {
            return;
        }
        let targets: Vec<TenantId> = self.waiting.iter().map(|(target, _)| target.tenant).collect();
        match control.store().give_targets_back(id, control.config().replica, &targets).await {
            Ok(()) => self.waiting.clear(),
            Err(error) => {
                warn!(%error, "the catalog does not take back what was not begun; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{ClusterId, HomeId, SchemaVersion};
    use uuid::Uuid;

    use super::*;

    fn result(state: TargetState, duration: Duration) -> TargetResult {
        TargetResult {
            tenant: TenantId::new(Uuid::nil()),
            home: HomeId::new(Uuid::nil()),
            state,
            retry_in: None,
            to_version: None,
            repeatables: None,
            attempts: 1,
            error: None,
            duration,
        }
    }

    fn after(times: usize, took: Duration) -> Reserve {
        let mut reserve = Reserve::new();
        (0..times).for_each(|_| reserve.note(&result(TargetState::Applied, took)));
        reserve
    }

    fn target() -> (ClaimedTarget, Option<Place>) {
        let target = ClaimedTarget {
            tenant: TenantId::new(Uuid::nil()),
            home: HomeId::new(Uuid::nil()),
            cluster: ClusterId::new(Uuid::nil()),
            from_version: SchemaVersion(0),
            deferrals: 0,
        };
        (target, None)
    }

    #[test]
    fn only_targets_that_take_no_time_are_claimed_ahead() {
        assert_eq!(Reserve::new().wanted(8), 0, "nobody knows yet");
        assert_eq!(after(100, Duration::from_millis(100)).wanted(8), 40);
        assert_eq!(after(100, Duration::ZERO).wanted(8), SIZE_MAX);
        assert_eq!(after(5, Duration::ZERO).wanted(8), 5, "few at first");
        assert_eq!(after(100, Duration::from_millis(501)).wanted(256), 0);
        let mut slower = after(100, Duration::from_millis(5));
        slower.note(&result(TargetState::Applied, Duration::from_mins(1)));
        assert_eq!(slower.wanted(256), 0, "the latest counts most");
    }

    #[test]
    fn after_a_failure_nothing_is_begun_and_little_is_claimed() {
        let mut reserve = after(100, Duration::ZERO);
        reserve.keep(vec![target(), target()]);
        assert!(reserve.take().is_some());
        reserve.note(&result(TargetState::Failed, Duration::ZERO));
        assert!(reserve.take().is_none() && !reserve.is_empty(), "it goes back");
        assert_eq!(reserve.wanted(8), 0);
        reserve.note(&result(TargetState::Applied, Duration::ZERO));
        assert_eq!(reserve.wanted(8), 1);
    }
}
