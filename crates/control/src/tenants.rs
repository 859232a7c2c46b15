//! Tenants as admins see them.

mod deletion;
pub(crate) mod hierarchy;
pub mod hosts;
mod migrate_down;
mod precedence;
mod suspension;

pub use deletion::{delete, purge, restore};
pub use migrate_down::{GoBack, migrate_down};
pub use suspension::{Begun, Resume, Suspend, resume, suspend};
pub(crate) use suspension::{end_suspension, end_trial, suspend_unless_suspended};

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::Generation;
use tenantry_domain::plan::DEFAULT_PLAN;
use tenantry_domain::{
    Access, Affinity, ClusterId, DisplayName, EventKind, Isolation, Labels, Limits, OperationId, OperationKind,
    Overrides, Plan, PlanName, Region, RouteState, Scope, SeedId, Slug, Tenant, TenantId,
};
use tenantry_store::{
    AuditEntry, ClusterRef, NewEvent, NewOperation, NewTenant, Operation, Page, PageRequest, TenantChange,
    TenantFilter, TenantRef, Tx,
};

use crate::caller::Caller;
use crate::candidates::{HomePlan, Newcomer, plan_home};
use crate::control::{Control, new_id};
use crate::engine::Kind;
use crate::error::ControlError;
use crate::operations::provision_tenant::ProvisionTenant;
use crate::operations::reserve_home;
use crate::seeds::{self, SeedChoice};
use crate::{plans, reconcilers};

/// The wish for a new tenant. Only the slug has no default.
#[derive(Debug, Clone)]
pub struct CreateTenant {
    /// Its name in URLs and hosts.
    pub slug: Slug,
    /// Its name for people; absent means the slug.
    pub name: Option<DisplayName>,
    /// Its plan; absent means [`DEFAULT_PLAN`].
    pub plan: Option<PlanName>,
    /// Where its data must be; absent means the configured default, or the only region that has clusters.
    pub region: Option<Region>,
    /// What it has to itself; absent means what the plan says.
    pub isolation: Option<Isolation>,
    /// The tenant above it.
    pub parent: Option<TenantRef>,
    /// Marks for selecting.
    pub labels: Labels,
    /// Its own limits, quotas and features in place of the plan's.
    pub overrides: Overrides,
    /// End of its trial.
    pub trial_ends_at: Option<Timestamp>,
    /// The only cluster that will do.
    pub cluster: Option<ClusterRef>,
    /// What its home is filled with.
    pub seed: SeedChoice,
    /// Whom it should live beside, and whom not, in place of what the plan wishes.
    pub affinity: Affinity,
}

/// What creating a tenant would come to.
#[derive(Debug, Clone)]
pub struct TenantPreview {
    /// The tenant as it would be recorded; its id is not kept.
    pub tenant: Tenant,
    /// What it may use at most, its own limits in place of its plan's.
    pub limits: Limits,
    /// Where its home would go, or why nowhere.
    pub home: HomePlan,
}

/// How often a creation is decided anew when others take the place that was meant for it.
const CREATE_ATTEMPTS: usize = 8;

/// Records a tenant with its home and the operation that makes it. Returns at once; the operation goes on.
pub async fn create(
    control: &Control,
    caller: &Caller,
    wish: CreateTenant,
    idempotency_key: Option<String>,
) -> Result<(Tenant, Operation), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    plans::check_overrides(&wish.overrides)?;
    let mut attempt = 1;
    let begun = loop {
        match Box::pin(begin(control, caller, &wish, idempotency_key.clone())).await {
            Err(ControlError::Outrun { .. }) if attempt < CREATE_ATTEMPTS => attempt += 1,
            begun => break begun?,
        }
    };
    control.signals().wake_operations();
    Ok(begun)
}

/// What [`create`] would come to, with the same checks. Nothing is written.
pub async fn preview(control: &Control, caller: &Caller, wish: &CreateTenant) -> Result<TenantPreview, ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    plans::check_overrides(&wish.overrides)?;
    let mut tx = control.store().begin().await?;
    let draft = draft(control, &mut tx, wish, OperationId::new(new_id())).await?;
    let tenant = tx.insert_tenant(&draft.tenant).await?;
    let newcomer = Newcomer::of(&tenant, &draft.plan);
    let (limits, home) = (newcomer.limits(), plan_home(control, &tx, newcomer, draft.pin).await?);
    // Rolled back: the slug stays free.
    drop(tx);
    Ok(TenantPreview { tenant, limits, home })
}

/// A tenant to be recorded, and what goes with it.
struct Draft {
    tenant: NewTenant,
    plan: Plan,
    pin: Option<ClusterId>,
    seed: Option<SeedId>,
}

/// One attempt to record everything. What needs nothing of each other's answers is sent together, in the order in which it
/// refers to each other.
async fn begin(
    control: &Control,
    caller: &Caller,
    wish: &CreateTenant,
    idempotency_key: Option<String>,
) -> Result<(Tenant, Operation), ControlError> {
    let mut tx = control.store().begin().await?;
    let id = OperationId::new(new_id());
    let Draft { tenant, plan, pin, seed } = draft(control, &mut tx, wish, id).await?;
    let operation = NewOperation {
        id,
        kind: OperationKind::Provision,
        tenant: Some(tenant.id),
        cluster: None,
        input: json!({ "isolation": tenant.isolation, "cluster": pin, "seed": seed }),
        progress: Value::Null,
        idempotency_key,
        code_version: ProvisionTenant::CODE_VERSION,
    };
    let (tenant, operation) = futures::join!(tx.insert_tenant(&tenant), tx.insert_operation(&operation));
    let (tenant, operation) = (tenant?, operation?);
    let reserved = reserve_home::choose(control, &mut tx, &tenant, &plan, pin, id).await?;
    let progress = serde_json::to_value(&reserved.progress).map_err(ControlError::internal)?;
    let target = format!("tenant/{}", tenant.id);
    let entry = AuditEntry {
        tenant: Some(tenant.id),
        operation: Some(id),
        after: Some(summary(&tenant)),
        ..caller.does("tenant.create", target)
    };
    let event = NewEvent::of_tenant(EventKind::TenantCreated, tenant.id).by(id);
    let (recorded, noted, entered, told) =
        futures::join!(reserved.record(&tx), tx.set_progress(id, &progress), tx.audit_first(&entry), tx.emit(&event));
    recorded?;
    noted?;
    entered?;
    told?;
    tx.publish_route(tenant.id, RouteState::Provisioning, Generation::default(), None).await?;
    tx.commit().await?;
    Ok((tenant, operation))
}

/// Fills in what the wish leaves open, and checks every name in it.
async fn draft(
    control: &Control,
    tx: &mut Tx,
    wish: &CreateTenant,
    operation: OperationId,
) -> Result<Draft, ControlError> {
    check_slug(&wish.slug)?;
    let (plan, regions) = futures::join!(named_plan(tx, wish.plan.clone()), tx.regions());
    let (plan, regions) = (plan?, regions?);
    let region = match &wish.region {
        Some(region) => region.clone(),
        None => default_region(control, &regions)?,
    };
    let parent = match &wish.parent {
        Some(parent) => Some(hierarchy::check_parent(tx, None, parent).await?),
        None => None,
    };
    let pin = match &wish.cluster {
        Some(cluster) => Some(
            tx.cluster(cluster).await.map_err(|error| unknown(error, "/cluster", "cluster", &cluster.to_string()))?.id,
        ),
        None => None,
    };
    check_region(tx, control, &region, &regions).await?;
    let seed = seeds::choose(tx, &wish.seed, plan.seed.clone()).await?;
    let name = match &wish.name {
        Some(name) => name.clone(),
        None => DisplayName::parse(wish.slug.as_str())?,
    };
    let tenant = NewTenant {
        id: TenantId::new(new_id()),
        slug: wish.slug.clone(),
        name,
        plan: plan.name.clone(),
        region,
        isolation: wish.isolation.unwrap_or(plan.isolation),
        parent,
        labels: wish.labels.clone(),
        overrides: wish.overrides.clone(),
        affinity: wish.affinity.clone(),
        trial_ends_at: wish.trial_ends_at,
        operation,
    };
    Ok(Draft { tenant, plan, pin, seed })
}

/// A page of tenants, oldest first.
pub async fn list(
    control: &Control,
    caller: &Caller,
    filter: &TenantFilter,
    page: &PageRequest,
) -> Result<Page<Tenant>, ControlError> {
    caller.require(Scope::Tenants(Access::Read))?;
    if let Some(own) = caller.tenant {
        let tenant = control.store().tenant(&TenantRef::Id(own)).await?;
        return Ok(Page { items: vec![tenant], next: None });
    }
    Ok(control.store().tenants(filter, page).await?)
}

/// One tenant; tombstones are shown too.
pub async fn show(control: &Control, caller: &Caller, tenant: &TenantRef) -> Result<Tenant, ControlError> {
    caller.require(Scope::Tenants(Access::Read))?;
    visible(caller, tenant, control.store().tenant(tenant).await?)
}

/// Changes name, plan, labels, overrides, parent, wishes about neighbours or the end of the trial. Isolation and cluster
/// stay: those take a move. Parent, neighbours and trial are not for callers that are bound to a tenant: those are about
/// what it owes others.
pub async fn update(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    change: TenantChange,
    if_match: Option<Timestamp>,
) -> Result<Tenant, ControlError> {
    caller.require(Scope::Tenants(Access::Write))?;
    let changes_limits = change.plan.is_some() || change.overrides.is_some();
    if changes_limits || change.parent.is_some() || change.affinity.is_some() || change.trial_ends_at.is_some() {
        // Nobody raises the limits that hold for himself, nor moves the end of his own trial.
        caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    }
    if let Some(overrides) = &change.overrides {
        plans::check_overrides(overrides)?;
    }
    let mut tx = control.store().begin().await?;
    let before = visible(caller, tenant, tx.lock_tenant(tenant).await?)?;
    check_match(&before, if_match)?;
    if !before.state.status().may_change() {
        return Err(ControlError::InvalidState {
            reason: format!("tenant `{}` is {} and cannot be changed", before.slug, before.state.status()),
        });
    }
    if let Some(plan) = &change.plan {
        tx.plan(plan).await.map_err(|error| unknown(error, "/plan", "plan", plan.as_str()))?;
    }
    if let Some(Some(parent)) = change.parent
        && before.parent != Some(parent)
    {
        hierarchy::check_parent(&tx, Some(before.id), &TenantRef::Id(parent)).await?;
    }
    let after = tx.update_tenant(before.id, &change).await?;
    check_apart(&tx, &change, &before, &after).await?;
    audit(&mut tx, caller, "tenant.update", before.id, None, Some(summary(&before)), Some(summary(&after))).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantUpdated, before.id)).await?;
    if changes_limits {
        tx.mark_roles_due(before.id).await?;
        tx.poke_reconciler(reconcilers::ROLE_CHANGES).await?;
    }
    tx.touch_route(before.id).await?;
    tx.commit().await?;
    Ok(after)
}

/// Refuses a change after which the tenant must keep apart by a label that it does not bear: no home could be found for
/// it again. One that is so already may be changed otherwise.
async fn check_apart(tx: &Tx, change: &TenantChange, before: &Tenant, after: &Tenant) -> Result<(), ControlError> {
    if change.affinity.is_none() && change.labels.is_none() && change.plan.is_none() {
        return Ok(());
    }
    let Err(lacks) = Newcomer::of(after, &tx.plan(&after.plan).await?).keep_apart() else { return Ok(()) };
    let was_so = Newcomer::of(before, &tx.plan(&before.plan).await?).keep_apart().is_err();
    let pointer = match (change.affinity.is_some(), change.labels.is_some()) {
        (true, _) => "/affinity",
        _ if was_so => return Ok(()),
        (false, true) => "/labels",
        (false, false) => "/plan",
    };
    Err(ControlError::invalid(pointer, lacks.to_string()))
}

/// A tenant outside the caller's sight is told apart from a missing one by nobody.
pub(crate) fn visible(caller: &Caller, named: &TenantRef, tenant: Tenant) -> Result<Tenant, ControlError> {
    if caller.sees(tenant.id) {
        Ok(tenant)
    } else {
        Err(ControlError::NotFound { what: "tenant", name: named.to_string() })
    }
}

pub(crate) fn check_match(tenant: &Tenant, if_match: Option<Timestamp>) -> Result<(), ControlError> {
    if if_match.is_some_and(|expected| expected != tenant.updated_at) {
        return Err(ControlError::PreconditionFailed);
    }
    Ok(())
}

/// In a request body, a name that is not there is a mistake in the request, not a missing page.
pub(crate) fn unknown(
    error: tenantry_store::StoreError,
    pointer: &'static str,
    what: &'static str,
    name: &str,
) -> ControlError {
    match error {
        tenantry_store::StoreError::NotFound { .. } => ControlError::invalid(
            pointer,
            format!("there is no {what} `{name}`; list them with `tenantry {what} list`"),
        ),
        other => other.into(),
    }
}

/// Refuses a new tenant that could not be named in a URL.
pub(crate) fn check_slug(slug: &Slug) -> Result<(), ControlError> {
    slug.check_new().map_err(|error| ControlError::invalid("/slug", error.to_string()))
}

/// The plan that a new tenant gets.
pub(crate) async fn named_plan(tx: &Tx, name: Option<PlanName>) -> Result<Plan, ControlError> {
    let name = match name {
        Some(name) => name,
        None => PlanName::parse(DEFAULT_PLAN)?,
    };
    tx.plan(&name).await.map_err(|error| unknown(error, "/plan", "plan", name.as_str()))
}

/// The region of a tenant whose wish names none; `regions` are those that have clusters.
pub(crate) fn default_region(control: &Control, regions: &[Region]) -> Result<Region, ControlError> {
    if let Some(region) = &control.config().default_region {
        return Ok(region.clone());
    }
    match regions {
        [only] => Ok(only.clone()),
        [] => Err(ControlError::NoCapacity {
            reason: "no cluster is registered; register one with `tenantry cluster register`".to_owned(),
        }),
        several => {
            let names: Vec<&str> = several.iter().map(Region::as_str).collect();
            Err(ControlError::invalid(
                "/region",
                format!("there are several regions; name one of {}", names.join(", ")),
            ))
        }
    }
}

/// Whether there is such a region, or group of regions; `regions` are those that have clusters.
pub(crate) async fn check_region(
    tx: &Tx,
    control: &Control,
    region: &Region,
    regions: &[Region],
) -> Result<(), ControlError> {
    if regions.contains(region) || regions.is_empty() && control.config().default_region.as_ref() == Some(region) {
        return Ok(());
    }
    if tx.groups_among(&[region.as_str()]).await?.contains(region) {
        return Ok(());
    }
    let names: Vec<&str> = regions.iter().map(Region::as_str).collect();
    let known = if names.is_empty() { "none: no cluster is registered".to_owned() } else { names.join(", ") };
    Err(ControlError::invalid(
        "/region",
        format!(
            "there is no region or region group `{region}`; regions with clusters are {known}; groups are listed by \
             `tenantry region-group list`"
        ),
    ))
}

/// What the audit log keeps of a tenant.
fn summary(tenant: &Tenant) -> Value {
    json!({
        "slug": tenant.slug,
        "name": tenant.name,
        "plan": tenant.plan,
        "region": tenant.region,
        "isolation": tenant.isolation,
        "parent": tenant.parent,
        "labels": tenant.labels,
        "hosts": tenant.hosts,
        "overrides": tenant.overrides,
        "affinity": tenant.affinity,
        "status": tenant.state.status(),
        "status_reason": tenant.state.reason(),
        "trial_ends_at": tenant.trial_ends_at,
    })
}

async fn audit(
    tx: &mut Tx,
    caller: &Caller,
    action: &str,
    tenant: TenantId,
    operation: Option<OperationId>,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ControlError> {
    let target = format!("tenant/{tenant}");
    tx.audit(&AuditEntry { tenant: Some(tenant), operation, before, after, ..caller.does(action, target) }).await?;
    Ok(())
}
