//! How routers share the connections of a cluster.
//!
//! The sum over all routers of the most that each may hold stays within the ceiling at every instant, whatever they do:
//! a lease that was lowered counts as the old one until it is acknowledged, and a router that is silent keeps what it has.
//! A router that was leased nothing yet may hold [`UNLEASED_CONNECTIONS`], for which some of the ceiling is kept free.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a router may hold on a cluster before it is leased anything there.
pub const UNLEASED_CONNECTIONS: u32 = 4;

/// Routers' part of the connections of a server of which no part is said: a tenth, and five at least, stay for the control
/// plane and for people.
pub const fn connections_for_routers(usable: u32) -> u32 {
    let tenth = usable / 10;
    usable.saturating_sub(if tenth > 5 { tenth } else { 5 })
}

/// Rises with every lease that is granted to anybody: a router acknowledges the one that it keeps to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseSerial(pub i64);

impl fmt::Display for LeaseSerial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The `application_name` of a router's connections, by which they are told from others'. PostgreSQL keeps 63 bytes of
/// printable ASCII; a name that is longer, or has other characters, is cut and its digest added.
pub fn router_application_name(router: &str) -> String {
    const PREFIX: &str = "tenantry-router/";
    const ROOM: usize = 63 - PREFIX.len();
    let is_plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if router.len() <= ROOM && is_plain(router) {
        return format!("{PREFIX}{router}");
    }
    let digest = Sha256::digest(router.as_bytes());
    let digest = format!("{:016x}", digest.iter().take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte)));
    let begin: String = router.chars().filter(char::is_ascii_alphanumeric).take(ROOM - digest.len() - 1).collect();
    format!("{PREFIX}{begin}~{digest}")
}

/// One router's part in a cluster, as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeaseHolder {
    /// What it was last told that it may hold; zero where that was nothing.
    pub granted: u32,
    /// What it may hold as far as is known: the highest lease that it has not acknowledged a lower one of, or the
    /// connections that are open, if those are more.
    pub held: u32,
    /// Connections that it would use now: those in use and those waited for.
    pub wanted: u32,
    /// Whether it was not heard of lately; its lease stays as it is.
    pub is_silent: bool,
}

impl LeaseHolder {
    /// The most that it may hold whatever happens next.
    pub fn most(&self) -> u32 {
        self.granted.max(self.held)
    }

    /// Has connections that nobody uses, if any.
    fn is_idle(&self) -> bool {
        self.wanted == 0
    }

    fn is_short(&self) -> bool {
        self.wanted > self.granted && !self.is_silent
    }
}

/// What each router may hold from now on, in the order in which they are given. `newcomers` are routers that may come to
/// the cluster without a lease.
///
/// Every router that uses the cluster gets [`UNLEASED_CONNECTIONS`], or fewer where the ceiling is low for so many. Beyond
/// that what is wanted is shared evenly, and what nobody wants as well. What is free is given at once. What one has too
/// much is taken away only where somebody is short, and by halves, so that a short lull costs little. Where the routers
/// hold more than the ceiling, because it was lowered, nobody gets more. For newcomers a quarter of the ceiling is kept
/// free at most.
pub fn divide_connections(ceiling: u32, newcomers: u32, holders: &[LeaseHolder]) -> Vec<u32> {
    let active = holders.iter().filter(|holder| !holder.is_idle()).count();
    let fair = ceiling / 2 / u32::try_from(active + 1).unwrap_or(u32::MAX);
    let minimum = UNLEASED_CONNECTIONS.min(fair.max(1));
    let kept = (newcomers.max(1).saturating_mul(UNLEASED_CONNECTIONS)).min(ceiling / 4);
    let targets = targets(ceiling - kept, minimum, holders);
    let taken: u64 = holders.iter().map(|holder| u64::from(holder.most())).sum();
    let is_short = holders.iter().any(LeaseHolder::is_short) || taken + u64::from(kept) > u64::from(ceiling);
    let mut leases: Vec<u32> = holders
        .iter()
        .zip(&targets)
        .map(|(holder, target)| {
            let surplus = holder.granted.saturating_sub(*target);
            // A lower one that is not acknowledged yet is not lowered further: nothing would come of it sooner.
            let is_falling = holder.held > holder.granted;
            let stays = holder.is_silent || is_falling || !is_short;
            if stays { holder.granted } else { holder.granted - surplus.div_ceil(2) }
        })
        .collect();
    // What was lowered just now is free once that is acknowledged. Who has less than the minimum may have what is kept.
    for (least, kept) in [(minimum, 0), (u32::MAX, kept)] {
        let given: u64 =
            holders.iter().zip(&leases).map(|(it, lease)| u64::from(lease.saturating_sub(it.most()))).sum();
        let free = u64::from(ceiling).saturating_sub(taken + given + u64::from(kept));
        let room: Vec<u64> = holders
            .iter()
            .zip(leases.iter().zip(&targets))
            .map(|(holder, (lease, target))| {
                let most = if holder.is_silent { 0 } else { (*target).min(least) };
                // What it holds already is counted, and costs nothing.
                u64::from(most.saturating_sub((*lease).max(holder.most())))
            })
            .collect();
        for (((lease, target), holder), given) in leases.iter_mut().zip(&targets).zip(holders).zip(share(free, &room)) {
            let within = if holder.is_silent { 0 } else { (*target).min(least).min(holder.most()) };
            *lease = (*lease).max(within.max(if given > 0 { holder.most() + given } else { 0 }));
        }
    }
    leases
}

/// What each would have if everybody let go at once.
fn targets(amount: u32, minimum: u32, holders: &[LeaseHolder]) -> Vec<u32> {
    let kept = |holder: &LeaseHolder| u64::from(if holder.is_silent { holder.most() } else { 0 });
    let mut left = u64::from(amount).saturating_sub(holders.iter().map(kept).sum());
    let mut targets = vec![0; holders.len()];
    let wishes: [&dyn Fn(&LeaseHolder) -> u64; 3] =
        [&|_| u64::from(minimum), &|holder| u64::from(holder.wanted), &|_| u64::from(u32::MAX)];
    for wish in wishes {
        let room: Vec<u64> = holders
            .iter()
            .zip(&targets)
            .map(|(holder, target)| {
                let is_out = holder.is_silent || holder.is_idle();
                if is_out { 0 } else { wish(holder).saturating_sub(u64::from(*target)) }
            })
            .collect();
        for (target, given) in targets.iter_mut().zip(share(left, &room)) {
            *target += given;
            left -= u64::from(given);
        }
    }
    targets
}

/// Shares an amount evenly, to nobody more than there is room for; what is left by some goes to the others.
fn share(amount: u64, room: &[u64]) -> Vec<u32> {
    let mut given = vec![0_u64; room.len()];
    let mut left = amount;
    while left > 0 {
        let open: Vec<usize> = (0..room.len()).filter(|index| given[*index] < room[*index]).collect();
        let Some(part) = left.checked_div(open.len() as u64) else { break };
        for index in open {
            // At least one, so that each round gets somewhere.
            let part = part.max(1).min(room[index] - given[index]).min(left);
            given[index] += part;
            left -= part;
        }
    }
    given.into_iter().map(|given| u32::try_from(given).unwrap_or(u32::MAX)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wants(wanted: u32) -> LeaseHolder {
        LeaseHolder { wanted, ..LeaseHolder::default() }
    }

    fn holders() -> impl Strategy<Value = Vec<LeaseHolder>> {
        let holder = (0..200_u32, 0..200_u32, 0..500_u32, any::<bool>())
            .prop_map(|(granted, held, wanted, is_silent)| LeaseHolder { granted, held, wanted, is_silent });
        prop::collection::vec(holder, 0..12)
    }

    fn sum(holders: &[LeaseHolder]) -> u64 {
        holders.iter().map(|holder| u64::from(holder.most())).sum()
    }

    /// Everybody hears of the new leases, keeps to them and uses what it wants.
    fn settle(ceiling: u32, newcomers: u32, holders: &mut [LeaseHolder]) {
        for _ in 0..40 {
            let leases = divide_connections(ceiling, newcomers, holders);
            for (holder, lease) in holders.iter_mut().zip(leases) {
                holder.granted = lease;
                if !holder.is_silent {
                    holder.held = lease.min(holder.wanted);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_ceiling(ceiling in 0..800_u32, newcomers in 0..5_u32, mut holders in holders(), heard: u16) {
            for round in 0..12 {
                let before = sum(&holders);
                let leases = divide_connections(ceiling, newcomers, &holders);
                for (index, (holder, lease)) in holders.iter_mut().zip(&leases).enumerate() {
                    prop_assert!(!holder.is_silent || *lease == holder.granted, "who is silent keeps what it has");
                    let old = holder.most();
                    holder.granted = *lease;
                    // Some hear of it now, some do not yet.
                    let hears = (heard >> ((index + round) % 16)) & 1 == 1 && !holder.is_silent;
                    holder.held = if hears { holder.held.min(*lease) } else { old };
                }
                // A ceiling that was lowered is not there at once, but nothing rises above it.
                prop_assert!(sum(&holders) <= u64::from(ceiling).max(before), "{holders:?}");
            }
        }

        #[test]
        fn everybody_who_wants_something_has_something_in_the_end(ceiling in 24..800_u32, mut holders in holders()) {
            let silent: u64 = holders.iter().filter(|it| it.is_silent).map(|it| u64::from(it.most())).sum();
            prop_assume!(silent + 2 * holders.len() as u64 <= u64::from(ceiling / 2));
            settle(ceiling, 1, &mut holders);
            for holder in holders.iter().filter(|holder| !holder.is_silent) {
                prop_assert!(holder.granted >= UNLEASED_CONNECTIONS.min(holder.wanted).min(1), "{holders:?}");
            }
        }

        #[test]
        fn who_wants_the_same_gets_the_same(count in 1..10_usize, ceiling in 50..800_u32, mut first in 0..400_u32) {
            let mut holders = vec![wants(1_000); count];
            first = first.min(ceiling);
            holders[0] = LeaseHolder { granted: first, held: first, ..wants(1_000) };
            settle(ceiling, 1, &mut holders);
            let granted = holders.iter().map(|holder| holder.granted);
            let (least, most) = (granted.clone().min().unwrap(), granted.max().unwrap());
            prop_assert!(most - least <= u32::try_from(count).unwrap(), "{holders:?}");
            let kept = UNLEASED_CONNECTIONS.min(ceiling / 4);
            prop_assert!(sum(&holders) + u64::from(kept) >= u64::from(ceiling), "nothing is left lying: {holders:?}");
        }
    }

    #[test]
    fn what_is_wanted_moves_there_by_halves_and_back() {
        let mut holders = vec![wants(100), wants(1)];
        settle(100, 1, &mut holders);
        assert_eq!((holders[0].granted, holders[1].granted), (92, 4), "four are kept for one to come");
        (holders[0].wanted, holders[1].wanted) = (1, 100);
        let leases = divide_connections(100, 1, &holders);
        assert_eq!(leases, [48, 4], "half of what it has too much, which counts until it is acknowledged");
        settle(100, 1, &mut holders);
        assert_eq!((holders[0].granted, holders[1].granted), (4, 92));
    }

    #[test]
    fn one_that_comes_gets_its_minimum_at_once() {
        let mut holders = vec![wants(500); 3];
        settle(100, 1, &mut holders);
        holders.push(wants(500));
        assert_eq!(divide_connections(100, 1, &holders)[3], 4);
        // It came with what it may have without a lease.
        holders[3].held = 4;
        assert_eq!(divide_connections(100, 1, &holders)[3], 4);
    }

    #[test]
    fn who_uses_nothing_leaves_it_to_those_who_do() {
        let uses_fifty = LeaseHolder { granted: 50, held: 50, ..wants(50) };
        let mut holders = vec![uses_fifty, LeaseHolder { granted: 40, held: 30, ..LeaseHolder::default() }];
        settle(100, 1, &mut holders);
        assert_eq!((holders[0].granted, holders[1].granted), (56, 40), "as long as there is enough");
        holders[0].wanted = 500;
        settle(100, 1, &mut holders);
        assert_eq!((holders[0].granted, holders[1].granted), (96, 0));
    }

    #[test]
    fn more_is_kept_where_more_may_come_but_not_most() {
        let mut holders = vec![wants(500)];
        settle(100, 3, &mut holders);
        assert_eq!(holders[0].granted, 88);
        let mut holders = vec![wants(500)];
        settle(100, 1_000, &mut holders);
        assert_eq!(holders[0].granted, 75);
    }

    #[test]
    fn a_routers_connections_bear_its_name() {
        assert_eq!(router_application_name("shop-1"), "tenantry-router/shop-1");
        let long = router_application_name(&"x".repeat(200));
        assert_eq!(long.len(), 63);
        assert_ne!(long, router_application_name(&"x".repeat(199)));
        let other = router_application_name("größte");
        assert!(other.starts_with("tenantry-router/grte~") && other.is_ascii(), "{other}");
    }

    #[test]
    fn some_connections_stay_for_others() {
        for (usable, routers) in [(97, 88), (20, 15), (5, 0), (0, 0), (1_000, 900)] {
            assert_eq!(connections_for_routers(usable), routers);
        }
    }
}
