//! A service in a process of its own: a router, and callers who ask for every tenant all the time.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tenantry_router::{Router, RouterConfig, Secret, SnapshotKey};
use tenantry_tests::Failure;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, mpsc};

use super::line::Line;
use super::now_ms;

/// The part of the benchmark that such a process runs.
pub(crate) const SERVICE: &str = "outage-service";
/// What it needs to know, as JSON in its environment.
const WISH: &str = "OUTAGE_SERVICE";
/// Each tenant is asked for so often, whatever becomes of earlier requests.
const EVERY: Duration = Duration::from_millis(20);
/// Requests of one tenant that may be under way; one more counts as an error.
const UNDER_WAY_MAX: usize = 64;
/// The file that it opens ends with the benchmark.
const SNAPSHOT_KEY: &str = "7Xk2yQm0cQ1v0o8m3b6nq1w5tq4yX2dJ8s0aG9hLr3E=";
const QUERY: &str = "SELECT body FROM notes WHERE id = 1";

/// Such a process. Killed when it is dropped.
pub(super) struct Service(Child);

impl Service {
    /// Starts it; what it says goes on.
    pub(super) fn start(wish: &Value, saying: mpsc::UnboundedSender<Line>) -> Self {
        let program = std::env::current_exe().expect("the path of the benchmark");
        let mut command = Command::new(program);
        command.arg(SERVICE).env(WISH, wish.to_string()).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("a process that starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if saying.send(Line::of_json(&line)).is_err() {
                    break;
                }
            }
        });
        Self(child)
    }

    /// `kill -9`.
    pub(super) async fn kill(&mut self) {
        self.0.kill().await.expect("a process that can be killed");
    }
}

/// What the process does, until it is killed.
pub(crate) async fn run() {
    tenantry_runtime::install_crypto();
    let wish = std::env::var(WISH).expect("what the service needs to know");
    let wish: Value = serde_json::from_str(&wish).expect("JSON");
    let text = |field: &str| wish[field].as_str().expect("a text").to_owned();
    let key = SnapshotKey::parse(&Secret::new(SNAPSHOT_KEY.to_owned())).expect("a key");
    let config = RouterConfig { snapshot_interval: Duration::from_secs(1), ..RouterConfig::default() };
    let builder = Router::builder().control_plane(text("url"), Secret::new(text("token"))).name(text("name"));
    let router = builder.snapshot_file(text("snapshot"), key).config(config).build().await.expect("a router");
    let tenants = wish["tenants"].as_array().expect("a list");
    let tenants: Vec<String> = tenants.iter().map(|tenant| tenant.as_str().expect("a slug").to_owned()).collect();
    // A service that has just started opens its connections before it lets everybody in.
    for tenant in &tenants {
        ask(&router, tenant).await.expect("an answer");
    }
    let mut lines = Vec::new();
    for tenant in tenants {
        let line = Arc::new(Mutex::new(Line::default()));
        tokio::spawn(ask_all_the_time(router.clone(), tenant.clone(), Arc::clone(&line)));
        lines.push((tenant, line));
    }
    loop {
        let now = now_ms();
        tokio::time::sleep(Duration::from_millis(1_000 - now % 1_000)).await;
        for (tenant, line) in &lines {
            let said = std::mem::take(&mut *line.lock().unwrap_or_else(PoisonError::into_inner));
            let said = Line { second: now / 1_000, service: text("name"), tenant: tenant.clone(), ..said };
            println!("{}", said.to_json());
        }
    }
}

async fn ask_all_the_time(router: Router, tenant: String, line: Arc<Mutex<Line>>) {
    let (places, tenant) = (Arc::new(Semaphore::new(UNDER_WAY_MAX)), Arc::<str>::from(tenant));
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            line.lock().unwrap_or_else(PoisonError::into_inner).failed("too_many_under_way", now_ms());
            continue;
        };
        let (router, tenant, line) = (router.clone(), Arc::clone(&tenant), Arc::clone(&line));
        tokio::spawn(async move {
            let began = Instant::now();
            let outcome = ask(&router, &tenant).await;
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(()) => line.answered(began.elapsed().as_secs_f64() * 1e3),
                Err(failure) => line.failed(failure.kind(), now_ms()),
            }
            drop(place);
        });
    }
}

async fn ask(router: &Router, tenant: &str) -> Result<(), Failure> {
    let client = router.tenant(tenant).await?.client().await?;
    let statement = client.prepare_cached(QUERY).await?;
    client.query_one(&statement, &[]).await?;
    Ok(())
}
