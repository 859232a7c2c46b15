//! What the router comes to once nobody asks any more.

use tenantry_router::Router;
use tenantry_testkit::eventually;
use tokio::runtime::Handle;

use crate::findings::Findings;
use crate::say;
use crate::visit::Home;

/// Tasks that come and go with the router's calls of the control plane, however many tenants there are.
const TASKS_OF_CALLS: usize = 4;
/// Rounds in which memory may still grow to what the work takes.
const ROUNDS_OF_GROWTH: usize = 2;
/// What it may be above that afterwards: allocators keep what they were once given in pieces.
const MEMORY_SLACK_MB: f64 = 32.0;

/// Compares the router with itself before the first round.
pub(crate) struct Rest {
    router: Router,
    on: Handle,
    tasks: usize,
    memory_mb: Vec<f64>,
}

impl Rest {
    pub(crate) fn begin(router: &Router, on: &Handle) -> Self {
        let tasks = on.metrics().num_alive_tasks();
        Self { router: router.clone(), on: on.clone(), tasks, memory_mb: Vec::new() }
    }

    /// Waits until a tenant is served again.
    pub(crate) async fn serves(&self, home: &Home, findings: &Findings) {
        let what = format!("{} is served again", home.slug);
        eventually(&what, async || home.visit(&self.router, findings).await.is_ok()).await;
    }

    /// Waits until no tenant costs anything, and looks at the memory of this process.
    pub(crate) async fn take(&mut self, findings: &Findings) {
        eventually("all pools end", async || self.router.status().pools == 0).await;
        let most = self.tasks + TASKS_OF_CALLS;
        eventually("all tasks of tenants end", async || self.on.metrics().num_alive_tasks() <= most).await;
        let (tasks, memory_mb) = (self.on.metrics().num_alive_tasks(), memory_mb());
        say(&format!("router soak: at rest {tasks} tasks, {} before the first round; {memory_mb:.0} MB", self.tasks));
        let rounds = self.memory_mb.iter().take(ROUNDS_OF_GROWTH);
        let grown = rounds.copied().fold(f64::NAN, f64::max);
        if self.memory_mb.len() >= ROUNDS_OF_GROWTH && memory_mb > grown + MEMORY_SLACK_MB {
            findings.add(format!("{memory_mb:.0} MB of memory are in use; after the first rounds it was {grown:.0}"));
        }
        self.memory_mb.push(memory_mb);
    }
}

/// Of this process, in megabytes.
fn memory_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the status of this process");
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kilobytes.and_then(|text| text.trim().parse::<f64>().ok()).expect("a number of kilobytes") / 1024.0
}
