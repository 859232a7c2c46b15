//! Servers of a tenant's own: claimed and let go again, whatever breaks.

use tenantry_domain::{Isolation, OperationKind, TenantStatus};
use tenantry_tests::World;

use super::batch::Batches;
use super::case::{Case, Ending, around_each_step, lost_replies};
use super::scenario::{Scenario, scenario_of, steps_of};
use super::within_one_process::{CONNECTIONS, run, watched};

/// So many tenants have a server at the same time.
const SERVERS: usize = 12;

async fn cases_of(batches: &mut Batches<'_, '_>, scenario: &Scenario) -> Vec<Case> {
    let statements = watched(batches, scenario, Isolation::Cluster).await;
    let mut cases = around_each_step(&steps_of(scenario.kind));
    cases.extend(lost_replies(&statements));
    cases
}

/// Takes so many from the end, if there are.
fn some(cases: &mut Vec<Case>, wanted: usize) -> Vec<Case> {
    cases.split_off(cases.len().saturating_sub(wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_survives_every_way_to_break_its_work() {
    let mut world = World::builder().dedicated(SERVERS).catalog_connections(CONNECTIONS).start().await;
    let mut batches = Batches::new(&mut world);
    let (provision, delete) = (scenario_of(OperationKind::Provision), scenario_of(OperationKind::Delete));
    let mut coming = cases_of(&mut batches, provision).await;
    let mut going = cases_of(&mut batches, delete).await;
    while !coming.is_empty() || !going.is_empty() {
        let come = some(&mut coming, SERVERS);
        if !come.is_empty() {
            run(&mut batches, provision, Isolation::Cluster, come).await;
        }
        // Whoever came makes room for the next, by a case where there is one left.
        let there = batches.count(TenantStatus::Active, Isolation::Cluster);
        let room = if coming.is_empty() { SERVERS } else { there };
        let mut go = some(&mut going, room);
        let untouched = Case { armed: Vec::new(), ending: Ending::Done };
        go.resize(go.len().max(there), untouched);
        run(&mut batches, delete, Isolation::Cluster, go).await;
    }
    batches.report("isolation cluster, within one process");
    drop(batches);
    world.end().await;
}
