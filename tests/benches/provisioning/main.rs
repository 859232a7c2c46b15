//! How long a tenant takes from the request to its home, and what a catalog of 100,000 tenants costs.
//!
//! `database`, `schema`: from nothing, as a ratio to the bare SQL. Both sides run in one process on one server (without fsync), one by one and in turn: a `POST /v1/tenants?wait=60`, and
//! the same statements issued directly over kept connections. Each prints its median and 95th percentile; the ratio is
//! the median of the ratios of neighbours, so that what the machine does otherwise falls out. Making room again is not
//! measured.
//! `warm`: a home that was made beforehand against one made from nothing, in turn, each over HTTP.
//! `bulk`: two hundred databases, four at a time, against the same statements issued four at a time.
//! `cluster`: a server of the tenant's own.
//! `catalog`: memory and answers of a `tenantry serve` process over a catalog of 100,000 tenants.
//!
//!     cargo bench -p tenantry-tests --bench provisioning [-- PART…]
//!
//! Lines read `figure NAME VALUE UNIT`.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reports on standard output and gives up loudly"
)]

mod bulk;
mod catalog;
mod events;
mod floor;
mod warm;

use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tenantry_api::TenantRef;
use tenantry_domain::Isolation;
use tenantry_tests::{Wire, World, files};

use events::Breakdown;
use floor::Floor;
use tenantry_tests::figures::{Side, figure, ratio};

/// Pairs that are thrown away: templates are built, connections are opened.
const WARM_UP: usize = 3;
/// Pairs that count.
const PAIRS: usize = 40;
const CLUSTERS: usize = 2;
const CLUSTER_ROUNDS: usize = 6;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let parts: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        let wanted = |part: &str| parts.is_empty() || parts.iter().any(|named| named == part);
        let world = World::builder().migrations(files::sample()).dedicated(CLUSTERS).start().await;
        for isolation in [Isolation::Database, Isolation::Schema] {
            if wanted(isolation.as_str()) {
                compare(&world, isolation).await;
            }
        }
        if wanted("bulk") {
            bulk::compare(&world).await;
        }
        if wanted("cluster") {
            clusters(&world).await;
        }
        if wanted("warm") {
            warm::compare(&world).await;
        }
        world.end().await;
        if wanted("catalog") {
            catalog::measure().await;
        }
    });
}

/// One tenant over HTTP: how long it took, and where the time went.
async fn create(wire: &Wire, slug: &str, isolation: Isolation) -> (Duration, serde_json::Value, SystemTime) {
    let body = json!({ "slug": slug, "isolation": isolation });
    let (began_at, began) = (SystemTime::now(), Instant::now());
    let answer = wire.post("/v1/tenants?wait=60", &body).await;
    let took = began.elapsed();
    assert_eq!(answer.json["tenant"]["status"], "active", "{}", answer.text);
    (took, answer.json, began_at)
}

async fn remove(world: &World<'_>, slug: &str) {
    let reference: TenantRef = slug.parse().expect("a slug");
    let tenant = world.client().show_tenant(&reference).await.expect("a tenant").value;
    world.delete(&tenant).await;
}

async fn compare(world: &World<'static>, isolation: Isolation) {
    let wire = world.wire();
    let floor = Floor::over(world, isolation).await;
    let (mut tenantry, mut sql, mut breakdown) = (Side::default(), Side::default(), Breakdown::default());
    for pair in 0..WARM_UP + PAIRS {
        let slug = format!("{isolation}-{pair}");
        // Neither side always goes first.
        let (created, direct) = if pair % 2 == 0 {
            let created = create(&wire, &slug, isolation).await;
            (created, floor.make().await)
        } else {
            let direct = floor.make().await;
            (create(&wire, &slug, isolation).await, direct)
        };
        let (took, answer, began_at) = created;
        if pair >= WARM_UP {
            tenantry.push(took);
            sql.push(direct.took);
            breakdown.read(world, &answer, began_at, took).await;
        }
        floor.unmake(direct).await;
        remove(world, &slug).await;
    }
    figure(&format!("create_{isolation}_ratio"), ratio(&tenantry, &sql), "x");
    tenantry.print(&format!("create_{isolation}"));
    sql.print(&format!("create_{isolation}_sql"));
    breakdown.print(&format!("create_{isolation}"));
    floor.end().await;
}

/// Claiming an empty registered server and making the home on it. There is no bare counterpart that starts from the same.
async fn clusters(world: &World<'_>) {
    let wire = world.wire();
    let (mut side, mut breakdown) = (Side::default(), Breakdown::default());
    for round in 0..CLUSTER_ROUNDS {
        for number in 0..CLUSTERS {
            let slug = format!("cluster-{round}-{number}");
            let (took, answer, began_at) = create(&wire, &slug, Isolation::Cluster).await;
            if round > 0 {
                side.push(took);
                breakdown.read(world, &answer, began_at, took).await;
            }
        }
        for number in 0..CLUSTERS {
            remove(world, &format!("cluster-{round}-{number}")).await;
        }
    }
    side.print("create_cluster");
    breakdown.print("create_cluster");
}
