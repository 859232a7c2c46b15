//! How many homes a cluster should hold for tenants to come.
//!
//! A pure function of what the catalog holds and the time. Homes are made where tenants got some lately, within what the
//! cluster takes and never while a tenant waits for a home there; they are taken down where nobody wants them any more, where
//! they are of another migration set than new tenants start with, and where they take up room that is a tenant's.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::HomeId;
use tenantry_store::WarmPool;

use crate::config::WarmPoolConfig;

/// The name of the reconciler, for poking it.
pub(crate) const NAME: &str = "warm_pool";
/// Tenants that came within this time are what the size of a pool follows.
pub(crate) const DEMAND_WINDOW: Duration = Duration::from_mins(15);
/// The pause after one failed attempt at preparing a home; it doubles with each further one.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// What is to be done about one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many homes more are to be prepared.
    pub(crate) prepare: u32,
    /// These are to be dropped.
    pub(crate) retire: Vec<HomeId>,
}

/// Whether a pool may be kept there, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Circumstances {
    /// Whether there is a set that new tenants start with. Without one a pool waits until somebody wants homes.
    pub(crate) has_promoted_set: bool,
    /// Whether tenants are kept off this cluster.
    pub(crate) is_off_limits: bool,
    /// Now.
    pub(crate) now: Timestamp,
}

/// Decides about one pool.
pub(crate) fn plan(config: &WarmPoolConfig, pool: &WarmPool, circumstances: Circumstances) -> Plan {
    let wanted = wanted(config, pool, circumstances);
    let warm = u32::try_from(pool.warm.len()).unwrap_or(u32::MAX);
    let surplus = warm.saturating_sub(wanted).max(overfull(pool).min(warm));
    // The newest go: the oldest are claimed first, and stay in that order.
    let mut retire: Vec<HomeId> = pool.warm.iter().rev().take(surplus as usize).copied().collect();
    retire.extend(&pool.stale);
    let room = config.refill_concurrency.saturating_sub(pool.preparing).min(free(pool));
    let lacking = wanted.saturating_sub(warm).saturating_sub(pool.preparing);
    let may_prepare = surplus == 0 && pool.provisions == 0 && !is_resting(pool, circumstances.now);
    Plan { prepare: if may_prepare { lacking.min(room) } else { 0 }, retire }
}

/// How many the cluster should hold.
fn wanted(config: &WarmPoolConfig, pool: &WarmPool, circumstances: Circumstances) -> u32 {
    if !pool.takes_homes || circumstances.is_off_limits {
        return 0;
    }
    let at_least = if circumstances.has_promoted_set { config.size_min } else { 0 };
    pool.demand.max(at_least).min(config.size_max)
}

/// How many homes more the cluster takes.
fn free(pool: &WarmPool) -> u32 {
    let homes = pool.limits.tenants.saturating_sub(pool.usage.homes);
    homes.min(pool.limits.databases.saturating_sub(pool.usage.databases))
}

/// How many homes there are beyond what the cluster takes, because tenants came that were let in all the same.
fn overfull(pool: &WarmPool) -> u32 {
    let homes = pool.usage.homes.saturating_sub(pool.limits.tenants);
    homes.max(pool.usage.databases.saturating_sub(pool.limits.databases))
}

/// Whether the last attempts failed, and it is too early for the next.
fn is_resting(pool: &WarmPool, now: Timestamp) -> bool {
    let Some(last) = pool.failures.iter().max() else { return false };
    let doublings = u32::try_from(pool.failures.len() - 1).unwrap_or(u32::MAX).min(16);
    now < *last + AFTER_FAILURE.saturating_mul(1 << doublings)
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{ClusterId, ClusterLimits, ClusterName, ClusterUsage};
    use uuid::Uuid;

    use super::*;

    const CONFIG: WarmPoolConfig = WarmPoolConfig { size_min: 2, size_max: 6, refill_concurrency: 3 };

    fn pool(warm: u128) -> WarmPool {
        let homes = u32::try_from(warm).expect("a small number");
        WarmPool {
            cluster: ClusterId::new(Uuid::nil()),
            name: ClusterName::parse("one").expect("a name"),
            system_identifier: String::new(),
            takes_homes: true,
            limits: ClusterLimits::default(),
            usage: ClusterUsage { homes, databases: homes, warm: homes, ..ClusterUsage::default() },
            warm: (0..warm).map(|number| HomeId::new(Uuid::from_u128(number))).collect(),
            stale: Vec::new(),
            preparing: 0,
            demand: 0,
            provisions: 0,
            failures: Vec::new(),
        }
    }

    fn at(now: Timestamp) -> Circumstances {
        Circumstances { has_promoted_set: true, is_off_limits: false, now }
    }

    fn planned(pool: &WarmPool) -> (u32, usize) {
        let plan = plan(&CONFIG, pool, at(Timestamp::UNIX_EPOCH));
        (plan.prepare, plan.retire.len())
    }

    #[test]
    fn a_pool_follows_demand_between_its_bounds() {
        assert_eq!(planned(&pool(0)), (2, 0));
        assert_eq!(planned(&WarmPool { demand: 4, ..pool(2) }), (2, 0));
        assert_eq!(planned(&WarmPool { demand: 400, ..pool(2) }), (3, 0), "no more at a time than allowed");
        assert_eq!(planned(&WarmPool { demand: 400, preparing: 2, ..pool(2) }), (1, 0));
        assert_eq!(planned(&WarmPool { demand: 400, ..pool(6) }), (0, 0));
        assert_eq!(planned(&pool(6)), (0, 4), "unused, it shrinks");
    }

    #[test]
    fn a_pool_that_is_off_is_emptied() {
        let plan = plan(&WarmPoolConfig::OFF, &WarmPool { demand: 9, ..pool(3) }, at(Timestamp::UNIX_EPOCH));
        assert_eq!((plan.prepare, plan.retire.len()), (0, 3));
    }

    #[test]
    fn nothing_is_made_where_no_tenant_may_go_or_while_one_waits() {
        assert_eq!(planned(&WarmPool { takes_homes: false, ..pool(2) }), (0, 2));
        assert_eq!(planned(&WarmPool { provisions: 1, ..pool(0) }), (0, 0));
        let off_limits = Circumstances { is_off_limits: true, ..at(Timestamp::UNIX_EPOCH) };
        assert_eq!(plan(&CONFIG, &pool(2), off_limits).retire.len(), 2);
        let setless = Circumstances { has_promoted_set: false, ..at(Timestamp::UNIX_EPOCH) };
        assert_eq!(plan(&CONFIG, &pool(0), setless).prepare, 0);
        assert_eq!(plan(&CONFIG, &WarmPool { demand: 1, ..pool(0) }, setless).prepare, 1);
    }

    #[test]
    fn homes_of_another_set_are_dropped_and_replaced() {
        let stale = vec![HomeId::new(Uuid::from_u128(9))];
        let plan = plan(&CONFIG, &WarmPool { stale: stale.clone(), ..pool(0) }, at(Timestamp::UNIX_EPOCH));
        assert_eq!(plan, Plan { prepare: 2, retire: stale });
    }

    #[test]
    fn room_is_the_tenants_first() {
        let mut nearly_full = pool(0);
        nearly_full.limits.databases = 10;
        nearly_full.usage = ClusterUsage { homes: 9, databases: 9, ..ClusterUsage::default() };
        assert_eq!(planned(&nearly_full), (1, 0));
        let mut overfull = pool(2);
        overfull.limits.tenants = 10;
        overfull.usage = ClusterUsage { homes: 11, databases: 11, warm: 2, ..ClusterUsage::default() };
        assert_eq!(planned(&overfull), (0, 1));
    }

    #[test]
    fn after_failures_it_waits_longer_and_longer() {
        let failed = |count: i64| WarmPool {
            failures: vec![Timestamp::UNIX_EPOCH; usize::try_from(count).expect("few")],
            ..pool(0)
        };
        let prepares = |pool: &WarmPool, seconds: i64| {
            plan(&CONFIG, pool, at(Timestamp::from_second(seconds).expect("a time"))).prepare > 0
        };
        assert!(!prepares(&failed(1), 29));
        assert!(prepares(&failed(1), 30));
        assert!(!prepares(&failed(3), 119));
        assert!(prepares(&failed(3), 120));
    }
}
