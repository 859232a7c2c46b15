//! Workers that die, fail and sleep, as tasks of this process; and answers of clusters that are lost.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use tenantry_control::ControlConfig;
use tenantry_domain::Isolation;
use tenantry_testkit::Server;
use tenantry_tests::World;

use super::adoption::Legacy;
use super::arming::Arming;
use super::batch::Batches;
use super::case::{Case, Ending, around_each_step, lost_replies};
use super::scenario::{ADOPTIONS, SCENARIOS, Scenario, steps_of};

const LEASE: Duration = Duration::from_secs(1);
/// More than can sleep at the same time.
const WORKERS: usize = 24;
/// To the catalog. Whoever sleeps may have been given one for its lease's sake, and holds it until it wakes up; a process
/// that sleeps as a whole takes nothing from others.
pub(crate) const CONNECTIONS: usize = 2 * WORKERS + 8;

pub(crate) async fn start_working(batches: &mut Batches<'_, '_>) {
    start_working_with(batches.world, &batches.arming, |_| ()).await;
}

/// Two replicas with failpoints and short leases.
pub(crate) async fn start_working_with(world: &mut World<'_>, arming: &Arming, configure: impl Fn(&mut ControlConfig)) {
    for _ in 0..2 {
        let change = |config: &mut ControlConfig| {
            config.failpoints = arming.failpoints();
            config.lease = LEASE;
            config.workers = WORKERS;
            // As many as there are answers to be lost in one step.
            config.attempts_max = 24;
            configure(config);
        };
        world.add_replica(change).await;
    }
}

/// Says something past the harness, which would keep it to itself.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// All cases of one kind, side by side.
pub(crate) async fn run(batches: &mut Batches<'_, '_>, scenario: &Scenario, isolation: Isolation, cases: Vec<Case>) {
    batches.stock(scenario, isolation, cases.len()).await;
    batches.world.rest().await;
    let broken = batches.begin(scenario, isolation, cases).await;
    start_working(batches).await;
    batches.settle(&broken).await;
    // Stopped in good order: whoever woke up late is through with what it tried.
    batches.world.rest().await;
    batches.check(scenario, broken).await;
    start_working(batches).await;
}

/// The points of the statements that a kind sends, found by watching it once.
pub(crate) async fn watched(
    batches: &mut Batches<'_, '_>,
    scenario: &Scenario,
    isolation: Isolation,
) -> BTreeSet<String> {
    batches.stock(scenario, isolation, 1).await;
    batches.world.rest().await;
    batches.arming.record();
    let untouched = Case { armed: Vec::new(), ending: Ending::Done };
    let watched = batches.begin(scenario, isolation, vec![untouched]).await;
    start_working(batches).await;
    batches.settle(&watched).await;
    let recorded = batches.arming.recorded(watched[0].operation);
    batches.world.rest().await;
    batches.check(scenario, watched).await;
    start_working(batches).await;
    recorded
}

async fn every_kind(isolation: Isolation) {
    let mut world = World::builder().catalog_connections(CONNECTIONS).start().await;
    let mut batches = Batches::new(&mut world);
    // The first home of a cluster comes with what homes are made from.
    let with_base = watched(&mut batches, &SCENARIOS[0], isolation).await;
    let without_base = every_one(&mut batches, SCENARIOS, isolation).await;
    batches.report(&format!("isolation {isolation}, within one process"));
    drop(batches);
    world.end().await;
    lose_replies_about_the_base(isolation, with_base.difference(&without_base)).await;
}

/// Every case of some kinds; returns the statements of the first.
async fn every_one(batches: &mut Batches<'_, '_>, scenarios: &[Scenario], isolation: Isolation) -> BTreeSet<String> {
    let mut of_the_first = None;
    for scenario in scenarios {
        let statements = watched(batches, scenario, isolation).await;
        let mut cases = around_each_step(&steps_of(scenario.kind));
        cases.extend(lost_replies(&statements));
        of_the_first.get_or_insert(statements);
        run(batches, scenario, isolation, cases).await;
    }
    of_the_first.unwrap_or_default()
}

/// Every statement with which a template or a shared database is made, each lost once, on the way to one home.
async fn lose_replies_about_the_base(isolation: Isolation, points: impl Iterator<Item = &String>) {
    let mut world = World::start().await;
    let mut batches = Batches::new(&mut world);
    let lost = lost_replies(points);
    assert!(!lost.is_empty());
    let armed = lost.into_iter().flat_map(|case| case.armed).collect();
    run(&mut batches, &SCENARIOS[0], isolation, vec![Case { armed, ending: Ending::Done }]).await;
    batches.report(&format!("isolation {isolation}, answers about its base"));
    drop(batches);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_survives_every_way_to_break_its_work() {
    every_kind(Isolation::Database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_survives_every_way_to_break_its_work() {
    every_kind(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_survives_every_way_to_break_its_work() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).catalog_connections(CONNECTIONS).start().await;
    let legacy = Legacy::on(&homes).await;
    let mut batches = Batches::adopting(&mut world, legacy);
    for isolation in [Isolation::Database, Isolation::Schema] {
        every_one(&mut batches, ADOPTIONS, isolation).await;
    }
    batches.report("adopted databases and schemas, within one process");
    batches.give_back().await;
    drop(batches);
    world.end().await;
}
