//! Who kills the control plane, its catalog and the homes' server.

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use tenantry_testkit::Server;
use tenantry_tests::{Door, World};
use tokio_util::sync::CancellationToken;

/// One victim at a time, each there again before the next.
pub(crate) struct Killer<'w, 's> {
    pub(crate) world: &'w World<'s>,
    pub(crate) catalog: &'w Server,
    pub(crate) servers: &'w Server,
    pub(crate) door: &'w mut Door,
    /// Control planes, catalogs, and servers of homes.
    pub(crate) kills: [usize; 3],
}

impl Killer<'_, '_> {
    pub(crate) async fn run(&mut self, mut random: StdRng, stop: &CancellationToken) {
        loop {
            let pause = Duration::from_millis(random.random_range(0..3_000));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            let dead = Duration::from_millis(random.random_range(0..1_500));
            let victim = random.random_range(0..self.kills.len());
            self.kills[victim] += 1;
            match victim {
                0 => {
                    self.door.kill().await;
                    tokio::time::sleep(dead).await;
                    self.door.start(self.world).await;
                }
                1 => crash(self.catalog, dead).await,
                _ => crash(self.servers, dead).await,
            }
        }
    }
}

async fn crash(server: &Server, dead: Duration) {
    server.cluster().kill().await.expect("a server that can be killed");
    tokio::time::sleep(dead).await;
    server.cluster().restart().await.expect("a server that starts again");
}
