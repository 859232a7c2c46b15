//! A loop that knows what to do and asks nobody: the least that a migration can cost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use tenantry_domain::Isolation;
use tokio_postgres::{Client, NoTls};

use crate::CONCURRENCY;
use crate::fleet::{Fleet, Home, table};

/// One more table and its row of a history in every home: in one batch over a connection each, or, for tenants that share
/// a database, over connections that are kept.
pub(crate) async fn migrate(fleet: &Fleet<'_>, round: usize) -> Duration {
    match fleet.isolation {
        Isolation::Schema => over_kept_connections(fleet, round).await,
        Isolation::Row | Isolation::Database | Isolation::Cluster => over_a_connection_each(fleet, round).await,
    }
}

async fn over_a_connection_each(fleet: &Fleet<'_>, round: usize) -> Duration {
    let began = Instant::now();
    stream::iter(&fleet.homes)
        .for_each_concurrent(CONCURRENCY, async |home| {
            let (client, connection) = home.login.connect(NoTls).await.expect("a connection");
            let driver = tokio::spawn(connection);
            run(&client, home, round).await;
            drop(client);
            driver.await.expect("a driver").expect("an end");
        })
        .await;
    began.elapsed()
}

async fn over_kept_connections(fleet: &Fleet<'_>, round: usize) -> Duration {
    // Each hand has a connection to each of the databases that tenants share.
    let databases: BTreeSet<&str> = fleet.homes.iter().map(|home| home.database.as_str()).collect();
    let mut hands: Vec<BTreeMap<&str, Client>> = Vec::new();
    for _ in 0..CONCURRENCY {
        let mut hand = BTreeMap::new();
        for database in &databases {
            hand.insert(*database, fleet.root(database).await);
        }
        hands.push(hand);
    }
    let began = Instant::now();
    let share = fleet.homes.len().div_ceil(CONCURRENCY);
    let work = hands.iter().zip(fleet.homes.chunks(share)).map(async |(hand, homes)| {
        for home in homes {
            run(&hand[home.database.as_str()], home, round).await;
        }
    });
    futures::future::join_all(work).await;
    began.elapsed()
}

async fn run(client: &Client, home: &Home, round: usize) {
    let history = if round == 0 { "CREATE TABLE bare_history (version bigint PRIMARY KEY, name text);" } else { "" };
    let sql = format!(
        "BEGIN; SET LOCAL search_path = {}; SET LOCAL ROLE {}; {history} {} INSERT INTO bare_history VALUES ({round}, 'bare'); COMMIT",
        home.schema,
        home.owner,
        table("bare", round),
    );
    client.batch_execute(&sql).await.expect("a migration");
}
