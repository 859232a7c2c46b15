//! A thousand readers of one control plane.

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use tenantry_api::client::FeedStream;
use tenantry_domain::FeedVersion;
use tenantry_tests::figures::figure;
use tenantry_tests::routes::{clock, publish, touch};
use tenantry_tests::{Serve, World};

use crate::LOG;

const READERS: usize = 1_000;
const TENANTS: usize = 1_000;
/// Each changes every route once.
const ROUNDS: usize = 10;
/// Readers that connect at the same time.
const AT_ONCE: usize = 64;

pub(crate) async fn measure() {
    let mut world = World::builder().without_migrations().start().await;
    let slugs: Vec<String> = (0..TENANTS).map(|number| format!("company-{number}")).collect();
    let tenants = publish(world.store(), &slugs, Duration::ZERO).await;
    world.take_replica(0).stop().await;
    let serve = Serve::start_with(&world, &[LOG]).await;
    world.use_door(serve.url());
    figure("feeds_0_mb", serve.memory_mb("VmRSS"), "MB");

    let (began, client, end) = (Instant::now(), world.client(), clock(world.store()).await);
    let opened = stream::iter(0..READERS).map(async |_| {
        let mut feed = client.feed(None).await?;
        read_to(&mut feed, end).await?;
        Ok::<_, tenantry_api::ClientError>(feed)
    });
    let mut feeds: Vec<FeedStream> = opened.buffer_unordered(AT_ONCE).try_collect().await.expect("a thousand feeds");
    figure("feeds_1000_snapshot_s", began.elapsed().as_secs_f64(), "s");

    let (began, store) = (Instant::now(), world.store());
    let write = async {
        for _ in 0..ROUNDS {
            touch(store, &tenants).await;
        }
    };
    let end = FeedVersion(end.0 + i64::try_from(ROUNDS * TENANTS).expect("a number"));
    let read = join_all(feeds.iter_mut().map(|feed| read_to(feed, end)));
    let ((), read) = tokio::join!(write, read);
    assert!(read.iter().all(Result::is_ok), "a reader was cut off");
    figure("feeds_1000_changes_s", began.elapsed().as_secs_f64(), "s");
    figure("feeds_1000_mb", serve.memory_mb("VmRSS"), "MB");
    figure("feeds_1000_peak_mb", serve.memory_mb("VmHWM"), "MB");
    drop(feeds);
    world.end().await;
    assert!(serve.terminate().await.success());
}

async fn read_to(feed: &mut FeedStream, end: FeedVersion) -> Result<(), tenantry_api::ClientError> {
    while let Some(event) = feed.next().await {
        let event = event?;
        let is_change = !matches!(event, tenantry_api::FeedEvent::Heartbeat { .. });
        if is_change && event.version() >= Some(end) {
            break;
        }
    }
    Ok(())
}
