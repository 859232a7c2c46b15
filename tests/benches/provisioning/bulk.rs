//! Many tenants at a time against the same statements issued by as many hands.

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;
use tenantry_domain::Isolation;
use tenantry_tests::World;

use crate::floor::{Direct, Floor};
use crate::{create, remove};
use tenantry_tests::figures::{figure, percentile};

const TENANTS: usize = 200;
const CONCURRENCY: usize = 4;
/// Each side makes its tenants in so many rounds, in turn with the other.
const ROUNDS: usize = 5;

pub(crate) async fn compare(world: &World<'static>) {
    let floor = Floor::over(world, Isolation::Database).await;
    let mut hands = Vec::new();
    for _ in 0..CONCURRENCY {
        hands.push(floor.beside().await);
    }
    let (mut ratios, mut tenantry, mut sql) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    for round in 0..=ROUNDS {
        // The first round opens connections on both sides and does not count.
        let number = if round == 0 { CONCURRENCY * 2 } else { TENANTS / ROUNDS };
        let (through, directly) = if round % 2 == 0 {
            let through = tenants(world, round, number).await;
            (through, statements(&hands, number).await)
        } else {
            let directly = statements(&hands, number).await;
            (tenants(world, round, number).await, directly)
        };
        if round > 0 {
            ratios.push(directly.as_secs_f64() / through.as_secs_f64());
            tenantry += through;
            sql += directly;
        }
    }
    figure("bulk_throughput_ratio", percentile(&ratios, 50), "x");
    figure("bulk_tenants_per_second", per_second(tenantry), "1/s");
    figure("bulk_sql_homes_per_second", per_second(sql), "1/s");
    drop(hands);
    floor.end().await;
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn per_second(took: Duration) -> f64 {
    TENANTS as f64 / took.as_secs_f64()
}

async fn tenants(world: &World<'static>, round: usize, number: usize) -> Duration {
    let wire = world.wire();
    let slugs: Vec<String> = (0..number).map(|number| format!("bulk-{round}-{number}")).collect();
    let began = Instant::now();
    stream::iter(&slugs)
        .for_each_concurrent(CONCURRENCY, async |slug| {
            create(&wire, slug, Isolation::Database).await;
        })
        .await;
    let took = began.elapsed();
    for slug in &slugs {
        remove(world, slug).await;
    }
    took
}

async fn statements(hands: &[Floor<'_>], number: usize) -> Duration {
    let began = Instant::now();
    let working = hands.iter().map(async |hand| {
        let mut made: Vec<Direct> = Vec::new();
        for _ in 0..number / CONCURRENCY {
            made.push(hand.make().await);
        }
        made
    });
    let made = futures::future::join_all(working).await;
    let took = began.elapsed();
    for (hand, made) in hands.iter().zip(made) {
        for direct in made {
            hand.unmake(direct).await;
        }
    }
    took
}
