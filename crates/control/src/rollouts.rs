//! Rollouts as admins and CI see them.

mod dry_run;
mod plan;
mod progress;
mod queue;
mod reserve;
pub(crate) mod runner;
pub(crate) mod stragglers;
pub(crate) mod target;

pub use queue::opens_at;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{
    Access, ErrorBudget, Hours, MigrationSetId, RolloutId, RolloutPlanDigest, RolloutState, Scope, TargetState, Wave,
    Waves,
};
use tenantry_store::{
    AuditEntry, FleetVersion, MigrationSetRecord, NewRollout, Page, PageRequest, RolloutLimits, RolloutRecord,
    RolloutTarget, Tx,
};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::operations::WAIT_MAX;
use crate::signals::{News, Signals};

pub use tenantry_fleet::{TakenLock, TrialOutcome, TriedFile};

pub use crate::migration_sets::failure_json;
pub use dry_run::{DryRunSample, DryRunWish, SAMPLE_MAX, SampledTenant, TIME_LIMIT_MAX, TenantTrial, dry_run};
pub use plan::{PlannedStart, PlannedTenant, PlannedWave, RolloutPlan, plan};

/// Most tenants that one rollout migrates at the same time.
pub const CONCURRENCY_MAX: u32 = 256;
/// The lowest and the highest priority.
pub const PRIORITY_MIN: i32 = -100;
/// See [`PRIORITY_MIN`].
pub const PRIORITY_MAX: i32 = 100;
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The wish to bring the fleet to a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRollout {
    /// The set, pushed before.
    pub migration_set: MigrationSetId,
    /// In which order; absent means [`Waves::standard`].
    pub waves: Option<Vec<Wave>>,
    /// How many failures it bears, over all waves.
    pub error_budget: ErrorBudget,
    /// After how many targets in a row with the same SQLSTATE it stops; absent means never.
    pub breaker: Option<u32>,
    /// How many tenants at the same time; absent means the configured default.
    pub concurrency: Option<u32>,
    /// How many of them on one cluster.
    pub per_cluster: Option<u32>,
    /// How many of them in one database.
    pub per_database: Option<u32>,
    /// Whether every tenant's own history is asked, whatever the catalog knows.
    pub verify: bool,
    /// Whether it waits its turn where another is under way; otherwise it is refused.
    pub queue: bool,
    /// Among those that wait, the highest begins first: [`PRIORITY_MIN`] to [`PRIORITY_MAX`].
    pub priority: i32,
    /// It waits until then, whether another is under way or not.
    pub not_before: Option<Timestamp>,
    /// Within which hours it begins targets; absent means at any time.
    pub hours: Option<Hours>,
    /// Begin only where the plan with this digest is still what would be done.
    pub plan: Option<RolloutPlanDigest>,
}

impl CreateRollout {
    /// To this set, with the defaults for everything else.
    pub fn new(migration_set: MigrationSetId) -> Self {
        Self {
            migration_set,
            waves: None,
            error_budget: ErrorBudget::default(),
            breaker: None,
            concurrency: None,
            per_cluster: None,
            per_database: None,
            verify: false,
            queue: false,
            priority: 0,
            not_before: None,
            hours: None,
            plan: None,
        }
    }
}

/// Begins a rollout over all live tenants, or lets it wait. One is under way at a time. `Conflict` where it was planned and
/// would do something else by now.
pub async fn create(control: &Control, caller: &Caller, wish: CreateRollout) -> Result<RolloutRecord, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let waits = wish.queue || wish.not_before.is_some_and(|moment| moment > Timestamp::now());
    let planned = wish.plan.clone();
    let mut tx = control.store().begin().await?;
    let (rollout, _) = intended(control, &tx, wish).await?;
    if let Some(planned) = planned {
        if waits {
            let reason =
                "what was planned begins at once, or the fleet would be another; leave out `queue` and `not_before`";
            return Err(ControlError::invalid("/plan", reason));
        }
        let prospect = tx.rollout_prospect(&rollout.migration_set, &rollout.waves, rollout.verify).await?;
        plan::check(&planned, &rollout, &prospect)?;
    }
    let id = rollout.id;
    tx.insert_rollout(&rollout).await?;
    if waits {
        queue::enqueue(&tx).await?;
    } else {
        tx.start_rollout(id).await?;
    }
    let after = json!({
        "migration_set": rollout.migration_set, "waves": rollout.waves, "limits": rollout.limits,
        "error_budget": rollout.error_budget, "breaker": rollout.breaker, "verify": rollout.verify,
        "priority": rollout.priority, "not_before": rollout.not_before, "hours": rollout.hours,
    });
    audit(&mut tx, caller, "rollout.create", id, None, after).await?;
    tx.commit().await?;
    control.signals().wake_rollouts();
    Ok(control.store().rollout(id).await?)
}

/// The rollout that is wished for, with every default, and its set; refused where it may not be.
async fn intended(
    control: &Control,
    tx: &Tx,
    wish: CreateRollout,
) -> Result<(NewRollout, MigrationSetRecord), ControlError> {
    let concurrency = wish.concurrency.unwrap_or(control.config().rollout_concurrency);
    if !(1..=CONCURRENCY_MAX).contains(&concurrency) {
        return Err(ControlError::invalid("/concurrency", format!("use 1 to {CONCURRENCY_MAX}")));
    }
    for (field, limit) in [("/per_cluster", wish.per_cluster), ("/per_database", wish.per_database)] {
        if limit.is_some_and(|limit| !(1..=CONCURRENCY_MAX).contains(&limit)) {
            return Err(ControlError::invalid(field, format!("use 1 to {CONCURRENCY_MAX}")));
        }
    }
    if !(PRIORITY_MIN..=PRIORITY_MAX).contains(&wish.priority) {
        return Err(ControlError::invalid("/priority", format!("use {PRIORITY_MIN} to {PRIORITY_MAX}")));
    }
    wish.hours.as_ref().map_or(Ok(()), queue::check)?;
    let waves = match wish.waves {
        Some(waves) => Waves::new(waves).map_err(|error| ControlError::invalid("/waves", error.to_string()))?,
        None => Waves::standard(),
    };
    let set = set_to_reach(tx, &wish.migration_set).await?;
    let rollout = NewRollout {
        id: RolloutId::new(new_id()),
        migration_set: set.id.clone(),
        waves,
        limits: RolloutLimits { concurrency, per_cluster: wish.per_cluster, per_database: wish.per_database },
        error_budget: wish.error_budget,
        breaker: wish.breaker,
        verify: wish.verify,
        priority: wish.priority,
        not_before: wish.not_before,
        hours: wish.hours,
    };
    Ok((rollout, set))
}

/// The set, if the fleet may be brought to it.
async fn set_to_reach(tx: &Tx, id: &MigrationSetId) -> Result<MigrationSetRecord, ControlError> {
    let set = tx.migration_set(id).await.map_err(|error| match error {
        tenantry_store::StoreError::NotFound { .. } => ControlError::invalid(
            "/migration_set",
            format!("there is no migration set `{id}`; push it first with `tenantry migrate push`"),
        ),
        other => other.into(),
    })?;
    if let Some(promoted) = tx.promoted().await?
        && promoted.latest_version > set.latest_version
    {
        return Err(ControlError::InvalidState {
            reason: format!(
                "the fleet is at version {} already, and a rollout never goes back; this set ends at {}",
                promoted.latest_version, set.latest_version
            ),
        });
    }
    Ok(set)
}

/// A page of rollouts, newest first.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<RolloutRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().rollouts(page).await?)
}

/// One rollout with its counts.
pub async fn show(control: &Control, caller: &Caller, id: RolloutId) -> Result<RolloutRecord, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().rollout(id).await?)
}

/// A page of a rollout's targets, of all states if none is given.
pub async fn targets(
    control: &Control,
    caller: &Caller,
    id: RolloutId,
    states: &[TargetState],
    page: &PageRequest,
) -> Result<Page<RolloutTarget>, ControlError> {
    show(control, caller, id).await?;
    Ok(control.store().targets(id, states, page).await?)
}

/// At which versions the live tenants are, the highest first, and how many migrations of the rollout's set they lack.
pub async fn versions(control: &Control, caller: &Caller, id: RolloutId) -> Result<Vec<FleetVersion>, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    control.store().rollout_state(id).await?;
    Ok(control.store().fleet_versions(id).await?)
}

/// Waits until the rollout is finished or paused, or `patience` (at most one minute) is over.
pub async fn wait(
    control: &Control,
    caller: &Caller,
    id: RolloutId,
    patience: Duration,
) -> Result<RolloutRecord, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    let deadline = Instant::now() + patience.min(WAIT_MAX);
    let mut news = control.signals().subscribe();
    loop {
        // A large rollout makes news many times a second; only at the end are its targets counted.
        let state = control.store().rollout_state(id).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        if state.is_finished() || state == RolloutState::Paused || left.is_zero() {
            return show(control, caller, id).await;
        }
        Signals::wait_for(&mut news, left.min(LOOK_AGAIN), |news| news == News::Rollout(id)).await;
    }
}

/// Begins no more targets; those that run finish.
pub async fn pause(control: &Control, caller: &Caller, id: RolloutId) -> Result<RolloutRecord, ControlError> {
    change(control, caller, id, "rollout.pause", &[RolloutState::Queued, RolloutState::Running], RolloutState::Paused)
        .await
}

/// Goes on after a pause.
pub async fn resume(control: &Control, caller: &Caller, id: RolloutId) -> Result<RolloutRecord, ControlError> {
    change(control, caller, id, "rollout.resume", &[RolloutState::Paused], RolloutState::Queued).await
}

/// Ends a rollout where it stands. Tenants that were migrated stay migrated; the set is not promoted.
pub async fn abort(control: &Control, caller: &Caller, id: RolloutId) -> Result<RolloutRecord, ControlError> {
    let open = [RolloutState::Queued, RolloutState::Running, RolloutState::Paused];
    change(control, caller, id, "rollout.abort", &open, RolloutState::Aborted).await
}

/// Takes up the targets of a failed rollout that failed; the others stay as they are.
pub async fn retry(control: &Control, caller: &Caller, id: RolloutId) -> Result<RolloutRecord, ControlError> {
    change(control, caller, id, "rollout.retry", &[RolloutState::Failed], RolloutState::Queued).await
}

async fn change(
    control: &Control,
    caller: &Caller,
    id: RolloutId,
    action: &'static str,
    from: &[RolloutState],
    to: RolloutState,
) -> Result<RolloutRecord, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let mut tx = control.store().begin().await?;
    let rollout = tx.lock_rollout(id).await?;
    if !from.contains(&rollout.state) {
        let possible: Vec<&str> = from.iter().map(|state| state.as_str()).collect();
        return Err(ControlError::InvalidState {
            reason: format!("the rollout is {}; this needs one that is {}", rollout.state, possible.join(" or ")),
        });
    }
    tx.change_rollout(id, to).await?;
    let before = json!({ "state": rollout.state });
    audit(&mut tx, caller, action, id, Some(before), json!({ "state": to })).await?;
    tx.commit().await?;
    control.signals().wake_rollouts();
    Ok(control.store().rollout(id).await?)
}

async fn audit(
    tx: &mut Tx,
    caller: &Caller,
    action: &str,
    id: RolloutId,
    before: Option<Value>,
    after: Value,
) -> Result<(), ControlError> {
    tx.audit(&AuditEntry { before, after: Some(after), ..caller.does(action, format!("rollout/{id}")) }).await?;
    Ok(())
}
