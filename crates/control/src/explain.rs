//! One tenant explained: what is intended, what its cluster shows, and where the two differ.

mod differences;

use std::time::Duration;

use tenantry_domain::{
    Access, Cluster, EffectivePlan, FeedVersion, Home, HomeId, Limits, OperationKind, Plan, Route, SchemaVersion,
    Scope, Tenant, TenantStatus,
};
use tenantry_fleet::{ClusterTarget, IntendedRoles, ObservedHome, PoolAccess, Stamp};
use tenantry_store::{
    Adoption, ClusterRef, HomeRecord, Operation, OperationEvent, OperationFilter, PageRequest, Resource, RouteRef,
    RouterRecord, TenantRef,
};

use crate::caller::Caller;
use crate::candidates::Newcomer;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::target_of;
use crate::operations::provision_tenant::role_secrets;
use crate::reconcilers::pool_roles;
use crate::reconcilers::roles::pool_access;
use crate::rollouts::stragglers;
use crate::tenants;

/// Operations that are told, the newest first.
const OPERATIONS: u32 = 5;
/// Entries of each one's log.
const EVENTS: i64 = 50;
/// Routers that are told.
const ROUTERS: u32 = 100;
/// The longest that looking at the cluster may take: an explanation is most wanted when something hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A tenant with everything around it.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What the catalog says of it.
    pub tenant: Tenant,
    /// What holds for it.
    pub plan: EffectivePlan,
    /// What routers are told, without passwords; absent where it has none.
    pub route: Option<Route>,
    /// Where it lives or is being put, and why there.
    pub placement: Option<ExplainedPlacement>,
    /// How it was taken over, if it was.
    pub adoption: Option<Adoption>,
    /// What its cluster shows.
    pub observed: Observed,
    /// Where intention and observation differ, a sentence each.
    pub differences: Vec<String>,
    /// What was recorded for it on clusters and is not gone.
    pub resources: Vec<Resource>,
    /// Its newest operations with their logs.
    pub operations: Vec<(Operation, Vec<OperationEvent>)>,
    /// The newest version of the feed.
    pub feed_version: FeedVersion,
    /// How far each router is.
    pub routers: Vec<RouterStanding>,
}

/// A home and how it came to be chosen.
#[derive(Debug, Clone)]
pub struct ExplainedPlacement {
    /// The home's id.
    pub home: HomeId,
    /// Its cluster.
    pub cluster: Cluster,
    /// Where it is there.
    pub place: Home,
    /// Why it is there.
    pub reason: String,
}

/// What the cluster shows of the tenant's home. What could not be seen is absent, and `unseen` says why.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Its database, schema and roles.
    pub home: Option<ObservedHome>,
    /// What is wrong with its roles and with that of the pool that serves it, a sentence each.
    pub role_drift: Option<Vec<String>>,
    /// Whose it says it is.
    pub stamp: Option<Stamp>,
    /// The version that its own history tells.
    pub schema_version: Option<SchemaVersion>,
    /// Sessions of its login roles.
    pub sessions: Option<u32>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// What could not be seen, a sentence each.
    pub unseen: Vec<String>,
}

/// How far a router is, compared with the tenant's route.
#[derive(Debug, Clone)]
pub struct RouterStanding {
    /// What it last reported.
    pub router: RouterRecord,
    /// Whether it has applied the tenant's present route.
    pub has_route: bool,
}

/// Explains a tenant. A cluster that does not answer makes the explanation shorter, never fail.
pub async fn explain(control: &Control, caller: &Caller, named: &TenantRef) -> Result<Explanation, ControlError> {
    let tenant = tenants::show(control, caller, named).await?;
    caller.require(Scope::Operations(Access::Read))?;
    let store = control.store();
    let plan = store.plan(&tenant.plan).await?;
    let limits = plan.limits.overridden_by(tenant.overrides.limits);
    let neighbours = neighbours(control, caller, &tenant, &plan).await?;
    let plan = EffectivePlan::of(&plan, &tenant.overrides);
    let route = match store.resolve(&RouteRef::Id(tenant.id), false).await {
        Ok(route) => Some(route),
        Err(tenantry_store::StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let resources = store.resources_of_tenant(tenant.id).await?;
    let adoption = store.adoption(tenant.id).await?;
    let operations = operations_of(control, &tenant).await?;
    let home = match home_of(&tenant, &resources) {
        Some(home) => match store.home(home).await {
            Ok(home) => Some(home),
            Err(tenantry_store::StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let (placement, observed) = match &home {
        Some(home) => {
            let reason = reason_of(control, &tenant, home).await?;
            let cluster = store.cluster(&ClusterRef::Id(home.home.cluster)).await?;
            let placement = ExplainedPlacement { home: home.home.id, cluster, place: home.home.clone(), reason };
            (Some(placement), observe(control, &tenant, home, limits).await?)
        }
        None => (None, Observed::default()),
    };
    let (routers, feed_version) = routers(control, route.as_ref()).await?;
    let mut differences = differences::between(&tenant, route.as_ref(), home.as_ref(), &observed, &routers);
    differences.extend(differences::of_pooling(&tenant, &limits, home.as_ref()));
    differences.extend(neighbours);
    differences.extend(store.straggler(tenant.id).await?.as_ref().map(stragglers::sentence));
    differences.extend(store.drift(tenant.id).await?.found.and_then(|found| found.reason));
    Ok(Explanation {
        tenant,
        plan,
        route,
        placement,
        adoption,
        observed,
        differences,
        resources,
        operations,
        feed_version,
        routers,
    })
}

fn home_of(tenant: &Tenant, resources: &[Resource]) -> Option<HomeId> {
    let lived_in = tenant.state.placement().map(|placement| placement.home.id);
    lived_in.or_else(|| resources.iter().rev().find_map(|resource| resource.home))
}

async fn operations_of(
    control: &Control,
    tenant: &Tenant,
) -> Result<Vec<(Operation, Vec<OperationEvent>)>, ControlError> {
    let store = control.store();
    let filter = OperationFilter { tenant: Some(tenant.id), ..OperationFilter::default() };
    let newest = store.operations(&filter, &PageRequest { limit: OPERATIONS, cursor: None }).await?;
    let mut told = Vec::new();
    for operation in newest.items {
        let events = store.operation_events(operation.id, 0, EVENTS).await?;
        told.push((operation, events));
    }
    Ok(told)
}

/// From the operation that chose the place.
async fn reason_of(control: &Control, tenant: &Tenant, home: &HomeRecord) -> Result<String, ControlError> {
    let store = control.store();
    for kind in [OperationKind::Adopt, OperationKind::Provision] {
        let filter = OperationFilter { tenant: Some(tenant.id), kind: Some(kind), ..OperationFilter::default() };
        let found = store.operations(&filter, &PageRequest { limit: 1, cursor: None }).await?;
        let Some(operation) = found.items.first() else { continue };
        if kind == OperationKind::Adopt {
            return Ok(format!("it was there already: database `{}` was adopted in place", home.home.database));
        }
        let placed = operation.progress.get("placed").and_then(|placed| placed.as_str());
        return Ok(placed.map_or_else(|| "the planner's decision was not recorded".to_owned(), str::to_owned));
    }
    Ok("the operation that chose it is forgotten".to_owned())
}

/// What is wrong with those who live beside it, in a sentence. Not for a caller that is bound to one tenant: who else
/// bears a label is none of its business.
async fn neighbours(
    control: &Control,
    caller: &Caller,
    tenant: &Tenant,
    plan: &Plan,
) -> Result<Option<String>, ControlError> {
    let Some(placement) = tenant.state.placement().filter(|_| caller.tenant.is_none()) else { return Ok(None) };
    let apart = match Newcomer::of(tenant, plan).keep_apart() {
        Ok(Some(apart)) if apart.required => apart,
        Ok(_) => return Ok(None),
        Err(lacks) => return Ok(Some(lacks.to_string())),
    };
    let tx = control.store().begin().await?;
    let clusters = tx.placement_candidates(Some((&apart.label, &apart.value))).await?;
    let alike = clusters.iter().find(|it| it.cluster.id == placement.home.cluster).map_or(0, |it| it.alike);
    // The tenant bears the label itself.
    let others = alike.saturating_sub(1);
    Ok((others > 0).then(|| {
        format!(
            "the tenant must keep apart from others with the label `{}={}`, and {others} of them live on its cluster; \
             no home moves by itself",
            apart.label, apart.value
        )
    }))
}

async fn routers(control: &Control, route: Option<&Route>) -> Result<(Vec<RouterStanding>, FeedVersion), ControlError> {
    let store = control.store();
    let page = store.routers(None, &PageRequest { limit: ROUTERS, cursor: None }).await?;
    let newest = store.feed_version().await?.current;
    let standing = page.items.into_iter().map(|router| {
        let has_route = route.is_none_or(|route| router.applied_version >= route.version);
        RouterStanding { router, has_route }
    });
    Ok((standing.collect(), newest))
}

async fn drift_of_pool(control: &Control, target: &ClusterTarget, home: &Home) -> Result<Vec<String>, ControlError> {
    let pools = control.store().shared_pools(target.id).await?;
    let own: Vec<_> =
        pools.into_iter().filter(|pool| pool.database == home.database).map(pool_roles::intended).collect();
    let report = control.fleet().shared_pool_drift(target, &own).await?;
    Ok(report.drifted.into_values().flatten().collect())
}

/// Looks at the cluster, for a bounded time.
async fn observe(
    control: &Control,
    tenant: &Tenant,
    home: &HomeRecord,
    limits: Limits,
) -> Result<Observed, ControlError> {
    let store = control.store();
    let target = target_of(store.cluster_access(home.home.cluster).await?);
    // Absent while an operation decides it.
    let pool = store.home_roles_among(&[home.home.id]).await?.first().map_or(PoolAccess::Changing, pool_access);
    let mut observed = Observed::default();
    let looking = look(control, &target, tenant, home, (limits, pool), &mut observed);
    if tokio::time::timeout(PATIENCE, looking).await.is_err() {
        observed.unseen.push(format!("the cluster did not answer within {} s", PATIENCE.as_secs()));
    }
    Ok(observed)
}

async fn look(
    control: &Control,
    target: &ClusterTarget,
    tenant: &Tenant,
    record: &HomeRecord,
    (limits, pool): (Limits, PoolAccess),
    observed: &mut Observed,
) {
    let (fleet, home) = (control.fleet(), &record.home);
    let seen = match fleet.observe_home(target, home).await {
        Ok(seen) => seen,
        Err(error) => {
            observed.unseen.push(format!("the home: {error}"));
            return;
        }
    };
    let is_whole = seen.database && seen.schema;
    observed.home = Some(seen);
    let intended = IntendedRoles {
        home: home.clone(),
        secrets: role_secrets(record),
        limits,
        is_open: tenant.state.status() == TenantStatus::Active,
        pool,
    };
    match fleet.role_drift(target, &[intended]).await {
        Ok(report) => {
            observed.role_drift = Some(report.drifted.into_iter().flat_map(|(_, findings)| findings).collect());
        }
        Err(error) => observed.unseen.push(format!("its roles: {error}")),
    }
    if pool == PoolAccess::LetIn {
        match drift_of_pool(control, target, home).await {
            Ok(findings) => observed.role_drift.get_or_insert_default().extend(findings),
            Err(error) => observed.unseen.push(format!("the role of its pool: {error}")),
        }
    }
    match fleet.home_connections(target, home).await {
        Ok(sessions) => observed.sessions = Some(sessions),
        Err(error) => observed.unseen.push(format!("its sessions: {error}")),
    }
    if !is_whole {
        return;
    }
    match fleet.read_stamp(target, home).await {
        Ok(stamp) => observed.stamp = stamp,
        Err(error) => observed.unseen.push(format!("its stamp: {error}")),
    }
    match fleet.home_size(target, home).await {
        Ok(size) => observed.size_bytes = Some(size),
        Err(error) => observed.unseen.push(format!("its size: {error}")),
    }
    match fleet.history(target, home, &record.secrets.migrator).await {
        Ok(history) => {
            let newest = history.iter().map(|applied| applied.version).max();
            observed.schema_version = Some(SchemaVersion(newest.unwrap_or(0)));
        }
        Err(error) => observed.unseen.push(format!("its history of migrations: {error}")),
    }
}
