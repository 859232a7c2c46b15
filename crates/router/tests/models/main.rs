//! What threads share, under a scheduler that tries interleavings: the very files of the router, compiled once more on top of
//! shuttle's atomics, mutexes and threads.
//!
//! Schedules are drawn from a fixed seed, so a run that passes passes again. shuttle knows one order of all memory
//! accesses: it finds steps that come in the wrong order, not orderings that are too weak for some processor.
//!
//! `cargo test -p tenantry-router --test models [NAME]` runs those whose name contains `NAME`; `TENANTRY_MODEL_SCHEDULES`
//! says how many schedules of each.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "the router uses more of these files")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test that cannot go on fails")]

mod lookups;
mod parking;
mod pausing;
mod sharing;
mod world;

/// The router's own files. Their unit tests are left out, because this target brings its own `main`.
#[path = "../../src"]
mod router {
    pub(crate) mod budget;
    pub(crate) mod pause;
    pub(crate) mod pool {
        pub(crate) mod queue;
        pub(crate) mod returning;
    }
    pub(crate) mod session;
    pub(crate) mod table {
        pub(crate) mod index;
        pub(crate) mod packed;
        pub(crate) mod slots;
        pub(crate) mod terms;
        pub(crate) mod version_lock;
    }
}

/// What they ask of the rest of the crate.
use self::router::{budget, pause, session, table};
use self::world::{connect, pool};

mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread::yield_now;

    #[derive(Debug)]
    pub(crate) struct OutOfTime;

    /// Nobody runs out of time here: whoever would wait for ever is found.
    pub(crate) async fn timeout_at<F: Future>(_: tokio::time::Instant, future: F) -> Result<F::Output, OutOfTime> {
        Ok(future.await)
    }
}

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner};

const SEED: u64 = 0x7e4a_417e;
/// Schedules of each model by each of two schedulers.
const SCHEDULES: usize = 1_000;
/// Preemptions that the second scheduler (Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of
/// Finding Bugs", ASPLOS 2010) places.
const DEPTH: usize = 4;

fn run(scheduler: impl Scheduler + 'static, model: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 512 * 1024;
    config.silence_warnings = true;
    config.max_steps = MaxSteps::FailAfter(100_000);
    Runner::new(scheduler, config).run(model)
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let schedules = std::env::var("TENANTRY_MODEL_SCHEDULES").ok().and_then(|number| number.parse().ok());
    let schedules = schedules.unwrap_or(SCHEDULES);
    let models = [lookups::MODELS, parking::MODELS, pausing::MODELS, sharing::MODELS].concat();
    let models =
        models.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part)));
    let mut passed = 0;
    for (name, model) in models {
        let ran = run(RandomScheduler::new_from_seed(SEED, schedules), model)
            + run(PctScheduler::new_from_seed(SEED, DEPTH, schedules), model);
        println!("model {name} ... ok, {ran} schedules");
        passed += 1;
    }
    println!("\ntest result: ok. {passed} passed; 0 failed");
}
