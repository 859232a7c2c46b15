use tenantry_domain::{
    ClusterId, Credential, DatabaseName, Generation, HomeId, HomeNames, HostName, RouteState, RouteTarget, SchemaName,
    SchemaVersion, Secret,
};
use uuid::Uuid;

use super::*;

fn tenant(number: u128) -> TenantId {
    TenantId::new(Uuid::from_u128(number))
}

fn route(number: u128, slug: &str, version: i64, generation: i64, hosts: &[&str]) -> Route {
    Route {
        version: FeedVersion(version),
        tenant: tenant(number),
        slug: Slug::parse(slug).expect("a slug"),
        hosts: hosts.iter().map(|host| HostName::parse(host).expect("a host")).collect(),
        state: RouteState::Active,
        generation: Generation(generation),
        target: None,
        limits: Limits::default(),
        schema_version: SchemaVersion(0),
    }
}

fn target(home: u128, is_shared: bool) -> RouteTarget {
    let home = HomeId::new(Uuid::from_u128(home));
    let names = HomeNames::of(home);
    let password = || Some(Secret::new("5e".repeat(32)));
    RouteTarget {
        cluster: ClusterId::new(Uuid::from_u128(3)),
        database: if is_shared { DatabaseName::shared(Uuid::from_u128(4)) } else { DatabaseName::of_home(home) },
        schema: if is_shared { SchemaName::of_home(home) } else { SchemaName::public() },
        credential: Credential { role: names.login_a, password: password() },
        read_only_credential: Credential { role: names.read_only, password: password() },
        shared: None,
    }
}

fn apply(table: &Table, route: &Route) -> bool {
    table.apply(Prepared::from(route))
}

fn slug_of(table: &Table, found: Option<Found>) -> String {
    table.texts(&found.expect("found")).slug().to_owned()
}

#[test]
fn a_route_comes_out_as_it_went_in() {
    let table = Table::new(1);
    let limits = Limits { pool_size: Some(3), ..Limits::default() };
    let states = [RouteState::Provisioning, RouteState::Active, RouteState::Suspended, RouteState::Moving];
    let routes: Vec<Route> = (0..1_000_u32)
        .map(|number| {
            let host = format!("fly{number}.example.com");
            let plain = route(u128::from(number) + 1, &format!("acme-{number}"), i64::from(number) + 1, 7, &[&host]);
            let target = (number % 5 > 0).then(|| target(u128::from(number) + 9, number % 2 == 0));
            Route { target, limits, state: states[number as usize % 4], schema_version: SchemaVersion(12), ..plain }
        })
        .collect();
    for route in &routes {
        assert!(apply(&table, route));
    }
    for route in &routes {
        let names =
            [table.by_id(route.tenant), table.by_slug(route.slug.as_str()), table.by_host(route.hosts[0].as_str())];
        for found in names {
            assert_eq!(table.route(&found.expect("found")).as_ref(), Some(route));
        }
    }
    assert_eq!(table.len(), 1_000);
    assert!(table.by_id(tenant(0)).is_none() && table.by_slug("fly1.example.com").is_none());
    assert!(table.by_host("acme-1").is_none(), "a slug is no host");
}

#[test]
fn room_that_was_made_is_used() {
    let table = Table::new(1);
    table.reserve(5_000);
    assert_eq!((table.ids.grow(5_000), table.names.grow(5_000)), (None, None));
    for number in 1..=5_000 {
        apply(&table, &route(number, &format!("acme-{number}"), 1, 1, &[]));
    }
    // What is there needs no more room.
    table.reserve(5_000);
    assert_eq!((table.len(), table.ids.grow(0)), (5_000, None));
}

#[test]
fn an_older_version_or_generation_never_overwrites_a_newer_one() {
    let table = Table::new(1);
    assert!(apply(&table, &route(1, "acme", 5, 2, &[])));
    assert!(!apply(&table, &route(1, "acme", 5, 2, &[])));
    assert!(!apply(&table, &route(1, "acme", 4, 3, &[])));
    assert!(!apply(&table, &route(1, "acme", 9, 1, &[])));
    assert!(!table.remove(tenant(1), FeedVersion(5)));
    assert!(table.remove(tenant(1), FeedVersion(6)));
    assert!(table.by_slug("acme").is_none() && table.by_id(tenant(1)).is_none());
}

#[test]
fn a_host_that_changes_hands_leads_to_its_new_tenant_in_either_order() {
    for lose_first in [true, false] {
        let table = Table::new(1);
        apply(&table, &route(1, "acme", 1, 1, &["fly.example.com"]));
        apply(&table, &route(2, "zenith", 2, 1, &[]));
        let (lose, win) = (route(1, "acme", 3, 1, &[]), route(2, "zenith", 4, 1, &["fly.example.com"]));
        let changes = if lose_first { [lose, win] } else { [win, lose] };
        for change in &changes {
            assert!(apply(&table, change));
        }
        assert_eq!(table.by_host("fly.example.com").expect("found").tenant, tenant(2));
    }
}

#[test]
fn a_changed_slug_is_found_under_its_new_name_only() {
    let table = Table::new(1);
    apply(&table, &route(1, "acme", 1, 1, &[]));
    apply(&table, &route(1, "acme-air", 2, 1, &[]));
    assert!(table.by_slug("acme").is_none());
    assert_eq!(table.by_slug("acme-air").expect("found").tenant, tenant(1));
}

#[test]
fn what_was_found_is_found_again_wherever_it_is_kept_now() {
    let table = Table::new(1);
    apply(&table, &route(1, "acme", 1, 1, &[]));
    let found = table.by_slug("acme").expect("found");
    table.remove(tenant(1), FeedVersion(2));
    assert!(table.again(&found).is_none());
    apply(&table, &route(2, "zenith", 3, 1, &[]));
    assert!(table.again(&found).is_none(), "its place is another tenant's");
    apply(&table, &route(1, "acme", 4, 2, &[]));
    assert_eq!(table.again(&found).expect("found").generation, Generation(2));
}

#[test]
fn a_snapshot_takes_out_what_it_does_not_name_but_nothing_newer() {
    let table = Table::new(1);
    for (number, slug, version) in [(1, "acme", 1), (2, "zenith", 2), (3, "later", 9)] {
        apply(&table, &route(number, slug, version, 1, &[]));
    }
    table.begin_snapshot();
    assert!(!apply(&table, &route(1, "acme", 1, 1, &[])), "nothing new, but named");
    assert_eq!(table.end_snapshot(FeedVersion(5)), [tenant(2)]);
    assert!(table.by_id(tenant(1)).is_some() && table.by_slug("later").is_some());
}

#[test]
fn readers_never_see_half_a_change() {
    let table = Arc::new(Table::new(1));
    apply(&table, &route(1, "a0", 1, 1, &["h0.example.com"]));
    let writer = std::thread::spawn({
        let table = Arc::clone(&table);
        move || {
            for version in 2..20_000_i64 {
                let (slug, host) = (format!("a{}", version % 7), format!("h{}.example.com", version % 7));
                apply(&table, &route(1, &slug, version, version, &[&host]));
                // Others come and go, and make the indexes grow.
                let other = u128::try_from(version).expect("positive");
                apply(&table, &route(other, &format!("b{version}"), version, 1, &[]));
                if version % 3 == 0 {
                    table.remove(tenant(other), FeedVersion(version + 1));
                }
            }
        }
    });
    let mut last = 0;
    while !writer.is_finished() {
        for number in 0..7 {
            let (slug, host) = (format!("a{number}"), format!("h{number}.example.com"));
            for found in [table.by_slug(&slug), table.by_host(&host)].into_iter().flatten() {
                assert_eq!(found.tenant, tenant(1));
                assert!(found.version.0 % 7 == number || found.version.0 == 1);
                assert_eq!(found.version.0, found.generation.0);
                assert!(found.version.0 >= last, "never back in time");
                last = found.version.0;
            }
        }
    }
    writer.join().expect("no panic");
    assert_eq!(slug_of(&table, table.by_id(tenant(1))), format!("a{}", 19_999 % 7));
}

mod indexes {
    use proptest::prelude::*;
    use std::collections::HashMap;

    use super::super::index::Index;

    /// Hashes that collide in their best places as often as one likes.
    fn hash(key: u8, spread: u32) -> u128 {
        (u128::from(key) << (128 - spread)) | (u128::from(key) << 40)
    }

    proptest! {
        #[test]
        fn an_index_is_a_map(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 1..400), spread in 8_u32..64) {
            let index = Index::<2>::default();
            let mut map = HashMap::new();
            for (number, (is_insert, key)) in (0_u32..).zip(steps) {
                let hash = hash(key, spread);
                if is_insert && !map.contains_key(&key) {
                    if let Some(level) = index.grow(1) {
                        index.take(level);
                    }
                    index.insert(hash, number);
                    map.insert(key, number);
                } else if let Some(known) = map.remove(&key) {
                    prop_assert!(index.remove(hash, known));
                } else {
                    prop_assert!(!index.remove(hash, number));
                }
                prop_assert_eq!(index.find(hash, |_| true), map.get(&key).copied());
            }
            for key in 0..=u8::MAX {
                prop_assert_eq!(index.find(hash(key, spread), |_| true), map.get(&key).copied());
            }
        }
    }
}
