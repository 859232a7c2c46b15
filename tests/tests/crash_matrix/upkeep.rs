//! Work that no person asks for: the warm pool fills and empties, broken at every point on the way.

use tenantry_control::{WarmPoolConfig, reconcilers};
use tenantry_domain::OperationKind;
use tenantry_fleet::failpoints::Action;
use tenantry_testkit::eventually;
use tenantry_tests::World;

use super::arming::Arming;
use super::scenario::steps_of;
use super::within_one_process::{say, start_working_with};

const SIZE: u32 = 4;

/// Actions with which a pool ends as if nothing had happened, and where.
const ACTIONS: [(Action, &[&str]); 4] = [
    (Action::Abandon, &["before", "performed", "committed"]),
    (Action::Fail, &["before", "performed"]),
    (Action::Freeze, &["before", "performed"]),
    (Action::Repeat, &["performed"]),
];

/// Homes that wait for a tenant, and operations that are not finished.
async fn seen(world: &World<'_>) -> (i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM home WHERE state = 'warm'),
                      (SELECT count(*) FROM operation WHERE finished_at IS NULL)";
    let row = world.catalog_client().await.query_one(sql, &[]).await.expect("a look into the catalog");
    (row.get(0), row.get(1))
}

/// Lets the pool come to a size with every point of a kind armed; returns how many were passed.
async fn bring_to(
    world: &mut World<'_>,
    arming: &Arming,
    size: u32,
    kind: OperationKind,
    action: Action,
    moments: &[&str],
) -> usize {
    world.rest().await;
    let steps = steps_of(kind).steps;
    let points: Vec<String> =
        steps.iter().flat_map(|step| moments.iter().map(move |moment| format!("{kind}.{step}.{moment}"))).collect();
    for point in &points {
        arming.arm_for_any(point, action);
    }
    let pool = WarmPoolConfig { size_min: size, size_max: size, refill_concurrency: SIZE };
    start_working_with(world, arming, |config| config.warm_pool = pool).await;
    let replica = world.replicas().last().expect("a replica");
    reconcilers::poke(replica.control(), "warm_pool").await.expect("a poke");
    // Whoever sleeps is succeeded by another, or the pool would not get there.
    eventually(&format!("{action:?}: the pool holds {size}"), async || seen(world).await == (i64::from(size), 0)).await;
    for point in &points {
        arming.let_go_any(point);
    }
    world.rest().await;
    world.assert_nothing_orphaned().await;
    let passed = points.iter().filter(|point| arming.is_taken_by_any(point)).count();
    // A step without effect is not committed by itself.
    let missed = points.iter().find(|point| !arming.is_taken_by_any(point) && !point.ends_with(".committed"));
    assert_eq!(missed, None, "{action:?}: not passed");
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_fills_and_empties_whatever_breaks() {
    let mut world = World::start().await;
    let arming = Arming::new();
    let (mut prepared, mut dropped) = (0, 0);
    for (action, moments) in ACTIONS {
        prepared += bring_to(&mut world, &arming, SIZE, OperationKind::PrepareHome, action, moments).await;
        dropped += bring_to(&mut world, &arming, 0, OperationKind::DropHome, action, moments).await;
    }
    say(&format!("crash matrix: prepare_home: {prepared} cases, drop_home: {dropped} cases, within one process"));
    world.add_replica(|_| ()).await;
    world.end().await;
}
