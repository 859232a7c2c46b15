//! A home that was made beforehand against one that is made from nothing.

use tenantry_domain::Isolation;
use tenantry_testkit::eventually;
use tenantry_tests::{World, files};
use tokio_postgres::Client;

use crate::events::Breakdown;
use crate::{create, remove};
use tenantry_tests::figures::{Side, figure};

/// Homes that wait.
const POOL: u32 = 2;
const WARM_UP: usize = 3;
const PAIRS: usize = 60;

/// `cold` is a world without a warm pool.
pub(crate) async fn compare(cold: &World<'static>) {
    let warm = World::builder().migrations(files::sample()).warm_pool(POOL, POOL).start().await;
    let catalog = warm.catalog_client().await;
    let (warm_wire, cold_wire) = (warm.wire(), cold.wire());
    let (mut claimed, mut made, mut breakdown) = (Side::default(), Side::default(), Breakdown::default());
    for pair in 0..WARM_UP + PAIRS {
        let slug = format!("pair-{pair}");
        full(&catalog).await;
        let (from_pool, from_nothing) = if pair % 2 == 0 {
            let from_pool = create(&warm_wire, &slug, Isolation::Database).await;
            full(&catalog).await;
            (from_pool, create(&cold_wire, &slug, Isolation::Database).await)
        } else {
            let from_nothing = create(&cold_wire, &slug, Isolation::Database).await;
            (create(&warm_wire, &slug, Isolation::Database).await, from_nothing)
        };
        let (took, answer, began_at) = from_pool;
        let sql = "SELECT (progress ->> 'is_warm')::boolean FROM operation WHERE id::text = $1";
        let operation = answer["operation"]["id"].as_str().expect("an operation");
        let is_warm: bool = catalog.query_one(sql, &[&operation]).await.expect("its progress").get(0);
        assert!(is_warm, "the pool was full, and its home was made from nothing");
        if pair >= WARM_UP {
            claimed.push(took);
            made.push(from_nothing.0);
            breakdown.read(&warm, &answer, began_at, took).await;
        }
        remove(&warm, &slug).await;
        remove(cold, &slug).await;
    }
    figure("warm_claim_p50_ms", claimed.percentile_ms(50), "ms");
    figure("warm_claim_p95_ms", claimed.percentile_ms(95), "ms");
    made.print("cold_beside_warm");
    figure("warm_over_cold", claimed.percentile_ms(50) / made.percentile_ms(50), "x");
    breakdown.print("warm_claim");
    drop(catalog);
    warm.end().await;
}

/// Waits until the pool is full and nothing is at work on it.
async fn full(catalog: &Client) {
    eventually("the pool is full", async || {
        let sql = "SELECT (SELECT count(*) FROM home WHERE state = 'warm') >= $1
                      AND NOT EXISTS (SELECT FROM operation WHERE finished_at IS NULL)";
        catalog.query_one(sql, &[&i64::from(POOL)]).await.expect("a look at the pool").get(0)
    })
    .await;
}
