//! PostgreSQL itself ends, in order or not, while every operation stands in the middle of a step.

use tenantry_domain::Isolation;
use tenantry_fleet::failpoints::Action;
use tenantry_testkit::Server;
use tenantry_tests::World;

use super::adoption::Legacy;
use super::batch::Batches;
use super::case::at_each_step;
use super::scenario::{ADOPTIONS, SCENARIOS, Scenario, steps_of};
use super::within_one_process::start_working;

#[derive(Debug, Clone, Copy)]
enum End {
    Restart,
    Kill,
}

async fn end_and_begin(server: &Server, how: End) {
    if matches!(how, End::Kill) {
        server.cluster().kill().await.expect("a server that can be killed");
    }
    server.cluster().restart().await.expect("a server that starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_outlives_its_servers() {
    let (catalog, homes) = (Server::own().await, Server::own().await);
    let mut world = World::builder().catalog_on(&catalog).homes_on(&homes).start().await;
    let mut batches = Batches::new(&mut world);
    survive(&mut batches, SCENARIOS, &catalog, &homes).await;
    drop(batches);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn adoptions_outlive_their_servers() {
    let (catalog, homes) = (Server::own().await, Server::own().await);
    let mut world = World::builder().catalog_on(&catalog).homes_on(&homes).start().await;
    let legacy = Legacy::on(&homes).await;
    let mut batches = Batches::adopting(&mut world, legacy);
    survive(&mut batches, ADOPTIONS, &catalog, &homes).await;
    batches.give_back().await;
    drop(batches);
    world.end().await;
}

async fn survive(batches: &mut Batches<'_, '_>, scenarios: &[Scenario], catalog: &Server, homes: &Server) {
    for scenario in scenarios {
        for (victim, how) in [(homes, End::Kill), (homes, End::Restart), (catalog, End::Kill), (catalog, End::Restart)]
        {
            let cases = at_each_step(&steps_of(scenario.kind), &["before", "performed"], Action::Pause);
            for isolation in [Isolation::Database, Isolation::Schema] {
                batches.stock(scenario, isolation, cases.len()).await;
            }
            batches.world.rest().await;
            let mut broken = Vec::new();
            for isolation in [Isolation::Database, Isolation::Schema] {
                broken.extend(batches.begin(scenario, isolation, cases.clone()).await);
            }
            start_working(batches).await;
            batches.all_taken(&broken).await;
            end_and_begin(victim, how).await;
            batches.let_go(&broken);
            batches.settle(&broken).await;
            batches.world.rest().await;
            batches.check(scenario, broken).await;
            start_working(batches).await;
        }
    }
    batches.report("PostgreSQL of the catalog or the cluster restarted or killed");
}
