//! What happens on "rotate credentials": the tenant turns to its other login role, and no client sees an error.
//!
//! The next login role gets its password before any route names it, and the old one keeps `LOGIN` until every router that
//! is there has acknowledged the new route, and a little longer for programs that were told the old one right before and
//! are no routers. Sessions of the old role end by themselves, then after their transaction, and in the end in any case.
//! There is one read-only role: its password changes right before the route does, and routers that are refused in between
//! wait for the route.

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenantry_domain::{EventKind, FeedVersion, HomeId, Limits, LoginSlot, Tenant, TenantId, TenantStatus};
use tenantry_fleet::{ClusterTarget, Leaving};
use tenantry_store::{HomeRecord, NewEvent, NextSecrets, TenantRef, Tx};

use super::cluster_target::target_of;
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};

/// How long one attempt at a wait holds a worker.
const ATTEMPT: Duration = Duration::from_secs(15);
/// Between two looks, at first and at most.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_MOST: Duration = Duration::from_millis(500);
/// How long the new login role is waited for to get a connection before its route is published all the same: routers let
/// go of the old role's connections when they see the new route.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// A router that has said nothing for so long is gone. Routers report every ten seconds unless told otherwise.
const ROUTER_SILENCE: Duration = Duration::from_secs(45);
/// How long routers that do report are waited for.
const ROUTERS_PATIENCE: Duration = Duration::from_mins(3);
/// How many sessions those may open with the old role who are no routers and do not know the new one yet.
const LATECOMERS: u32 = 2;
/// How long sessions of the old role may stay that sit idle, and how long at all.
const IDLE_PATIENCE: Duration = Duration::from_secs(10);
const TRANSACTION_PATIENCE: Duration = Duration::from_mins(5);

/// The kind `rotate_credentials`.
pub(crate) struct RotateCredentials;

/// What a rotation remembers from step to step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RotationProgress {
    /// Whose roles.
    pub(crate) home: HomeId,
    /// The slot that goes out of use.
    pub(crate) from: LoginSlot,
    /// The version that routers are to acknowledge, once published.
    pub(crate) version: Option<FeedVersion>,
    /// Since when they are waited for.
    pub(crate) waiting_since: Option<Timestamp>,
    /// Routers that were not waited for any longer.
    pub(crate) unacknowledged: Vec<String>,
    /// Since when the old role is out of use.
    pub(crate) closed_at: Option<Timestamp>,
}

impl RotationProgress {
    /// At the beginning.
    pub(crate) fn new(home: HomeId, from: LoginSlot) -> Self {
        Self { home, from, version: None, waiting_since: None, unacknowledged: Vec::new(), closed_at: None }
    }
}

impl Kind for RotateCredentials {
    const CODE_VERSION: i32 = 1;
    type Progress = RotationProgress;
    const STEPS: &'static [Step<RotationProgress>] = &[
        step!("open_next_login", open_next_login, nothing),
        step!("publish_route", publish_route, record_publish_route),
        step!("await_routers", await_routers, record_await_routers),
        step!("close_old_login", close_old_login, nothing),
        step!("end_old_sessions", end_old_sessions, nothing),
    ];
    const PIVOT: Option<&'static str> = Some("publish_route");

    fn undo<'a>(work: &'a Work<'a>, progress: &'a mut RotationProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let site = Site::load(work, progress).await?;
            let (fleet, fence) = (work.control.fleet(), work.fence(progress.home));
            let home = &site.home.home;
            fleet.close_login(&site.target, &fence, home, progress.from.other()).await?;
            fleet.set_read_only_password(&site.target, &fence, home, &site.home.secrets.read_only).await?;
            fleet.settle_connections(&site.target, &fence, home, progress.from, &site.limits).await?;
            Ok(())
        })
    }

    fn record_end<'a>(
        _: &'a Work<'a>,
        progress: &'a RotationProgress,
        _: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { Ok(tx.forget_rotation(progress.home).await?) })
    }
}

fn tenant_of(work: &Work<'_>) -> Result<TenantId, StepError> {
    work.operation.tenant.ok_or_else(|| StepError::Failed { reason: "it names no tenant".to_owned() })
}

/// Everything that the steps look at.
struct Site {
    tenant: Tenant,
    home: HomeRecord,
    target: ClusterTarget,
    limits: Limits,
}

impl Site {
    async fn load(work: &Work<'_>, progress: &RotationProgress) -> Result<Self, StepError> {
        let store = work.control.store();
        let tenant = TenantRef::Id(tenant_of(work)?);
        let (tenant, home) = tokio::try_join!(store.tenant(&tenant), store.home(progress.home))?;
        let (access, plan) = tokio::try_join!(store.cluster_access(home.home.cluster), store.plan(&tenant.plan))?;
        let limits = plan.limits.overridden_by(tenant.overrides.limits);
        Ok(Self { tenant, home, target: target_of(access), limits })
    }

    /// Nobody but a served tenant is given `LOGIN`.
    fn check_served(&self) -> Result<(), StepError> {
        match self.tenant.state.status() {
            TenantStatus::Active => Ok(()),
            status => Err(StepError::Failed { reason: format!("the tenant is {status} by now") }),
        }
    }

    /// One step further in dividing the tenant's connections between its two login roles.
    async fn hand_over(
        &self,
        work: &Work<'_>,
        progress: &RotationProgress,
        latecomers: u32,
    ) -> Result<Option<u32>, StepError> {
        let (fleet, fence) = (work.control.fleet(), work.fence(progress.home));
        let (home, limits) = (&self.home.home, &self.limits);
        let handover =
            fleet.hand_over_connections(&self.target, &fence, home, progress.from, latecomers, limits).await?;
        Ok(handover.room)
    }
}

async fn next_secrets(work: &Work<'_>, progress: &RotationProgress) -> Result<NextSecrets, StepError> {
    let next = work.control.store().next_secrets(progress.home).await?;
    next.ok_or_else(|| StepError::Failed {
        reason: "the passwords that it was to bring are gone; begin anew".to_owned(),
    })
}

/// The next login role can log in, with a password that no route names yet.
async fn open_next_login(work: &Work<'_>, progress: &mut RotationProgress) -> StepResult {
    let site = Site::load(work, progress).await?;
    site.check_served()?;
    let next = next_secrets(work, progress).await?;
    let (fleet, fence, home) = (work.control.fleet(), work.fence(progress.home), &site.home.home);
    fleet.open_login(&site.target, &fence, home, progress.from.other(), &next.login, &site.limits).await?;
    Ok(Effect::Changed)
}

/// The new role gets room, the read-only role its password; then the route names both.
async fn publish_route(work: &Work<'_>, progress: &mut RotationProgress) -> StepResult {
    let site = Site::load(work, progress).await?;
    site.check_served()?;
    let next = next_secrets(work, progress).await?;
    let began = tokio::time::Instant::now();
    let mut pause = LOOK_FIRST;
    let latecomers = if work.control.config().rotation_overlap.is_zero() { 0 } else { LATECOMERS };
    while site.hand_over(work, progress, latecomers).await? == Some(0) && began.elapsed() < ROOM_PATIENCE {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MOST);
    }
    let fence = work.fence(progress.home);
    work.control.fleet().set_read_only_password(&site.target, &fence, &site.home.home, &next.read_only).await?;
    Ok(Effect::Changed)
}

/// The pivot: from here on the new passwords are the tenant's.
async fn record_publish_route(work: &Work<'_>, progress: &RotationProgress, tx: &mut Tx) -> Result<(), StepError> {
    // Not locked: whoever shuts the tenant out ends this operation first, and its row is held here. Others lock a tenant
    // before its operations.
    let tenant = tx.tenant(&TenantRef::Id(tenant_of(work)?)).await?;
    if tenant.state.status() != TenantStatus::Active {
        return Err(StepError::Failed { reason: format!("the tenant is {} by now", tenant.state.status()) });
    }
    if !tx.finish_rotation(progress.home, progress.from.other()).await? {
        return Err(StepError::Failed { reason: "the passwords that it was to bring are gone; begin anew".to_owned() });
    }
    tx.touch_route(tenant.id).await?;
    let event = NewEvent::of_tenant(EventKind::TenantCredentialsRotated, tenant.id).by(work.operation.id);
    tx.emit(&event).await?;
    Ok(())
}

/// Every router that is there has the new route, and whoever else was told the old one has had time to log in. Meanwhile
/// the new role gets what the old one lets go of.
async fn await_routers(work: &Work<'_>, progress: &mut RotationProgress) -> StepResult {
    let store = work.control.store();
    let site = Site::load(work, progress).await?;
    let version = match progress.version {
        Some(version) => version,
        None => *progress.version.insert(store.route_version(site.tenant.id).await?),
    };
    let since = *progress.waiting_since.get_or_insert_with(Timestamp::now);
    let began = tokio::time::Instant::now();
    let mut pause = LOOK_FIRST;
    let overlap = work.control.config().rotation_overlap;
    loop {
        let latecomers = if waited(since) < overlap { LATECOMERS } else { 0 };
        site.hand_over(work, progress, latecomers).await?;
        let behind = store.routers_behind(version, ROUTER_SILENCE).await?;
        if behind.is_empty() && waited(since) >= overlap {
            return Ok(Effect::Changed);
        }
        if waited(since) >= ROUTERS_PATIENCE {
            tracing::warn!(tenant_id = %site.tenant.id, routers = ?behind, "routers have not taken a new route over; their connections will be refused");
            progress.unacknowledged = behind;
            return Ok(Effect::Changed);
        }
        if began.elapsed() >= ATTEMPT {
            return Err(StepError::Again {
                reason: match behind.len() {
                    0 => "programs that were told the old login have time to use it".to_owned(),
                    routers => format!("{routers} router(s) have not acknowledged the new route yet"),
                },
                after: Duration::from_millis(500),
                is_busy: true,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MOST);
    }
}

async fn record_await_routers(work: &Work<'_>, progress: &RotationProgress, tx: &mut Tx) -> Result<(), StepError> {
    if !progress.unacknowledged.is_empty() {
        let detail = json!({ "routers": progress.unacknowledged });
        tx.record_event(work.operation.id, "routers_not_waited_for", Some("await_routers"), &detail).await?;
    }
    Ok(())
}

async fn close_old_login(work: &Work<'_>, progress: &mut RotationProgress) -> StepResult {
    let site = Site::load(work, progress).await?;
    let fence = work.fence(progress.home);
    work.control.fleet().close_login(&site.target, &fence, &site.home.home, progress.from).await?;
    progress.closed_at = Some(Timestamp::now());
    Ok(Effect::Changed)
}

/// Who still has a session of the old role may finish; then every role has its share again.
async fn end_old_sessions(work: &Work<'_>, progress: &mut RotationProgress) -> StepResult {
    let site = Site::load(work, progress).await?;
    let (fleet, fence, home) = (work.control.fleet(), work.fence(progress.home), &site.home.home);
    let closed_at = *progress.closed_at.get_or_insert_with(Timestamp::now);
    let began = tokio::time::Instant::now();
    let mut pause = LOOK_FIRST;
    loop {
        site.hand_over(work, progress, 0).await?;
        let leaving = match waited(closed_at) {
            short if short < IDLE_PATIENCE => Leaving::Patiently,
            long if long < TRANSACTION_PATIENCE => Leaving::Idle,
            _ => Leaving::Now,
        };
        let left = fleet.end_login_sessions(&site.target, &fence, home, progress.from, leaving).await?;
        if left == 0 {
            break;
        }
        if began.elapsed() >= ATTEMPT {
            return Err(StepError::Again {
                reason: format!("{left} session(s) of the old login role are still in a transaction"),
                after: Duration::from_millis(500),
                is_busy: true,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_MOST);
    }
    fleet.settle_connections(&site.target, &fence, home, progress.from.other(), &site.limits).await?;
    Ok(Effect::Changed)
}

fn waited(since: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or(Duration::ZERO)
}

async fn nothing(_: &Work<'_>, _: &RotationProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
