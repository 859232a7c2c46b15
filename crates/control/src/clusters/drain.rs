//! Emptying a cluster: who would go where. Only a plan: moving tenants is work of its own.

use std::collections::HashMap;

use tenantry_domain::{Access, Cluster, ClusterId, ClusterState, Isolation, Plan, PlanName, Scope, Tenant, TenantId};
use tenantry_store::{ClusterRef, TenantRef, Tx};

use super::{audit, summary};
use crate::caller::Caller;
use crate::candidates::{Choice, Newcomer, candidates, wish_of};
use crate::control::Control;
use crate::error::ControlError;
use crate::placement::{self, Candidate, Decision, KeepApart, Wish};
use crate::warm_pool;

/// Most tenants that one plan looks at.
const TENANTS_MAX: u32 = 10_000;

/// Where each tenant of a cluster would go.
#[derive(Debug, Clone, PartialEq)]
pub struct DrainPlan {
    /// The cluster, as it is now.
    pub cluster: Cluster,
    /// Each tenant, those that cannot go first, then by id.
    pub moves: Vec<DrainMove>,
    /// Whether there are more tenants than a plan looks at.
    pub is_truncated: bool,
}

/// Where one tenant would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainMove {
    /// Who.
    pub tenant: Tenant,
    /// Where to; absent means nowhere, and the decision says why.
    pub choice: Option<Choice>,
    /// What the planner says of each cluster, with those counted that go before this one.
    pub decision: Decision,
    /// Why the planner could not even be asked.
    pub trouble: Option<String>,
}

impl DrainMove {
    /// Why it cannot go; absent where it can.
    pub fn refusal(&self) -> Option<String> {
        self.choice.is_none().then(|| self.trouble.clone().unwrap_or_else(|| self.decision.explain()))
    }
}

/// Plans where the cluster's tenants would go, one after the other, each counted before the next is placed. Unless
/// `is_dry_run`, the cluster takes no new homes from here on; [`uncordon`](super::uncordon) takes that back.
pub async fn drain(
    control: &Control,
    caller: &Caller,
    cluster: &ClusterRef,
    is_dry_run: bool,
) -> Result<DrainPlan, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(if is_dry_run { Access::Read } else { Access::Write }))?;
    let mut tx = control.store().begin().await?;
    let before = tx.cluster(cluster).await?;
    let after = if is_dry_run {
        before.clone()
    } else {
        let before = tx.lock_cluster(cluster).await?;
        let after = tx.set_cluster_state(before.id, ClusterState::Draining).await?;
        audit(&mut tx, caller, "cluster.drain", before.id, Some(summary(&before)), Some(summary(&after))).await?;
        tx.poke_reconciler(warm_pool::NAME).await?;
        after
    };
    tx.commit().await?;
    let residents = control.store().residents(before.id, TENANTS_MAX + 1).await?;
    let is_truncated = residents.len() > TENANTS_MAX as usize;
    let tx = control.store().begin().await?;
    let mut planning =
        Planning { control, tx: &tx, draining: before.id, clusters: None, plans: HashMap::new(), alike: Vec::new() };
    let mut moves = Vec::with_capacity(residents.len().min(TENANTS_MAX as usize));
    for tenant in residents.into_iter().take(TENANTS_MAX as usize) {
        moves.extend(planning.place(tenant).await?);
    }
    // Nothing was written; what was locked for reading is let go.
    drop(tx);
    moves.sort_by_key(|it| it.choice.is_some());
    Ok(DrainPlan { cluster: after, moves, is_truncated })
}

/// The fleet as it would be after the moves so far.
struct Planning<'a> {
    control: &'a Control,
    tx: &'a Tx,
    draining: ClusterId,
    clusters: Option<Vec<Candidate>>,
    plans: HashMap<PlanName, Plan>,
    /// Where those went that keep apart from others.
    alike: Vec<(KeepApart, ClusterId)>,
}

impl Planning<'_> {
    /// Where the tenant would go; nothing where it has gone away meanwhile.
    async fn place(&mut self, tenant: TenantId) -> Result<Option<DrainMove>, ControlError> {
        let tenant = match self.tx.tenant(&TenantRef::Id(tenant)).await {
            Ok(tenant) => tenant,
            Err(tenantry_store::StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if !self.plans.contains_key(&tenant.plan) {
            let plan = self.tx.plan(&tenant.plan).await?;
            self.plans.insert(tenant.plan.clone(), plan);
        }
        let plan = &self.plans[&tenant.plan];
        let newcomer = Newcomer::of(&tenant, plan);
        // Its plan may have come to ask for a label since: then it stays, and the others are planned all the same.
        if let Err(lacks) = newcomer.keep_apart() {
            let (trouble, decision) = (Some(lacks.to_string()), Decision { chosen: None, considered: Vec::new() });
            return Ok(Some(DrainMove { tenant, choice: None, decision, trouble }));
        }
        let wish = wish_of(self.tx, newcomer, None).await?;
        let fleet = self.fleet(&wish).await?;
        let decision = placement::choose(&wish, &fleet);
        let mut choice = decision.chosen.map(Choice::Cluster);
        if let Some(chosen) = decision.chosen {
            self.count(chosen, &wish, tenant.id);
        } else if wish.isolation == Isolation::Cluster {
            for provider in self.control.starters() {
                if choice.is_none() && provider.offers(&wish).await?.is_ok() {
                    choice = Some(Choice::Started(provider.kind()));
                }
            }
        }
        Ok(Some(DrainMove { tenant, choice, decision, trouble: None }))
    }

    /// The clusters with everything counted that goes before, and with those whom this tenant keeps away from.
    async fn fleet(&mut self, wish: &Wish) -> Result<Vec<Candidate>, ControlError> {
        let keep_off = self.control.keep_off();
        if self.clusters.is_none() {
            let mut clusters = candidates(self.tx, keep_off, None).await?;
            for candidate in &mut clusters {
                if candidate.cluster.id == self.draining {
                    candidate.cluster.state = ClusterState::Draining;
                }
            }
            self.clusters = Some(clusters);
        }
        let mut fleet = self.clusters.clone().unwrap_or_default();
        if let Some(apart) = &wish.apart {
            let went = |to: ClusterId| {
                let same = self
                    .alike
                    .iter()
                    .filter(|(it, cluster)| *cluster == to && (&it.label, &it.value) == (&apart.label, &apart.value));
                u32::try_from(same.count()).unwrap_or(u32::MAX)
            };
            let alike: HashMap<_, _> = candidates(self.tx, keep_off, Some(apart))
                .await?
                .into_iter()
                .map(|candidate| (candidate.cluster.id, candidate.alike))
                .collect();
            for candidate in &mut fleet {
                let id = candidate.cluster.id;
                candidate.alike = alike.get(&id).copied().unwrap_or(0) + went(id);
            }
        }
        Ok(fleet)
    }

    fn count(&mut self, chosen: ClusterId, wish: &Wish, tenant: TenantId) {
        self.alike.extend(wish.apart.clone().map(|apart| (apart, chosen)));
        let clusters = self.clusters.iter_mut().flatten();
        for candidate in clusters.filter(|candidate| candidate.cluster.id == chosen) {
            candidate.take(wish);
            if wish.isolation == Isolation::Cluster {
                candidate.cluster.claimed_by = Some(tenant);
            }
        }
    }
}
