//! What one tenant's callers wait while others do their worst.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tenantry_domain::Limits;
use tenantry_router::{Router, RouterConfig, Tenant};
use tenantry_testkit::BreakableSocket;
use tenantry_tests::BareHome;
use tenantry_tests::figures::{figure, percentile};
use tokio_util::sync::CancellationToken;

/// Pairs of rounds; each round is so long.
const PAIRS: usize = 20;
const ROUND: Duration = Duration::from_secs(2);
/// The tenant that is watched asks so often.
const EVERY: Duration = Duration::from_millis(4);
/// What the other tenant may ask in a second.
const SHARE: u32 = 100;
/// How much more it asks in a noisy round.
const TIMES: u32 = 100;
/// Tenants of a cluster that dies, and what each asks in a second.
const LOST: u32 = 50;
const SHARE_OF_LOST: u32 = 10;
const QUERY: &str = "SELECT status FROM flight WHERE id = $1";

/// One tenant at 100 times its share, and what another's p99 makes of it.
pub(crate) async fn noisy_neighbour() {
    let home = BareHome::start().await;
    let limited = Limits { pool_size: Some(4), requests_per_second: Some(SHARE), ..Limits::default() };
    let routes =
        vec![home.route("quiet", Limits { pool_size: Some(4), ..Limits::default() }), home.route("noisy", limited)];
    let builder = Router::builder().fixed(routes, vec![home.cluster_at(home.address())]);
    let router = builder.build().await.expect("a router");
    let (quiet, noisy) = (find(&router, "quiet").await, find(&router, "noisy").await);
    let asks = |per_second| {
        let noisy = noisy.clone();
        move |stop| crowd(vec![noisy.clone()], per_second, stop)
    };
    compare("noisy_neighbour", &quiet, asks(SHARE), asks(SHARE * TIMES)).await;
}

/// A cluster that takes connections and says nothing, and what a tenant on another one notices of those who ask for it.
/// When all is calm nobody does: queries that a living cluster answers would cost more than those that a dead one does not.
pub(crate) async fn dead_cluster() {
    let (alive, dead) = (BareHome::start().await, BareHome::start().await);
    let socket = BreakableSocket::before(dead.address()).await;
    let limits = Limits { pool_size: Some(4), ..Limits::default() };
    let mut routes = vec![alive.route("quiet", limits)];
    routes.extend((0..LOST).map(|number| dead.route(&format!("lost-{number}"), limits)));
    let clusters = vec![alive.cluster_at(alive.address()), dead.cluster_at(socket.address())];
    let config = RouterConfig { connect_timeout: Duration::from_millis(500), ..RouterConfig::default() };
    let router = Router::builder().fixed(routes, clusters).config(config).build().await.expect("a router");
    let quiet = find(&router, "quiet").await;
    let lost = join_all((0..LOST).map(async |number| find(&router, &format!("lost-{number}")).await)).await;
    let asks = |per_second| {
        let lost = lost.clone();
        move |stop| crowd(lost.clone(), per_second, stop)
    };
    for tenant in &lost {
        ask(tenant).await.expect("an answer before it dies");
    }
    socket.hold();
    compare("dead_cluster", &quiet, asks(0), asks(LOST * SHARE_OF_LOST)).await;
}

async fn find(router: &Router, slug: &str) -> Tenant {
    router.tenant(slug).await.expect("known")
}

/// The p99 of a tenant's requests in rounds of one kind and the other, in turn: the median of the rounds of a kind, which
/// what else goes on on a machine spoils some of.
async fn compare<C, S>(
    name: &str,
    watched: &Tenant,
    calm: impl Fn(CancellationToken) -> C,
    storm: impl Fn(CancellationToken) -> S,
) where
    C: Future<Output = ()> + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let (mut in_calm, mut in_storm) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        // What the storm left behind, such as connections that are opened anew, is no part of the calm.
        round(watched, &calm).await;
        in_calm.push(percentile(&round(watched, &calm).await, 99));
        in_storm.push(percentile(&round(watched, &storm).await, 99));
    }
    let (in_calm, in_storm) = (percentile(&in_calm, 50), percentile(&in_storm, 50));
    figure(&format!("{name}_calm_p99_ms"), in_calm, "ms");
    figure(&format!("{name}_p99_ms"), in_storm, "ms");
    figure(&format!("{name}_p99_ratio"), in_storm / in_calm, "x");
}

/// Milliseconds that each request of the watched tenant took while something else went on, in a task of its own as other
/// requests of a service are: who asks within the watched one's task is in the way of its answers, whatever the router does.
async fn round<O>(watched: &Tenant, meanwhile: &impl Fn(CancellationToken) -> O) -> Vec<f64>
where
    O: Future<Output = ()> + Send + 'static,
{
    let stop = CancellationToken::new();
    let others = tokio::spawn(meanwhile(stop.clone()));
    let watched = watched.clone();
    let asking = async move {
        let mut took = Vec::new();
        let began = Instant::now();
        let mut ticks = tokio::time::interval(EVERY);
        while began.elapsed() < ROUND {
            ticks.tick().await;
            let asked = Instant::now();
            ask(&watched).await.expect("an answer");
            took.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        took
    };
    let took = tokio::spawn(asking).await.expect("no panic");
    stop.cancel();
    others.await.expect("no panic");
    took
}

async fn ask(tenant: &Tenant) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let _permit = tenant.admit().await?;
    let client = tenant.client().await?;
    let statement = client.prepare_cached(QUERY).await?;
    client.query_one(&statement, &[&1_i64]).await?;
    Ok(())
}

/// Requests at a rate, of one tenant after the other, whatever comes of them, until told to stop. They come as evenly as
/// the timer allows: a service's callers do not wait for each other to ask together.
async fn crowd(tenants: Vec<Tenant>, per_second: u32, stop: CancellationToken) {
    const TICK: Duration = Duration::from_millis(1);
    let mut ticks = tokio::time::interval(TICK);
    let (began, mut asked, mut turn) = (Instant::now(), 0_u64, tenants.iter().cycle());
    let mut running = futures::stream::FuturesUnordered::new();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let due = began.elapsed().mul_f64(per_second.into()).as_secs();
        for tenant in turn.by_ref().take(usize::try_from(due - asked).unwrap_or_default()) {
            running.push(ask(tenant));
        }
        asked = due;
        // What was refused ended at once; what was let in goes on beside.
        while let Some(Some(_)) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut running)) {}
    }
    // Whoever still waits goes away.
}
