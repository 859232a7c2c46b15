//! Which cluster a new home goes to.
//!
//! A pure function of what the catalog holds: no clock, no randomness, no I/O. Among the clusters that can take the home
//! it prefers those without tenants that the new one should keep away from, then its parent's, then the one that is least
//! full, so that load spreads; what is still equal is settled by name, so that the answer is the same everywhere. Every
//! cluster that is refused is refused with all its reasons.

mod refusal;

use tenantry_domain::{
    Cluster, ClusterHealth, ClusterId, ClusterObservation, ClusterState, HealthState, Isolation, Region, Tenancy,
};

pub use refusal::Refusal;

/// What a home takes on disk before its first row, for a schema of 40 tables.
const HOME_BYTES: u64 = 10 * 1024 * 1024;
/// What is full counts so many parts of a whole.
const WHOLE: u128 = 1_000_000_000;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The regions in which the data may be.
    pub regions: Vec<Region>,
    /// What the tenant has to itself.
    pub isolation: Isolation,
    /// The connections that it may hold; absent means no ceiling.
    pub connections: Option<u32>,
    /// The only cluster that will do, if one was named.
    pub pin: Option<ClusterId>,
    /// Tenants to keep away from, counted in each [`Candidate::alike`].
    pub apart: Option<KeepApart>,
    /// The cluster to prefer, where that will do: its parent's.
    pub near: Option<ClusterId>,
}

/// Tenants that bear this value of this label should not be on the same cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepApart {
    /// The label's key.
    pub label: String,
    /// The value that the new tenant bears.
    pub value: String,
    /// Whether no home is better than one beside another.
    pub required: bool,
}

/// A cluster as the planner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The cluster, with its limits, usage and health.
    pub cluster: Cluster,
    /// Whether it is the server that holds the catalog and tenants are kept off that.
    pub holds_catalog: bool,
    /// How many more schemas the shared databases that are there have room for.
    pub open_schemas: u32,
    /// How many tenants are there that the new one should keep away from.
    pub alike: u32,
}

impl Candidate {
    /// Counts one more home there, for planning several one after the other.
    pub fn take(&mut self, wish: &Wish) {
        let usage = &mut self.cluster.usage;
        usage.homes += 1;
        usage.connections += u64::from(wish.connections.unwrap_or(0));
        usage.disk_bytes = usage.disk_bytes.map(|bytes| bytes.saturating_add(HOME_BYTES));
        let makes_a_database = self.makes_a_database(wish.isolation);
        self.cluster.usage.databases += u32::from(makes_a_database);
        if wish.isolation == Isolation::Schema {
            let room = if makes_a_database { self.cluster.limits.schemas_per_database } else { self.open_schemas };
            self.open_schemas = room.saturating_sub(1);
        }
    }

    fn makes_a_database(&self, isolation: Isolation) -> bool {
        match isolation {
            Isolation::Database | Isolation::Cluster => true,
            Isolation::Schema => self.open_schemas == 0,
            Isolation::Row => false,
        }
    }
}

/// The choice with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The cluster chosen, if any will do.
    pub chosen: Option<ClusterId>,
    /// Every cluster that was looked at, in the order in which they would be chosen, the refused ones last.
    pub considered: Vec<Considered>,
}

/// What became of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Its id.
    pub cluster: ClusterId,
    /// Its name.
    pub name: tenantry_domain::ClusterName,
    /// Where its data is.
    pub region: Region,
    /// All that speaks against it; empty means that it would do.
    pub refusals: Vec<Refusal>,
    /// How full it is, in thousandths of its tightest limit.
    pub fullness_permille: u32,
    /// How many tenants are there that the new one should keep away from.
    pub alike: u32,
    /// Whether its parent is there.
    pub is_near: bool,
}

impl Decision {
    /// Why nothing was chosen, in one sentence for a person.
    pub fn explain(&self) -> String {
        if self.considered.is_empty() {
            return "no cluster is registered; register one with `tenantry cluster register`".to_owned();
        }
        let reasons: Vec<String> = self
            .considered
            .iter()
            .take(20)
            .map(|it| {
                let refusals: Vec<String> = it.refusals.iter().map(ToString::to_string).collect();
                let verdict = if refusals.is_empty() { "would do".to_owned() } else { refusals.join(", ") };
                format!("{}: {verdict}", it.name)
            })
            .collect();
        reasons.join("; ")
    }
}

/// Chooses among the candidates and says why.
pub fn choose(wish: &Wish, candidates: &[Candidate]) -> Decision {
    let mut ranked: Vec<(Rank<'_>, Considered)> = candidates.iter().map(|it| weigh(wish, it)).collect();
    ranked.sort_by(|(left, _), (right, _)| left.cmp(right));
    let considered: Vec<Considered> = ranked.into_iter().map(|(_, considered)| considered).collect();
    let chosen = considered.first().filter(|first| first.refusals.is_empty()).map(|first| first.cluster);
    Decision { chosen, considered }
}

/// What decides between clusters, the most important first; the least is chosen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    is_refused: bool,
    alike: u32,
    is_far: bool,
    fullness: u128,
    homes: u128,
    name: &'a str,
    id: uuid::Uuid,
}

fn weigh<'a>(wish: &Wish, candidate: &'a Candidate) -> (Rank<'a>, Considered) {
    let cluster = &candidate.cluster;
    let refusals = refuse(wish, candidate);
    let fullness = fullness(cluster);
    let alike = if wish.apart.is_some() { candidate.alike } else { 0 };
    let is_near = wish.near == Some(cluster.id);
    let rank = Rank {
        is_refused: !refusals.is_empty(),
        alike,
        is_far: wish.near.is_some() && !is_near,
        fullness,
        homes: part(cluster.usage.claimed_homes().into(), cluster.limits.tenants.into()),
        name: cluster.name.as_str(),
        id: cluster.id.as_uuid(),
    };
    let considered = Considered {
        cluster: cluster.id,
        name: cluster.name.clone(),
        region: cluster.region.clone(),
        refusals,
        fullness_permille: u32::try_from(fullness / (WHOLE / 1_000)).unwrap_or(u32::MAX),
        alike,
        is_near,
    };
    (rank, considered)
}

fn refuse(wish: &Wish, candidate: &Candidate) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    refuse_by_kind(wish, candidate, &mut refusals);
    refuse_by_health(&candidate.cluster.health, &mut refusals);
    refuse_by_capacity(wish, candidate, &mut refusals);
    if let Some(apart) = &wish.apart
        && apart.required
        && candidate.alike > 0
    {
        refusals.push(Refusal::Apart {
            label: apart.label.clone(),
            value: apart.value.clone(),
            tenants: candidate.alike,
        });
    }
    refusals
}

/// What does not change with load.
fn refuse_by_kind(wish: &Wish, candidate: &Candidate, refusals: &mut Vec<Refusal>) {
    let cluster = &candidate.cluster;
    if wish.pin.is_some_and(|pin| pin != cluster.id) {
        refusals.push(Refusal::Pin);
    }
    if !wish.regions.contains(&cluster.region) {
        refusals.push(Refusal::Region { region: cluster.region.clone(), allowed: wish.regions.clone() });
    }
    match (wish.isolation, cluster.tenancy) {
        (Isolation::Cluster, Tenancy::Shared) => refusals.push(Refusal::NotDedicated),
        (Isolation::Row | Isolation::Schema | Isolation::Database, Tenancy::Dedicated) => {
            refusals.push(Refusal::NotShared { isolation: wish.isolation });
        }
        _ => {}
    }
    if cluster.state != ClusterState::Active {
        refusals.push(Refusal::State { state: cluster.state });
    }
    if candidate.holds_catalog {
        refusals.push(Refusal::Catalog);
    }
    if cluster.claimed_by.is_some() {
        refusals.push(Refusal::Claimed);
    }
}

fn refuse_by_health(health: &ClusterHealth, refusals: &mut Vec<Refusal>) {
    match health.state {
        HealthState::Unknown | HealthState::Healthy => {}
        HealthState::ReadOnly => refusals.push(Refusal::ReadOnly),
        HealthState::Unreachable => refusals.push(Refusal::Unreachable { failures: health.failures }),
    }
}

fn refuse_by_capacity(wish: &Wish, candidate: &Candidate, refusals: &mut Vec<Refusal>) {
    let Cluster { limits, usage, health, .. } = &candidate.cluster;
    if usage.claimed_homes() >= limits.tenants {
        refusals.push(Refusal::Tenants { homes: usage.claimed_homes(), limit: limits.tenants });
    }
    if candidate.makes_a_database(wish.isolation) && usage.claimed_databases() >= limits.databases {
        refusals.push(Refusal::Databases { databases: usage.claimed_databases(), limit: limits.databases });
    }
    let wanted = wish.connections.unwrap_or(0);
    if let Some(limit) = limits.connections
        && usage.connections + u64::from(wanted) > u64::from(limit)
    {
        refusals.push(Refusal::Connections { promised: usage.connections, wanted, limit });
    }
    if let Some(usable) = health.observed.as_ref().map(ClusterObservation::connections_usable)
        && wanted > usable
    {
        refusals.push(Refusal::Ceiling { wanted, usable });
    }
    if let (Some(limit), Some(used)) = (limits.disk_bytes, usage.disk_bytes)
        && used.saturating_add(HOME_BYTES) > limit
    {
        refusals.push(Refusal::Disk { used, limit });
    }
}

/// How much of its tightest limit is used.
fn fullness(cluster: &Cluster) -> u128 {
    let Cluster { limits, usage, .. } = cluster;
    let optional = |used: u64, limit: Option<u64>| limit.map_or(0, |limit| part(used.into(), limit.into()));
    [
        part(usage.claimed_homes().into(), limits.tenants.into()),
        part(usage.claimed_databases().into(), limits.databases.into()),
        optional(usage.connections, limits.connections.map(u64::from)),
        optional(usage.disk_bytes.unwrap_or(0), limits.disk_bytes),
    ]
    .into_iter()
    .max()
    .unwrap_or(0)
}

fn part(used: u128, limit: u128) -> u128 {
    used * WHOLE / limit.max(1)
}

#[cfg(test)]
mod tests;
