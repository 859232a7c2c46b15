//! Where a home would go, for whoever asks before there is a tenant.

use tenantry_domain::plan::DEFAULT_PLAN;
use tenantry_domain::{Access, Affinity, Isolation, Labels, Limits, Plan, PlanName, Region, Scope, TenantId};
use tenantry_store::{ClusterRef, TenantRef};

use crate::caller::Caller;
use crate::candidates::{HomePlan, Newcomer, plan_home};
use crate::control::Control;
use crate::error::ControlError;
use crate::tenants::{check_region, default_region, unknown};

/// A home that is asked about. What is absent is filled in as for a new tenant.
#[derive(Debug, Clone, Default)]
pub struct ExplainPlacement {
    /// The tenant's plan.
    pub plan: Option<PlanName>,
    /// Where its data must be: a region or a group.
    pub region: Option<Region>,
    /// What it has to itself.
    pub isolation: Option<Isolation>,
    /// The only cluster that will do.
    pub cluster: Option<ClusterRef>,
    /// The tenant above it.
    pub parent: Option<TenantRef>,
    /// Its labels.
    pub labels: Labels,
    /// Its own limits.
    pub overrides: Limits,
    /// Whom it should live beside, and whom not.
    pub affinity: Affinity,
}

/// The question with everything filled in, and the answer.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The plan.
    pub plan: Plan,
    /// The region or group.
    pub region: Region,
    /// What the tenant may use at most.
    pub limits: Limits,
    /// Where its home would go, or why nowhere.
    pub home: HomePlan,
}

/// Says which cluster a home would go to now, and of every other why not. Changes nothing and promises nothing: a moment
/// later another tenant may have the place.
pub async fn explain(
    control: &Control,
    caller: &Caller,
    question: &ExplainPlacement,
) -> Result<Explanation, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Read))?;
    let tx = control.store().begin().await?;
    let plan_name = match &question.plan {
        Some(plan) => plan.clone(),
        None => PlanName::parse(DEFAULT_PLAN)?,
    };
    let plan = tx.plan(&plan_name).await.map_err(|error| unknown(error, "/plan", "plan", plan_name.as_str()))?;
    let regions = tx.regions().await?;
    let region = match &question.region {
        Some(region) => region.clone(),
        None => default_region(control, &regions)?,
    };
    check_region(&tx, control, &region, &regions).await?;
    let parent: Option<TenantId> = match &question.parent {
        Some(parent) => {
            Some(tx.tenant(parent).await.map_err(|error| unknown(error, "/parent", "tenant", &parent.to_string()))?.id)
        }
        None => None,
    };
    let pin = match &question.cluster {
        Some(cluster) => Some(
            tx.cluster(cluster).await.map_err(|error| unknown(error, "/cluster", "cluster", &cluster.to_string()))?.id,
        ),
        None => None,
    };
    let newcomer = Newcomer {
        region: &region,
        isolation: question.isolation.unwrap_or(plan.isolation),
        plan: &plan,
        overrides: question.overrides,
        labels: &question.labels,
        affinity: &question.affinity,
        parent,
    };
    let (limits, home) = (newcomer.limits(), plan_home(control, &tx, newcomer, pin).await?);
    drop(tx);
    Ok(Explanation { plan, region, limits, home })
}
