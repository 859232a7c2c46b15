//! From the catalog to what the planner is asked and given, and from its answer to a home.

use tenantry_domain::{Affinity, ClusterId, Isolation, Labels, Limits, Plan, ProviderKind, Region, Tenant, TenantId};
use tenantry_store::{ClusterRef, Tx};

use crate::control::Control;
use crate::error::ControlError;
use crate::placement::{self, Candidate, Decision, KeepApart, Wish};

/// Whoever needs a home, as far as the planner cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    pub(crate) region: &'a Region,
    pub(crate) isolation: Isolation,
    pub(crate) plan: &'a Plan,
    pub(crate) overrides: Limits,
    pub(crate) labels: &'a Labels,
    pub(crate) affinity: &'a Affinity,
    pub(crate) parent: Option<TenantId>,
}

impl<'a> Newcomer<'a> {
    pub(crate) fn of(tenant: &'a Tenant, plan: &'a Plan) -> Self {
        Self {
            region: &tenant.region,
            isolation: tenant.isolation,
            plan,
            overrides: tenant.overrides.limits,
            labels: &tenant.labels,
            affinity: &tenant.affinity,
            parent: tenant.parent,
        }
    }

    /// What it may use at most.
    pub(crate) fn limits(&self) -> Limits {
        self.plan.limits.overridden_by(self.overrides)
    }
}

/// Where a home would go, with all the reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomePlan {
    /// What was asked for, in the planner's words.
    pub wish: Wish,
    /// What the planner says of each registered cluster.
    pub decision: Decision,
    /// For isolation `cluster`: what each provider that starts clusters says.
    pub offers: Vec<Offer>,
    /// Where it would go; absent means nowhere.
    pub choice: Option<Choice>,
    /// The clusters where homes wait for tenants to come, or are being made.
    warm: Vec<ClusterId>,
}

/// What a provider says to a wish for a whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which provider.
    pub provider: ProviderKind,
    /// Why it does not; absent means that it would start one.
    pub refusal: Option<String>,
}

/// Where a home goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// To a registered cluster.
    Cluster(ClusterId),
    /// To a cluster that the provider starts for it.
    Started(ProviderKind),
}

impl HomePlan {
    /// Why it goes nowhere, in one sentence.
    pub fn explain(&self) -> String {
        let mut reasons = vec![self.decision.explain()];
        reasons.extend(self.offers.iter().filter_map(|offer| offer.refusal.clone()));
        reasons.join("; ")
    }

    /// Whether homes wait on the cluster for tenants to come, or are being made, as it was looked at.
    pub(crate) fn has_warm_homes(&self, cluster: ClusterId) -> bool {
        self.warm.contains(&cluster)
    }

    /// Where it goes, or that there is no room.
    pub(crate) fn choice(&self) -> Result<Choice, ControlError> {
        self.choice.ok_or_else(|| ControlError::NoCapacity { reason: self.explain() })
    }
}

/// Decides where the newcomer's home goes. Changes nothing, but holds what the decision rests on as far as that can be
/// held: the members of its region group, and tenants that must keep apart. A limit of a cluster is held by the catalog
/// when the home is recorded.
pub(crate) async fn plan_home(
    control: &Control,
    tx: &Tx,
    newcomer: Newcomer<'_>,
    pin: Option<ClusterId>,
) -> Result<HomePlan, ControlError> {
    if newcomer.isolation == Isolation::Row {
        return Err(ControlError::invalid(
            "/isolation",
            "isolation `row` cannot be provisioned yet; use schema, database or cluster",
        ));
    }
    let apart = apart_of(newcomer)?;
    let (wish, candidates) = if let Some(apart) = &apart {
        let wish = wish_of(tx, newcomer, pin).await?;
        tx.lock_alike(&apart.label, &apart.value).await?;
        (wish, candidates(tx, control.keep_off(), Some(apart)).await?)
    } else {
        // Nothing to wait for before the clusters are looked at.
        let (wish, candidates) = futures::join!(wish_of(tx, newcomer, pin), candidates(tx, control.keep_off(), None));
        (wish?, candidates?)
    };
    if let Some(pin) = pin {
        check_residency(tx, &wish, newcomer.region, pin).await?;
    }
    let decision = placement::choose(&wish, &candidates);
    let warm = candidates.iter().filter(|it| it.cluster.usage.warm > 0).map(|it| it.cluster.id).collect();
    let choice = decision.chosen.map(Choice::Cluster);
    let mut plan = HomePlan { choice, wish, decision, offers: Vec::new(), warm };
    if newcomer.isolation == Isolation::Cluster {
        for provider in control.starters() {
            let refusal = provider.offers(&plan.wish).await?.err();
            if refusal.is_none() && plan.choice.is_none() {
                plan.choice = Some(Choice::Started(provider.kind()));
            }
            plan.offers.push(Offer { provider: provider.kind(), refusal });
        }
    }
    Ok(plan)
}

/// A tenant must keep apart from others by a label that it does not bear.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the tenant must keep apart from others by its label `{label}`, and bears none; give it the label `{label}`")]
pub(crate) struct LacksLabel {
    label: String,
}

impl Newcomer<'_> {
    /// Whom it should live beside, and whom not, its own wishes in place of its plan's.
    fn affinity(&self) -> Affinity {
        self.plan.affinity.clone().overridden_by(self.affinity.clone())
    }

    /// Whom it keeps away from: nobody without the label, which is a mistake where it must.
    pub(crate) fn keep_apart(&self) -> Result<Option<KeepApart>, LacksLabel> {
        // A server of one's own has no neighbours.
        let Some(apart) = self.affinity().apart.filter(|_| self.isolation != Isolation::Cluster) else {
            return Ok(None);
        };
        match self.labels.as_map().get(&apart.label) {
            Some(value) => Ok(Some(KeepApart { value: value.clone(), label: apart.label, required: apart.required })),
            None if apart.required => Err(LacksLabel { label: apart.label }),
            None => Ok(None),
        }
    }
}

/// The newcomer's wish in the planner's words.
pub(crate) async fn wish_of(tx: &Tx, newcomer: Newcomer<'_>, pin: Option<ClusterId>) -> Result<Wish, ControlError> {
    let near = match newcomer.parent {
        Some(parent) if newcomer.affinity().with_parent == Some(true) => tx.cluster_of_tenant(parent).await?,
        _ => None,
    };
    Ok(Wish {
        regions: tx.allowed_regions(newcomer.region).await?,
        isolation: newcomer.isolation,
        connections: newcomer.limits().connections,
        pin,
        apart: apart_of(newcomer)?,
        near,
    })
}

/// From whom it keeps apart; a label that is missing is the caller's mistake.
fn apart_of(newcomer: Newcomer<'_>) -> Result<Option<KeepApart>, ControlError> {
    newcomer.keep_apart().map_err(|lacks| ControlError::invalid("/labels", lacks.to_string()))
}

/// A cluster asked for by name may not take the data elsewhere.
async fn check_residency(tx: &Tx, wish: &Wish, residence: &Region, pin: ClusterId) -> Result<(), ControlError> {
    let pinned = tx.cluster(&ClusterRef::Id(pin)).await?;
    if wish.regions.contains(&pinned.region) {
        return Ok(());
    }
    Err(ControlError::ResidencyViolation {
        reason: format!(
            "cluster `{}` is in region `{}`, but the tenant's data must be in `{residence}`; name another cluster or region",
            pinned.name, pinned.region
        ),
    })
}

/// Every cluster as the planner sees it; the server of the system identifier `keep_off` takes no tenants.
pub(crate) async fn candidates(
    tx: &Tx,
    keep_off: Option<&str>,
    apart: Option<&KeepApart>,
) -> Result<Vec<Candidate>, ControlError> {
    let alike = apart.map(|apart| (apart.label.as_str(), apart.value.as_str()));
    let rows = tx.placement_candidates(alike).await?;
    Ok(rows
        .into_iter()
        .map(|row| Candidate {
            holds_catalog: keep_off == Some(row.system_identifier.as_str()),
            open_schemas: row.open_schemas,
            alike: row.alike,
            cluster: row.cluster,
        })
        .collect())
}
