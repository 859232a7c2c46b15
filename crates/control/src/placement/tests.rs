use jiff::Timestamp;
use proptest::prelude::*;
use tenantry_domain::{
    ClusterLimits, ClusterLocale, ClusterName, ClusterUsage, Endpoint, ProviderKind, TenantId, TlsMode,
};
use uuid::Uuid;

use super::*;

fn region(name: &str) -> Region {
    Region::parse(name).expect("a region")
}

fn candidate(name: &str, homes: u32) -> Candidate {
    let cluster = Cluster {
        id: ClusterId::new(Uuid::from_u128(name.bytes().fold(0, |sum, byte| sum * 257 + u128::from(byte)))),
        name: ClusterName::parse(name).expect("name"),
        region: region("eu-1"),
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
        usage: ClusterUsage { homes, databases: homes, ..ClusterUsage::default() },
        health: ClusterHealth::default(),
        claimed_by: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    Candidate { cluster, holds_catalog: false, open_schemas: 0, alike: 0 }
}

fn wish(isolation: Isolation) -> Wish {
    Wish { regions: vec![region("eu-1")], isolation, connections: None, pin: None, apart: None, near: None }
}

fn observed(connections_max: u32) -> ClusterObservation {
    ClusterObservation {
        server_version: 150_000,
        in_recovery: false,
        connections_max,
        connections_reserved: 3,
        connections_open: 1,
        databases: 3,
        disk_bytes: 0,
        disk_measured_at: None,
        clock_ahead_ms: 0,
    }
}

fn apart(required: bool) -> KeepApart {
    KeepApart { label: "group".to_owned(), value: "skyteam".to_owned(), required }
}

#[test]
fn the_emptiest_cluster_is_chosen_and_ties_are_settled_by_name() {
    let clusters = [candidate("c", 3), candidate("b", 1), candidate("a", 1)];
    let decision = choose(&wish(Isolation::Database), &clusters);
    assert_eq!(decision.chosen, Some(clusters[2].cluster.id));
}

#[test]
fn fullness_is_relative_to_the_tightest_limit() {
    let mut small = candidate("small", 5);
    small.cluster.limits.tenants = 6;
    let mut large = candidate("large", 50);
    large.cluster.limits.tenants = 1_000;
    let decision = choose(&wish(Isolation::Schema), &[small, large.clone()]);
    assert_eq!(decision.chosen, Some(large.cluster.id));
    assert_eq!(decision.considered[0].fullness_permille, 50);

    let mut heavy = candidate("heavy", 1);
    heavy.cluster.limits.disk_bytes = Some(100 * HOME_BYTES);
    heavy.cluster.usage.disk_bytes = Some(90 * HOME_BYTES);
    let decision = choose(&wish(Isolation::Schema), &[heavy, large.clone()]);
    assert_eq!(decision.chosen, Some(large.cluster.id), "disk counts too");
}

#[test]
fn every_refusal_has_its_reason() {
    type Change = fn(&mut Candidate, &mut Wish);
    let cases: &[(&str, Isolation, Change)] = &[
        ("region", Isolation::Database, |it, _| it.cluster.region = region("us-1")),
        ("state", Isolation::Database, |it, _| it.cluster.state = ClusterState::Cordoned),
        ("state", Isolation::Database, |it, _| it.cluster.state = ClusterState::Draining),
        ("catalog", Isolation::Database, |it, _| it.holds_catalog = true),
        ("tenants", Isolation::Database, |it, _| it.cluster.limits.tenants = 1),
        ("databases", Isolation::Database, |it, _| it.cluster.limits.databases = 1),
        ("tenancy", Isolation::Cluster, |_, _| ()),
        ("tenancy", Isolation::Database, |it, _| it.cluster.tenancy = Tenancy::Dedicated),
        ("claimed", Isolation::Database, |it, _| it.cluster.claimed_by = Some(TenantId::new(Uuid::nil()))),
        ("unreachable", Isolation::Schema, |it, _| it.cluster.health.state = HealthState::Unreachable),
        ("read_only", Isolation::Schema, |it, _| it.cluster.health.state = HealthState::ReadOnly),
        ("connections", Isolation::Schema, |it, wish| {
            it.cluster.limits.connections = Some(100);
            it.cluster.usage.connections = 71;
            wish.connections = Some(30);
        }),
        ("ceiling", Isolation::Schema, |it, wish| {
            it.cluster.health.observed = Some(observed(100));
            wish.connections = Some(98);
        }),
        ("disk", Isolation::Schema, |it, _| {
            it.cluster.limits.disk_bytes = Some(HOME_BYTES * 2);
            it.cluster.usage.disk_bytes = Some(HOME_BYTES + 1);
        }),
        ("apart", Isolation::Schema, |it, wish| {
            it.alike = 1;
            wish.apart = Some(apart(true));
        }),
        ("pin", Isolation::Schema, |_, wish| wish.pin = Some(ClusterId::new(Uuid::nil()))),
    ];
    for (code, isolation, change) in cases {
        let (mut candidate, mut wish) = (candidate("a", 1), wish(*isolation));
        change(&mut candidate, &mut wish);
        let decision = choose(&wish, &[candidate]);
        assert_eq!(decision.chosen, None, "{code}");
        let codes: Vec<_> = decision.considered[0].refusals.iter().map(Refusal::code).collect();
        assert_eq!(codes, [*code]);
        assert!(decision.explain().starts_with("a: "), "{}", decision.explain());
    }
}

#[test]
fn all_reasons_are_told_and_not_only_the_first() {
    let mut far = candidate("far", 9);
    far.cluster.region = region("us-1");
    far.cluster.state = ClusterState::Cordoned;
    far.cluster.limits.tenants = 9;
    let decision = choose(&wish(Isolation::Schema), &[far]);
    let codes: Vec<_> = decision.considered[0].refusals.iter().map(Refusal::code).collect();
    assert_eq!(codes, ["region", "state", "tenants"]);
    assert!(decision.explain().contains("9 of 9"), "{}", decision.explain());
}

#[test]
fn homes_that_wait_for_a_tenant_are_in_no_tenants_way() {
    let mut full = candidate("a", 3);
    (full.cluster.limits.tenants, full.cluster.limits.databases) = (3, 3);
    assert_eq!(choose(&wish(Isolation::Database), std::slice::from_ref(&full)).chosen, None);
    full.cluster.usage.warm = 1;
    assert_eq!(choose(&wish(Isolation::Database), std::slice::from_ref(&full)).chosen, Some(full.cluster.id));
}

#[test]
fn a_schema_needs_no_new_database_where_a_shared_one_has_room() {
    let mut full = candidate("a", 1);
    full.cluster.limits.databases = 1;
    assert_eq!(choose(&wish(Isolation::Schema), std::slice::from_ref(&full)).chosen, None);
    full.open_schemas = 1;
    assert_eq!(choose(&wish(Isolation::Schema), std::slice::from_ref(&full)).chosen, Some(full.cluster.id));
}

#[test]
fn a_pinned_cluster_is_the_only_one_that_will_do() {
    let clusters = [candidate("a", 0), candidate("b", 9)];
    let wish = Wish { pin: Some(clusters[1].cluster.id), ..wish(Isolation::Database) };
    assert_eq!(choose(&wish, &clusters).chosen, Some(clusters[1].cluster.id));
}

#[test]
fn any_region_of_a_group_will_do() {
    let mut clusters = [candidate("a", 5), candidate("b", 1), candidate("c", 0)];
    clusters[1].cluster.region = region("eu-2");
    clusters[2].cluster.region = region("us-1");
    let wish = Wish { regions: vec![region("eu-1"), region("eu-2")], ..wish(Isolation::Schema) };
    assert_eq!(choose(&wish, &clusters).chosen, Some(clusters[1].cluster.id));
}

#[test]
fn tenants_of_one_group_keep_apart_where_they_can() {
    let mut clusters = [candidate("a", 0), candidate("b", 50)];
    clusters[0].alike = 1;
    let soft = Wish { apart: Some(apart(false)), ..wish(Isolation::Schema) };
    assert_eq!(choose(&soft, &clusters).chosen, Some(clusters[1].cluster.id), "rather a fuller one");
    clusters[1].alike = 2;
    assert_eq!(choose(&soft, &clusters).chosen, Some(clusters[0].cluster.id), "rather beside one than nowhere");
    let hard = Wish { apart: Some(apart(true)), ..soft };
    assert_eq!(choose(&hard, &clusters).chosen, None);
}

#[test]
fn a_child_goes_to_its_parent_unless_that_will_not_do() {
    let mut clusters = [candidate("a", 0), candidate("b", 50)];
    let wish = Wish { near: Some(clusters[1].cluster.id), ..wish(Isolation::Schema) };
    assert_eq!(choose(&wish, &clusters).chosen, Some(clusters[1].cluster.id));
    clusters[1].cluster.state = ClusterState::Draining;
    assert_eq!(choose(&wish, &clusters).chosen, Some(clusters[0].cluster.id));
}

#[test]
fn a_place_that_is_taken_counts_for_the_next() {
    let mut only = candidate("a", 0);
    only.cluster.limits = ClusterLimits { tenants: 3, databases: 2, schemas_per_database: 2, ..only.cluster.limits };
    let schema = wish(Isolation::Schema);
    let mut databases = Vec::new();
    while choose(&schema, std::slice::from_ref(&only)).chosen.is_some() {
        only.take(&schema);
        databases.push(only.cluster.usage.databases);
    }
    assert_eq!(databases, [1, 1, 2]);
}

#[test]
fn an_empty_fleet_says_how_to_begin() {
    assert!(choose(&wish(Isolation::Schema), &[]).explain().contains("cluster register"));
}

prop_compose! {
    fn any_candidate(number: usize)(
        homes in 0..4_u32, databases in 0..4_u32, connections in 0..60_u64, disk in 0..4_u64,
        tenants_max in 0..4_u32, databases_max in 0..4_u32,
        connections_max in proptest::option::of(0..60_u32), disk_max in proptest::option::of(0..4_u64),
        region_number in 0..3, dedicated in any::<bool>(), claimed in proptest::bool::weighted(0.1),
        state in prop_oneof![5 => Just(ClusterState::Active), 1 => Just(ClusterState::Cordoned), 1 => Just(ClusterState::Draining)],
        health in prop_oneof![5 => Just(HealthState::Healthy), 1 => Just(HealthState::Unknown),
                              1 => Just(HealthState::ReadOnly), 1 => Just(HealthState::Unreachable)],
        holds_catalog in proptest::bool::weighted(0.1), open_schemas in 0..2_u32, alike in 0..2_u32,
    ) -> Candidate {
        let mut it = candidate(&format!("c{number}"), homes);
        it.cluster.usage = ClusterUsage { homes, databases, warm: 0, connections, disk_bytes: Some(disk * HOME_BYTES) };
        it.cluster.limits = ClusterLimits {
            tenants: tenants_max, databases: databases_max, connections: connections_max,
            disk_bytes: disk_max.map(|disk| disk * HOME_BYTES), ..ClusterLimits::default()
        };
        it.cluster.region = region(&format!("r-{region_number}"));
        it.cluster.tenancy = if dedicated { Tenancy::Dedicated } else { Tenancy::Shared };
        it.cluster.claimed_by = claimed.then(|| TenantId::new(Uuid::nil()));
        it.cluster.state = state;
        it.cluster.health.state = health;
        Candidate { holds_catalog, open_schemas, alike, ..it }
    }
}

fn any_fleet() -> impl Strategy<Value = Vec<Candidate>> {
    (0..6_usize).prop_flat_map(|size| (0..size).map(any_candidate).collect::<Vec<_>>())
}

prop_compose! {
    fn any_wish()(
        regions in proptest::collection::btree_set(0..3, 1..3), isolation in 1..4_usize,
        connections in proptest::option::of(0..60_u32), pin in proptest::option::weighted(0.2, 0..6),
        near in proptest::option::of(0..6), apart in proptest::option::of(any::<bool>()),
    ) -> Wish {
        let named = |number: i32| candidate(&format!("c{number}"), 0).cluster.id;
        Wish {
            regions: regions.into_iter().map(|number| region(&format!("r-{number}"))).collect(),
            isolation: Isolation::ALL[isolation], connections, pin: pin.map(named), near: near.map(named),
            apart: apart.map(|required| KeepApart { label: "group".to_owned(), value: "x".to_owned(), required }),
        }
    }
}

/// Whether the home may be there, said once more and in other words than the planner's.
fn may_live(wish: &Wish, it: &Candidate) -> bool {
    let Cluster { limits, usage, .. } = &it.cluster;
    let makes_a_database = wish.isolation != Isolation::Schema || it.open_schemas == 0;
    wish.regions.contains(&it.cluster.region)
        && (wish.isolation == Isolation::Cluster) == (it.cluster.tenancy == Tenancy::Dedicated)
        && it.cluster.claimed_by.is_none()
        && it.cluster.state == ClusterState::Active
        && !matches!(it.cluster.health.state, HealthState::ReadOnly | HealthState::Unreachable)
        && !it.holds_catalog
        && wish.pin.is_none_or(|pin| pin == it.cluster.id)
        && usage.homes < limits.tenants
        && (!makes_a_database || usage.databases < limits.databases)
        && limits
            .connections
            .is_none_or(|max| usage.connections + u64::from(wish.connections.unwrap_or(0)) <= max.into())
        && limits.disk_bytes.is_none_or(|max| usage.disk_bytes.unwrap_or(0) + HOME_BYTES <= max)
        && (it.alike == 0 || wish.apart.as_ref().is_none_or(|apart| !apart.required))
}

proptest! {
    #[test]
    fn no_choice_breaks_a_rule_and_one_is_made_wherever_one_can_be(wish in any_wish(), fleet in any_fleet()) {
        let decision = choose(&wish, &fleet);
        let suits: Vec<_> = fleet.iter().filter(|it| may_live(&wish, it)).map(|it| it.cluster.id).collect();
        prop_assert_eq!(decision.chosen.is_some(), !suits.is_empty());
        prop_assert!(decision.chosen.is_none_or(|chosen| suits.contains(&chosen)));
        prop_assert_eq!(decision.considered.len(), fleet.len());
        for it in &decision.considered {
            prop_assert_eq!(it.refusals.is_empty(), suits.contains(&it.cluster), "{:?}", it);
        }
    }

    #[test]
    fn the_order_in_which_clusters_come_changes_nothing(
        wish in any_wish(), (fleet, shuffled) in any_fleet().prop_flat_map(|it| (Just(it.clone()), Just(it).prop_shuffle())),
    ) {
        prop_assert_eq!(choose(&wish, &fleet), choose(&wish, &shuffled));
    }

    #[test]
    fn one_more_cluster_never_makes_a_home_impossible(wish in any_wish(), fleet in any_fleet(), more in any_candidate(9)) {
        let before = choose(&wish, &fleet);
        let mut larger = fleet;
        larger.push(more);
        prop_assert!(before.chosen.is_none() || choose(&wish, &larger).chosen.is_some());
    }
}
