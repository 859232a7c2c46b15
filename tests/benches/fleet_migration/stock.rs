//! refinery as it comes, one connection after the other.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use refinery::{Migration, Runner};
use tokio_postgres::NoTls;

use crate::CONCURRENCY;
use crate::fleet::{Fleet, table};

/// One more table in every home, with refinery's own history under a name of its own.
pub(crate) async fn migrate(fleet: &Fleet<'_>, round: usize) -> Duration {
    let migrations: Vec<Migration> = (0..=round)
        .map(|number| {
            let name = format!("V{}__stock", number + 1);
            Migration::unapplied(&name, &table("stock", number)).expect("a migration")
        })
        .collect();
    let began = Instant::now();
    stream::iter(&fleet.homes)
        .for_each_concurrent(CONCURRENCY, async |home| {
            let mut login = home.login.clone();
            login.options(format!("-c role={} -c search_path={}", home.owner, home.schema));
            let (mut client, connection) = login.connect(NoTls).await.expect("a connection");
            let driver = tokio::spawn(connection);
            let mut runner = Runner::new(&migrations);
            runner.set_migration_table_name("stock_history");
            let report = runner.run_async(&mut client).await.expect("a migration");
            assert_eq!(report.applied_migrations().len(), 1);
            drop(client);
            driver.await.expect("a driver").expect("an end");
        })
        .await;
    began.elapsed()
}
