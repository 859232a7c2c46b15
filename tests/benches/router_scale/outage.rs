//! What tenants notice while parts of the system are killed.

mod line;
mod service;
mod table;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tenantry_testkit::Server;
use tenantry_tests::figures::figure;
use tenantry_tests::{Admin, Door, World};
use tokio::sync::mpsc;

use crate::LOG;
use line::Line;
use service::Service;
use table::Table;

pub(crate) use service::{SERVICE, run as service};

const CLUSTERS: [&str; 3] = ["main", "second", "third"];
/// The one that is killed.
const KILLED: &str = "third";
/// On each cluster.
const TENANTS: usize = 3;
const SERVICES: [&str; 2] = ["one", "two"];
/// How long each part of the show takes.
const PART: Duration = Duration::from_secs(6);

/// Two services ask for the tenants of three clusters; one after the other a cluster, the control plane and, while that is
/// away, a service are killed and started again.
pub(crate) async fn measure() {
    let (main, folder) = (Server::own().await, tempfile::tempdir().expect("a folder"));
    let mut world = World::builder().homes_on(&main).start().await;
    let mut killed = None;
    for name in &CLUSTERS[1..] {
        let cluster = world.add_cluster(name, Admin::Superuser, |_| ()).await;
        if *name == KILLED {
            killed = Some(cluster);
        }
    }
    let killed = killed.expect("one of the clusters");
    let mut tenants = Vec::new();
    for cluster in CLUSTERS {
        for number in 0..TENANTS {
            let on = cluster.parse().expect("a cluster");
            tenants.push(world.tenant(&format!("{cluster}-{number}")).with(|wish| wish.cluster = Some(on)).await);
        }
    }
    let mut door = Door::open(&mut world, &[LOG]).await;
    let (saying, heard) = mpsc::unbounded_channel();
    let slugs: Vec<_> = tenants.iter().map(|tenant| tenant.slug.as_str()).collect();
    let (url, token) = (door.url(), world.token().expose().to_owned());
    let start = |name: &str| {
        let wish = json!({
            "name": name, "url": url, "token": token, "tenants": slugs, "snapshot": folder.path().join(name),
        });
        Service::start(&wish, saying.clone())
    };
    let one = start(SERVICES[0]);
    let mut two = start(SERVICES[1]);
    let mut show = Show { table: Table::default(), heard };
    show.wait_for(&SERVICES).await;

    show.go_on("all is well").await;
    world.server_of(&killed).cluster().kill().await.expect("a cluster that is killed");
    let down = show.go_on(&format!("cluster `{KILLED}` is killed")).await;
    world.server_of(&killed).cluster().restart().await.expect("a cluster that starts");
    let up = show.go_on(&format!("cluster `{KILLED}` is there again")).await;
    door.kill().await;
    let dead = show.go_on("the control plane is killed").await;
    two.kill().await;
    show.go_on("service `two` is killed, too").await;
    two = start(SERVICES[1]);
    show.wait_for(&SERVICES).await;
    show.go_on("service `two` starts again from its snapshot").await;
    door.start(&world).await;
    show.go_on("the control plane is there again").await;
    drop((one, two));

    show.table.summarize();
    let (first, last) = show.table.errors_of(KILLED).expect("nobody noticed that a cluster was killed");
    figure("outage_down_s", seconds(down, up), "s");
    figure("outage_errors_s", seconds(first, last), "s");
    figure("outage_back_s", seconds(up, last), "s");
    for cluster in &CLUSTERS[..2] {
        assert_eq!(show.table.errors_of(cluster), None, "`{cluster}` was there all the time");
    }
    // A part begins right after what is killed or started in it.
    assert!(down.saturating_sub(1_000) <= first, "errors before the cluster was killed");
    assert!(last < dead, "errors long after the cluster was there again");
    world.end().await;
    door.close().await;
}

struct Show {
    table: Table,
    heard: mpsc::UnboundedReceiver<Line>,
}

impl Show {
    /// Lets a part of the show go by; says when it began.
    async fn go_on(&mut self, what: &str) -> u64 {
        let began = now_ms();
        self.table.begin(what, began);
        let end = tokio::time::Instant::now() + PART;
        while let Ok(line) = tokio::time::timeout_at(end, self.heard.recv()).await {
            self.table.add(&line.expect("somebody who could say something"));
        }
        began
    }

    /// Waits until services are heard of, from now on.
    async fn wait_for(&mut self, services: &[&str]) {
        let from = now_ms() / 1_000;
        let mut silent = services.to_vec();
        while !silent.is_empty() {
            let line = tokio::time::timeout(Duration::from_mins(1), self.heard.recv()).await;
            let line = line.expect("a service that serves").expect("somebody who could say something");
            if line.second > from {
                silent.retain(|name| *name != line.service);
            }
            self.table.add(&line);
        }
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    now.as_millis().try_into().expect("a clock before the sun burns out")
}

/// From one point in time to a later one, both in milliseconds.
fn seconds(from: u64, to: u64) -> f64 {
    Duration::from_millis(to.saturating_sub(from)).as_secs_f64()
}
