//! Those who ask for every tenant all the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tenantry_router::Router;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::findings::Findings;
use crate::visit::{Home, leave};

/// Of each tenant.
const CALLERS: usize = 3;
/// Between two requests of one of them, at most.
const PAUSE_MAX_MS: u64 = 40;

/// The callers of a round.
pub(crate) struct Callers {
    stop: CancellationToken,
    outcomes: Outcomes,
    working: JoinSet<()>,
}

/// How many requests ended how.
type Outcomes = Arc<Mutex<BTreeMap<String, u64>>>;

impl Callers {
    pub(crate) fn start(on: &Handle, router: &Router, homes: &Arc<[Home]>, findings: &Findings, seed: u64) -> Self {
        let (stop, outcomes, mut working) = (CancellationToken::new(), Outcomes::default(), JoinSet::new());
        for number in 0..homes.len() * CALLERS {
            let (router, homes, findings) = (router.clone(), Arc::clone(homes), findings.clone());
            let (stop, outcomes) = (stop.clone(), Arc::clone(&outcomes));
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
            let asking = async move {
                let home = &homes[number % homes.len()];
                while !stop.is_cancelled() {
                    let outcome = ask(home, &router, &findings, &mut random).await;
                    *outcomes.lock().unwrap_or_else(PoisonError::into_inner).entry(outcome).or_default() += 1;
                    tokio::time::sleep(Duration::from_millis(random.random_range(0..PAUSE_MAX_MS))).await;
                }
            };
            working.spawn_on(asking, on);
        }
        Self { stop, outcomes, working }
    }

    /// Waits until the last request has ended; says how all of them did.
    pub(crate) async fn stop(mut self) -> String {
        self.stop.cancel();
        while let Some(ended) = self.working.join_next().await {
            ended.expect("a caller that does not panic");
        }
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
        outcomes.join(", ")
    }
}

async fn ask(home: &Home, router: &Router, findings: &Findings, random: &mut StdRng) -> String {
    match home.visit(router, findings).await {
        Ok(client) => {
            leave(client, random).await;
            "answered".to_owned()
        }
        Err(failure) => {
            if !failure.is_outage() {
                findings.add(format!("a request of {} failed: {failure:?}", home.slug));
            }
            failure.kind().to_owned()
        }
    }
}
