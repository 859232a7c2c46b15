//! What tenants cost that nobody asks for.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tenantry_domain::Limits;
use tenantry_router::{Router, RouterConfig};
use tenantry_tests::BareHome;
use tenantry_tests::figures::figure;

const REGISTERED: usize = 100_000;
const USED: usize = 10_000;
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
const WATCHED: Duration = Duration::from_mins(1);

/// Registers many tenants, uses some of them once, and looks at this process after the idle time.
pub(crate) async fn measure() {
    let home = BareHome::start().await;
    let limits = Limits { pool_size: Some(4), ..Limits::default() };
    let routes = (0..REGISTERED).map(|number| home.route(&format!("air-{number}"), limits)).collect();
    let config = RouterConfig { idle_timeout: IDLE_TIMEOUT, ..RouterConfig::default() };
    let builder = Router::builder().fixed(routes, vec![home.cluster_at(home.address())]).config(config);
    let router = builder.build().await.expect("a router");
    let (sockets, tasks) = (open_sockets(), alive_tasks());
    let use_once = async |number: usize| {
        let tenant = router.tenant(format!("air-{number}").as_str()).await.expect("known");
        let client = tenant.client().await.expect("a connection");
        client.query_one("SELECT 1", &[]).await.expect("an answer");
    };
    futures::stream::iter(0..USED).for_each_concurrent(8, use_once).await;
    println!("after {USED} tenants: {} pools, {} sockets more", router.status().pools, open_sockets() - sockets);
    let deadline = Instant::now() + IDLE_TIMEOUT * 3;
    while router.status().pools > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    figure("idle_sockets", f64::from(open_sockets() - sockets), "");
    figure("idle_tasks", f64::from(alive_tasks() - tasks), "");
    let (began, before) = (Instant::now(), cpu_time());
    tokio::time::sleep(WATCHED).await;
    figure("idle_cpu_percent", cpu_time().saturating_sub(before).div_duration_f64(began.elapsed()) * 100.0, "%");
}

fn open_sockets() -> i32 {
    let links = std::fs::read_dir("/proc/self/fd").expect("the list of files").flatten();
    let targets = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count().try_into().expect("few")
}

fn alive_tasks() -> i32 {
    tokio::runtime::Handle::current().metrics().num_alive_tasks().try_into().expect("few")
}

/// The processor time of this process, in the kernel too: of all its threads, in clock ticks of ten milliseconds, or
/// finer where the scheduler counts.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the list of threads").flatten();
    let nanoseconds = tasks.map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanoseconds.sum())
}
