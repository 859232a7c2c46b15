//! Which cluster a new home goes to.
//!
//! A pure function of what the catalog holds: no clock, no randomness, no I/O. Among the clusters that can take the
//! home it chooses the one that is least full, so that load spreads; equal fullness is settled by name, so that the
//! answer is the same everywhere.

use tenantry_domain::{Cluster, ClusterId, ClusterName, ClusterState, Isolation, Region, Tenancy};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Where the data must be.
    pub region: Region,
    /// What the tenant has to itself.
    pub isolation: Isolation,
    /// The only cluster that will do, if one was named.
    pub pin: Option<ClusterId>,
}

/// Why a cluster was not chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its data would be elsewhere.
    #[error("it is in another region")]
    Region,
    /// Several tenants may live there, and this one wants a server of its own.
    #[error("it is shared, and isolation `cluster` needs a dedicated one")]
    NotDedicated,
    /// It is kept for one tenant alone.
    #[error("it is dedicated, and this isolation needs a shared one")]
    NotShared,
    /// It takes no new homes.
    #[error("it is cordoned or draining")]
    State,
    /// Another tenant has it to itself.
    #[error("another tenant has it to itself")]
    Claimed,
    /// It holds the catalog.
    #[error("it holds the catalog")]
    Catalog,
    /// Its tenants are as many as its limit allows.
    #[error("it has as many tenants as its limit allows")]
    Tenants,
    /// Its databases are as many as its limit allows.
    #[error("it has as many databases as its limit allows")]
    Databases,
    /// Another cluster was asked for by name.
    #[error("another cluster was asked for")]
    Pin,
}

/// A cluster as the planner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The cluster, with its limits and usage.
    pub cluster: Cluster,
    /// Whether it is the server that holds the catalog and tenants are kept off that.
    pub holds_catalog: bool,
    /// Whether a shared database with room for one more schema is there already.
    pub has_open_shared_database: bool,
}

/// The choice with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The cluster chosen, if any will do.
    pub chosen: Option<ClusterId>,
    /// Every cluster that was looked at: `None` means that it would do.
    pub considered: Vec<(ClusterName, Option<Refusal>)>,
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
            .map(|(name, refusal)| match refusal {
                Some(refusal) => format!("{name}: {refusal}"),
                None => format!("{name}: would do"),
            })
            .collect();
        reasons.join("; ")
    }
}

/// Chooses among the candidates and says why.
pub fn choose(wish: &Wish, candidates: &[Candidate]) -> Decision {
    let mut considered = Vec::with_capacity(candidates.len());
    let mut best: Option<&Candidate> = None;
    for candidate in candidates {
        let refusal = refuse(wish, candidate);
        if refusal.is_none() && best.is_none_or(|best| is_emptier(&candidate.cluster, &best.cluster)) {
            best = Some(candidate);
        }
        considered.push((candidate.cluster.name.clone(), refusal));
    }
    Decision { chosen: best.map(|candidate| candidate.cluster.id), considered }
}

fn refuse(wish: &Wish, candidate: &Candidate) -> Option<Refusal> {
    let cluster = &candidate.cluster;
    let tenancy = match (wish.isolation, cluster.tenancy) {
        (Isolation::Cluster, Tenancy::Shared) => Some(Refusal::NotDedicated),
        (Isolation::Row | Isolation::Schema | Isolation::Database, Tenancy::Dedicated) => Some(Refusal::NotShared),
        _ => None,
    };
    let makes_a_database = match wish.isolation {
        Isolation::Database => true,
        Isolation::Schema => !candidate.has_open_shared_database,
        Isolation::Row | Isolation::Cluster => false,
    };
    if wish.pin.is_some_and(|pin| pin != cluster.id) {
        Some(Refusal::Pin)
    } else if cluster.region != wish.region {
        Some(Refusal::Region)
    } else if tenancy.is_some() {
        tenancy
    } else if cluster.state != ClusterState::Active {
        Some(Refusal::State)
    } else if candidate.holds_catalog {
        Some(Refusal::Catalog)
    } else if cluster.claimed_by.is_some() {
        Some(Refusal::Claimed)
    } else if cluster.usage.claimed_homes() >= cluster.limits.tenants {
        Some(Refusal::Tenants)
    } else if makes_a_database && cluster.usage.claimed_databases() >= cluster.limits.databases {
        Some(Refusal::Databases)
    } else {
        None
    }
}

/// Whether `left` is less full than `right`: homes ÷ limit compared crosswise, without division.
fn is_emptier(left: &Cluster, right: &Cluster) -> bool {
    let fullness =
        |of: &Cluster, other: &Cluster| u64::from(of.usage.claimed_homes()) * u64::from(other.limits.tenants.max(1));
    let (left_full, right_full) = (fullness(left, right), fullness(right, left));
    (left_full, &left.name) < (right_full, &right.name)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tenantry_domain::{ClusterHealth, ClusterLimits, ClusterLocale, ClusterUsage, Endpoint, ProviderKind, TlsMode};
    use uuid::Uuid;

    use super::*;

    fn candidate(name: &str, homes: u32) -> Candidate {
        let cluster = Cluster {
            id: ClusterId::new(Uuid::from_u128(name.bytes().map(u128::from).sum())),
            name: ClusterName::parse(name).expect("name"),
            region: Region::parse("eu-1").expect("region"),
            tenancy: Tenancy::Shared,
            provider: ProviderKind::Registered,
            endpoint: Endpoint::new("127.0.0.1", 5432).expect("endpoint"),
            tls_mode: TlsMode::Disable,
            tls_ca: None,
            state: ClusterState::Active,
            server_version: 150_000,
            locale: ClusterLocale {
                encoding: "UTF8".into(),
                collate: "C".into(),
                ctype: "C".into(),
                provider: "libc".into(),
                provider_locale: None,
            },
            limits: ClusterLimits::default(),
            usage: ClusterUsage { homes, databases: homes, warm: 0 },
            health: ClusterHealth::default(),
            claimed_by: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        Candidate { cluster, holds_catalog: false, has_open_shared_database: false }
    }

    fn wish(isolation: Isolation) -> Wish {
        Wish { region: Region::parse("eu-1").expect("region"), isolation, pin: None }
    }

    #[test]
    fn the_emptiest_cluster_is_chosen_and_ties_are_settled_by_name() {
        let clusters = [candidate("c", 3), candidate("b", 1), candidate("a", 1)];
        let decision = choose(&wish(Isolation::Database), &clusters);
        assert_eq!(decision.chosen, Some(clusters[2].cluster.id));
    }

    #[test]
    fn fullness_is_relative_to_the_limit() {
        let mut small = candidate("small", 5);
        small.cluster.limits.tenants = 6;
        let mut large = candidate("large", 50);
        large.cluster.limits.tenants = 1_000;
        let decision = choose(&wish(Isolation::Schema), &[small, large.clone()]);
        assert_eq!(decision.chosen, Some(large.cluster.id));
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let refused = |change: fn(&mut Candidate), isolation| {
            let mut candidate = candidate("a", 1);
            change(&mut candidate);
            let decision = choose(&wish(isolation), &[candidate]);
            assert_eq!(decision.chosen, None);
            decision.considered[0].1
        };
        let database = Isolation::Database;
        assert_eq!(
            refused(|it| it.cluster.region = Region::parse("us-1").expect("region"), database),
            Some(Refusal::Region)
        );
        assert_eq!(refused(|it| it.cluster.state = ClusterState::Cordoned, database), Some(Refusal::State));
        assert_eq!(refused(|it| it.holds_catalog = true, database), Some(Refusal::Catalog));
        assert_eq!(refused(|it| it.cluster.limits.tenants = 1, database), Some(Refusal::Tenants));
        assert_eq!(refused(|it| it.cluster.limits.databases = 1, database), Some(Refusal::Databases));
        assert_eq!(refused(|_| {}, Isolation::Cluster), Some(Refusal::NotDedicated));
        assert_eq!(refused(|it| it.cluster.tenancy = Tenancy::Dedicated, database), Some(Refusal::NotShared));
        assert_eq!(
            refused(|it| it.cluster.claimed_by = Some(tenantry_domain::TenantId::new(Uuid::nil())), database),
            Some(Refusal::Claimed)
        );
    }

    #[test]
    fn homes_that_wait_for_a_tenant_are_in_no_tenants_way() {
        let mut full = candidate("a", 3);
        full.cluster.limits.tenants = 3;
        full.cluster.limits.databases = 3;
        assert_eq!(choose(&wish(Isolation::Database), std::slice::from_ref(&full)).chosen, None);
        full.cluster.usage.warm = 1;
        assert_eq!(choose(&wish(Isolation::Database), std::slice::from_ref(&full)).chosen, Some(full.cluster.id));
    }

    #[test]
    fn a_schema_needs_no_new_database_where_a_shared_one_has_room() {
        let mut full = candidate("a", 1);
        full.cluster.limits.databases = 1;
        assert_eq!(choose(&wish(Isolation::Schema), std::slice::from_ref(&full)).chosen, None);
        full.has_open_shared_database = true;
        assert_eq!(choose(&wish(Isolation::Schema), std::slice::from_ref(&full)).chosen, Some(full.cluster.id));
    }

    #[test]
    fn a_pinned_cluster_is_the_only_one_that_will_do() {
        let clusters = [candidate("a", 0), candidate("b", 9)];
        let wish = Wish { pin: Some(clusters[1].cluster.id), ..wish(Isolation::Database) };
        assert_eq!(choose(&wish, &clusters).chosen, Some(clusters[1].cluster.id));
    }

    #[test]
    fn an_empty_fleet_says_how_to_begin() {
        assert!(choose(&wish(Isolation::Schema), &[]).explain().contains("cluster register"));
    }
}
