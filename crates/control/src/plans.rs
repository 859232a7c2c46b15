//! Plans as admins see them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::plan::{DEFAULT_PLAN, check_features, check_quotas};
use tenantry_domain::{
    Access, Affinity, EffectivePlan, Isolation, Limits, Overrides, Plan, PlanName, Price, Scope, SeedName, TenantId,
};
use tenantry_store::{AuditEntry, Page, PageRequest, TenantRef};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::reconcilers;
use crate::seeds;
use crate::tenants;

/// The wish for a new plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatePlan {
    /// Its name, unique.
    pub name: PlanName,
    /// What a tenant of the plan has to itself, unless an isolation is given.
    pub isolation: Isolation,
    /// Product quotas, by name.
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    pub features: Vec<String>,
    /// Ceilings.
    pub limits: Limits,
    /// Price fields.
    pub price: Price,
    /// What homes of new tenants are filled with.
    pub seed: Option<SeedName>,
    /// Whom its tenants should live beside, and whom not, unless they say so themselves.
    pub affinity: Affinity,
}

/// What changes about a plan; absent means "stays".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanChange {
    /// What new tenants have to themselves.
    pub isolation: Option<Isolation>,
    /// All quotas anew.
    pub quotas: Option<BTreeMap<String, i64>>,
    /// All features anew.
    pub features: Option<Vec<String>>,
    /// All limits anew.
    pub limits: Option<Limits>,
    /// All price fields anew.
    pub price: Option<Price>,
    /// Another seed for new tenants, or none.
    pub seed: Option<Option<SeedName>>,
    /// Whom tenants to come should live beside, and whom not, anew.
    pub affinity: Option<Affinity>,
}

/// A new plan, for tenants to take up.
pub async fn create(control: &Control, caller: &Caller, wish: CreatePlan) -> Result<Plan, ControlError> {
    caller.require_fleet_wide(Scope::Plans(Access::Write))?;
    let plan = Plan {
        name: wish.name,
        isolation: wish.isolation,
        quotas: wish.quotas,
        features: wish.features,
        limits: wish.limits,
        price: wish.price,
        seed: wish.seed,
        affinity: wish.affinity,
        // The catalog's clock decides.
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    check(&plan)?;
    let tx = control.store().begin().await?;
    seeds::check_of_plan(&tx, plan.seed.as_ref()).await?;
    let plan = tx.insert_plan(&plan).await?;
    tx.audit(&AuditEntry { after: Some(summary(&plan)), ..caller.does("plan.create", target(&plan.name)) }).await?;
    tx.commit().await?;
    Ok(plan)
}

/// A page of plans, by name.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<Plan>, ControlError> {
    caller.require(Scope::Plans(Access::Read))?;
    Ok(control.store().plans(page).await?)
}

/// One plan.
pub async fn show(control: &Control, caller: &Caller, plan: &PlanName) -> Result<Plan, ControlError> {
    caller.require(Scope::Plans(Access::Read))?;
    Ok(control.store().plan(plan).await?)
}

/// Changes a plan. New limits reach its tenants one after the other, in their routes and on their roles; their isolation
/// stays: that takes a move.
pub async fn update(
    control: &Control,
    caller: &Caller,
    name: &PlanName,
    change: PlanChange,
    if_match: Option<Timestamp>,
) -> Result<Plan, ControlError> {
    caller.require_fleet_wide(Scope::Plans(Access::Write))?;
    let tx = control.store().begin().await?;
    let before = tx.lock_plan(name).await?;
    check_match(&before, if_match)?;
    let wanted = Plan {
        isolation: change.isolation.unwrap_or(before.isolation),
        quotas: change.quotas.unwrap_or_else(|| before.quotas.clone()),
        features: change.features.unwrap_or_else(|| before.features.clone()),
        limits: change.limits.unwrap_or(before.limits),
        price: change.price.unwrap_or_else(|| before.price.clone()),
        seed: change.seed.clone().unwrap_or_else(|| before.seed.clone()),
        affinity: change.affinity.unwrap_or_else(|| before.affinity.clone()),
        ..before.clone()
    };
    check(&wanted)?;
    if wanted.seed != before.seed {
        seeds::check_of_plan(&tx, wanted.seed.as_ref()).await?;
    }
    let limits_changed = wanted.limits != before.limits;
    let after = tx.update_plan(&wanted, limits_changed).await?;
    let (before, summary) = (Some(summary(&before)), Some(summary(&after)));
    tx.audit(&AuditEntry { before, after: summary, ..caller.does("plan.update", target(name)) }).await?;
    if limits_changed {
        tx.poke_reconciler(reconcilers::PLAN_CHANGES).await?;
    }
    tx.commit().await?;
    Ok(after)
}

/// Forgets a plan that no tenant has.
pub async fn delete(
    control: &Control,
    caller: &Caller,
    name: &PlanName,
    if_match: Option<Timestamp>,
) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Plans(Access::Write))?;
    let tx = control.store().begin().await?;
    let before = tx.lock_plan(name).await?;
    check_match(&before, if_match)?;
    if name.as_str() == DEFAULT_PLAN {
        return Err(ControlError::Conflict {
            reason: format!("plan `{name}` is what tenants get that name none; change it instead of deleting it"),
        });
    }
    let (tenants, deleted) = tx.count_tenants_of_plan(name).await?;
    if tenants > 0 {
        let advice = if tenants == deleted {
            "all of them deleted and not purged; purge them first"
        } else {
            "give them another plan first; `tenantry tenant list --plan` names them"
        };
        return Err(ControlError::Conflict {
            reason: format!("plan `{name}` is used by {tenants} tenant(s): {advice}"),
        });
    }
    tx.audit(&AuditEntry { before: Some(summary(&before)), ..caller.does("plan.delete", target(name)) }).await?;
    tx.delete_plan(name).await?;
    tx.commit().await?;
    Ok(())
}

/// What holds for a tenant: its plan with its overrides in place.
pub async fn effective(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
) -> Result<(TenantId, EffectivePlan), ControlError> {
    let tenant = tenants::show(control, caller, tenant).await?;
    let plan = control.store().plan(&tenant.plan).await?;
    Ok((tenant.id, EffectivePlan::of(&plan, &tenant.overrides)))
}

/// Refuses overrides that no tenant may have.
pub(crate) fn check_overrides(overrides: &Overrides) -> Result<(), ControlError> {
    overrides.check().map_err(|error| ControlError::invalid("/overrides", error.to_string()))
}

fn check(plan: &Plan) -> Result<(), ControlError> {
    plan.limits.check().map_err(|error| ControlError::invalid("/limits", error.to_string()))?;
    check_quotas(&plan.quotas).map_err(|error| ControlError::invalid("/quotas", error.to_string()))?;
    check_features(plan.features.iter().map(String::as_str))
        .map_err(|error| ControlError::invalid("/features", error.to_string()))?;
    plan.price.check().map_err(|reason| ControlError::invalid("/price", reason))
}

fn check_match(plan: &Plan, if_match: Option<Timestamp>) -> Result<(), ControlError> {
    if if_match.is_some_and(|expected| expected != plan.updated_at) {
        return Err(ControlError::PreconditionFailed);
    }
    Ok(())
}

fn target(name: &PlanName) -> String {
    format!("plan/{name}")
}

/// What the audit log keeps of a plan.
fn summary(plan: &Plan) -> Value {
    json!({
        "isolation": plan.isolation,
        "quotas": plan.quotas,
        "features": plan.features,
        "limits": plan.limits,
        "price": plan.price,
        "seed": plan.seed,
        "affinity": plan.affinity,
    })
}
