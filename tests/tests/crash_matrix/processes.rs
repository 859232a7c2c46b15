//! Real replicas, and `kill -9` at every point.

use std::time::Duration;

use tenantry_domain::Isolation;
use tenantry_fleet::failpoints::{Action, VARIABLE};
use tenantry_testkit::Server;
use tenantry_tests::{Serve, World};

use super::adoption::Legacy;
use super::batch::Batches;
use super::case::at_each_step;
use super::scenario::{ADOPTIONS, SCENARIOS, Scenario, steps_of};
use super::within_one_process::start_working;

const BOTH: [Isolation; 2] = [Isolation::Database, Isolation::Schema];

async fn start(batches: &Batches<'_, '_>) -> Serve {
    let directory = batches.arming.path().to_str().expect("a path that is text");
    Serve::start_with(batches.world, &[(VARIABLE, directory)]).await
}

/// Starts another in the place of each that has died. Never ends by itself.
async fn keep_up(batches: &Batches<'_, '_>, serves: &mut [Serve]) {
    loop {
        for serve in &mut *serves {
            if serve.has_ended() {
                *serve = start(batches).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_killed_at_every_point() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    survive(&mut batches, SCENARIOS).await;
    drop(batches);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_adopt_are_killed_at_every_point() {
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let legacy = Legacy::on(&homes).await;
    let mut batches = Batches::adopting(&mut world, legacy);
    survive(&mut batches, ADOPTIONS).await;
    batches.give_back().await;
    drop(batches);
    world.end().await;
}

async fn survive(batches: &mut Batches<'_, '_>, scenarios: &[Scenario]) {
    for scenario in scenarios {
        let cases = at_each_step(&steps_of(scenario.kind), &["before", "performed", "committed"], Action::Kill);
        for isolation in BOTH {
            batches.stock(scenario, isolation, cases.len()).await;
        }
        batches.world.rest().await;
        let mut broken = Vec::new();
        for isolation in BOTH {
            broken.extend(batches.begin(scenario, isolation, cases.clone()).await);
        }
        let mut serves = [start(batches).await, start(batches).await];
        tokio::select! {
            () = batches.settle(&broken) => {}
            () = keep_up(batches, &mut serves) => {}
        }
        for serve in serves {
            // One that dies of its last case is as good as one that is told to end.
            serve.kill().await;
        }
        batches.check(scenario, broken).await;
        start_working(batches).await;
    }
    batches.report("processes killed");
}
