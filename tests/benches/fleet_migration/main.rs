//! What a rollout costs, beside those who do the same without a control plane.
//!
//! `database`: one pending migration over 500 tenants with a database each. Three sides in turn, in rounds, over the same
//! databases and as the same roles, eight at a time: a rollout from its request to its end; a bare loop that connects, sends
//! DDL and history row in one batch and disconnects; and stock refinery. Ratios are medians over the rounds, and above 1
//! where the rollout is faster.
//! `delay`: the same against refinery, with 10 ms more on the way to the server.
//! `schema`: the same for 500 tenants with a schema each in one database; the bare loop keeps its connections.
//! `crowd`: a catalog of 100,000 tenants: a rollout with nothing to do, and one that has everything to do, which is looked
//! at while it runs.
//!
//!     cargo bench -p tenantry-tests --bench fleet_migration [-- PART…]
//!
//! Lines read `figure NAME VALUE UNIT`.

#![allow(clippy::expect_used, reason = "a benchmark gives up loudly")]

mod bare;
mod cpu;
mod crowd;
mod fleet;
mod stock;

use std::net::SocketAddr;
use std::time::Duration;

use tenantry_domain::Isolation;
use tenantry_testkit::{BreakableSocket, Server};
use tenantry_tests::figures::{Side, figure, ratio};
use tenantry_tests::{World, files};

use cpu::Spent;
use fleet::Fleet;

const TENANTS: usize = 500;
/// How many are migrated at the same time, on every side; a rollout's own default.
const CONCURRENCY: usize = 8;
/// After one that does not count.
const ROUNDS: usize = 5;
/// A line takes longer than a machine.
const ROUNDS_WITH_DELAY: usize = 3;
const DELAY: Duration = Duration::from_millis(10);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
        if wanted("database") {
            databases().await;
        }
        if wanted("delay") {
            databases_far_away().await;
        }
        if wanted("schema") {
            schemas().await;
        }
        if wanted("crowd") {
            crowd::measure().await;
        }
    });
}

async fn databases() {
    let servers = Servers::start().await;
    let world = servers.world(servers.homes.address()).await;
    let mut fleet = Fleet::of(&world, Isolation::Database, TENANTS).await;
    let [rollout, bare, refinery] = in_turn("database", &servers, &mut fleet, ROUNDS, [true, true, true]).await;
    figure("database_over_bare", ratio(&bare, &rollout), "x");
    figure("database_over_refinery", ratio(&refinery, &rollout), "x");
    servers.end().await;
}

async fn databases_far_away() {
    let servers = Servers::start().await;
    let line = BreakableSocket::before(servers.homes.address()).await;
    let world = servers.world(line.address()).await;
    let mut fleet = Fleet::of(&world, Isolation::Database, TENANTS).await;
    line.delay(DELAY, Duration::ZERO);
    let sides = in_turn("database_10ms", &servers, &mut fleet, ROUNDS_WITH_DELAY, [true, false, true]).await;
    let [rollout, _, refinery] = sides;
    line.delay(Duration::ZERO, Duration::ZERO);
    figure("database_over_refinery_10ms", ratio(&refinery, &rollout), "x");
    servers.end().await;
}

async fn schemas() {
    let servers = Servers::start().await;
    let world = servers.world(servers.homes.address()).await;
    let mut fleet = Fleet::of(&world, Isolation::Schema, TENANTS).await;
    let [rollout, bare, refinery] = in_turn("schema", &servers, &mut fleet, ROUNDS, [true, true, true]).await;
    figure("schema_over_bare", ratio(&bare, &rollout), "x");
    figure("schema_over_refinery", ratio(&refinery, &rollout), "x");
    servers.end().await;
}

/// Servers for one part alone, so that nobody waits for five hundred deletions.
struct Servers {
    catalog: Server,
    homes: Server,
}

impl Servers {
    async fn start() -> Self {
        Self { catalog: Server::own().await, homes: Server::own().await }
    }

    async fn world(&self, homes_at: SocketAddr) -> World<'_> {
        World::builder()
            .catalog_on(&self.catalog)
            .homes_on(&self.homes)
            .homes_at(homes_at)
            .migrations(files::notes())
            .start()
            .await
    }

    /// With everything that is on them, which the world then need not take down.
    async fn end(&self) {
        for server in [&self.catalog, &self.homes] {
            server.cluster().kill().await.expect("a server that is killed");
        }
    }
}

/// Each side brings every tenant one migration further, in turn, so that what the machine does otherwise falls on all.
async fn in_turn(
    name: &str,
    servers: &Servers,
    fleet: &mut Fleet<'_>,
    rounds: usize,
    takes_part: [bool; 3],
) -> [Side; 3] {
    let mut sides: [Side; 3] = std::array::from_fn(|_| Side::default());
    let names = ["rollout", "bare", "refinery"].map(|side| format!("{name}_{side}"));
    for round in 0..=rounds {
        for step in 0..3 {
            let side = (round + step) % 3;
            if !takes_part[side] {
                continue;
            }
            let before = Spent::so_far(&servers.catalog, &servers.homes);
            let took = match side {
                0 => fleet.roll_out().await,
                1 => bare::migrate(fleet, round).await,
                _ => stock::migrate(fleet, round).await,
            };
            // The first one opens connections and fills caches.
            if round > 0 {
                sides[side].push(took);
            }
            if round == rounds {
                let after = Spent::so_far(&servers.catalog, &servers.homes);
                after.print_since(before, &names[side], fleet.homes.len());
            }
        }
    }
    for (side, name) in sides.iter().zip(&names).zip(takes_part).filter_map(|(side, part)| part.then_some(side)) {
        side.print(name);
    }
    sides
}
