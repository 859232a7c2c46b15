//! A rollout over three hundred tenants while everything that carries it is killed: the command that began it, the workers,
//! and PostgreSQL, both the catalog's and the homes'. At the end nothing was applied twice, nothing was missed, and every
//! home is as one that nobody disturbed.
//!
//! Which is killed when is drawn from a seed, which is printed. The same one again:
//!
//! `TENANTRY_SEED=42 cargo test -p tenantry-tests --test rollout_kills -- --nocapture`

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod state;

use std::io::Write as _;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tenantry_api::{ListQuery, Rollout};
use tenantry_domain::{Isolation, RolloutState};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Program, Serve, World, files};
use tokio::process::Child;

const TENANTS: usize = 300;
/// So many have a database of their own; the others share one.
const DATABASES: usize = 40;
/// Tenants that are made at the same time.
const HANDS: usize = 4;
const WORKERS: usize = 2;
const KILLS: usize = 24;

/// What each file does shows how often it ran.
const NEXT: [(&str, &str); 4] = [
    (
        "V4__runs.sql",
        "CREATE TABLE runs (file text NOT NULL);\nINSERT INTO runs VALUES ('V4');\nALTER TABLE notes ADD COLUMN stars integer;\n",
    ),
    ("V5__count.sql", "INSERT INTO runs VALUES ('V5');\nUPDATE notes SET stars = coalesce(stars, 0) + 1;\n"),
    (
        "V6__index.sql",
        "-- no-transaction\nCREATE INDEX CONCURRENTLY notes_by_stars ON notes (stars);\nCREATE INDEX CONCURRENTLY notes_by_both ON notes (stars, body);\n",
    ),
    ("V7__last.sql", "INSERT INTO runs VALUES ('V7');\nALTER TABLE notes ALTER COLUMN stars SET DEFAULT 0;\n"),
];

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn next() -> files::Files {
    let mut next = files::notes();
    next.extend(files::files(&NEXT));
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_killed_every_home_ends_as_if_nothing_had_been() {
    let seed: u64 = std::env::var("TENANTRY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    say(&format!("rollout kills: TENANTRY_SEED={seed}"));
    let (catalog, homes) = (Server::own().await, Server::own().await);
    let mut world = World::builder().catalog_on(&catalog).homes_on(&homes).start().await;
    make(&world).await;
    world.rest().await;
    let mut workers = Vec::new();
    for _ in 0..WORKERS {
        workers.push(Serve::start(&world).await);
    }
    world.use_door(workers[0].url());
    let set = world.push("next", &next()).await;

    let mut random = StdRng::seed_from_u64(seed);
    let mut command = begin(&world, &set.id.to_string()).await;
    let mut killed = [0_usize; 4];
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(random.random_range(20..900))).await;
        let victim = random.random_range(0..killed.len());
        killed[victim] += 1;
        match victim {
            0 => {
                stop(&mut command).await;
                command = attach(&world);
            }
            1 => {
                let one = workers.swap_remove(random.random_range(0..workers.len()));
                one.kill().await;
                workers.push(Serve::start(&world).await);
                world.use_door(workers[0].url());
            }
            2 => crash(&homes).await,
            _ => crash(&catalog).await,
        }
    }
    stop(&mut command).await;
    let [commands, replicas, of_homes, of_catalog] = killed;
    say(&format!(
        "rollout kills: {commands} commands, {replicas} workers, {of_homes} times the homes' server, {of_catalog} times \
         the catalog's"
    ));
    let ended = settle(&world).await;
    assert_eq!((ended.state, ended.counts.failed), (RolloutState::Succeeded, 0), "TENANTRY_SEED={seed}: {ended:?}");
    assert_eq!(ended.counts.total(), TENANTS as u64, "TENANTRY_SEED={seed}: {ended:?}");
    // Those that are born now get the same files, and nothing comes in between.
    let wire = world.wire();
    for isolation in [Isolation::Database, Isolation::Schema] {
        let body = json!({ "slug": format!("undisturbed-{isolation}"), "isolation": isolation });
        // Nobody is placed on a server that did not answer the last time that somebody looked.
        eventually("the homes' server is found well again", async || {
            wire.post("/v1/tenants?wait=60", &body).await.json["tenant"]["status"] == "active"
        })
        .await;
    }
    state::compare(&world, &homes, seed).await;
    for worker in workers {
        assert!(worker.terminate().await.success());
    }
    // With everything that is on them: nobody waits for three hundred deletions.
    for server in [&catalog, &homes] {
        server.cluster().kill().await.expect("a server that is killed");
    }
}

/// The command that begins the rollout, once it has.
async fn begin(world: &World<'_>, set: &str) -> Child {
    let wish =
        ["migrate", "apply", "--set", set, "--wave", "5", "--wave", "20%", "--wave", "all", "--concurrency", "16"];
    let command = program(world).start(wish);
    eventually("the rollout has begun", async || {
        let list = world.client().list_rollouts(&ListQuery::default()).await.expect("the rollouts");
        list.items
            .first()
            .is_some_and(|rollout| rollout.counts.total() == TENANTS as u64 && rollout.migration_set.to_string() == set)
    })
    .await;
    command
}

/// A command that waits for it again.
fn attach(world: &World<'_>) -> Child {
    program(world).start(["migrate", "watch"])
}

fn program(world: &World<'_>) -> Program {
    Program::new(&world.url(), world.token())
}

/// Kills a command, unless it has given up because the door that it asked was killed.
async fn stop(command: &mut Child) {
    if command.try_wait().expect("a look at the command").is_none() {
        command.kill().await.expect("a command that is killed");
    }
}

async fn crash(server: &Server) {
    server.cluster().kill().await.expect("a server that can be killed");
    server.cluster().restart().await.expect("a server that starts again");
}

/// The rollout at its end.
async fn settle(world: &World<'_>) -> Rollout {
    let mut seen = None;
    eventually("the rollout ends", async || {
        // The catalog was killed a moment ago.
        let Ok(list) = world.client().list_rollouts(&ListQuery::default()).await else { return false };
        seen = list.items.into_iter().next();
        seen.as_ref().is_some_and(|rollout| rollout.state.is_finished())
    })
    .await;
    seen.expect("a rollout")
}

async fn make(world: &World<'_>) {
    let wire = world.wire();
    stream::iter(0..TENANTS)
        .for_each_concurrent(HANDS, async |number| {
            let isolation = if number < DATABASES { Isolation::Database } else { Isolation::Schema };
            let body = json!({ "slug": format!("t{number}"), "isolation": isolation });
            let answer = wire.post("/v1/tenants?wait=60", &body).await;
            assert_eq!(answer.json["tenant"]["status"], "active", "{}", answer.text);
        })
        .await;
}
