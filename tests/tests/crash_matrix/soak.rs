//! The long one: tenants come and go while a replica is killed each second. Only where `TENANTRY_SOAK` says for how many
//! seconds:
//!
//! `TENANTRY_SOAK=120 cargo test -p tenantry-tests --test crash_matrix soak -- --nocapture`

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use tenantry_api::{Client, ClientConfig, CreateTenant, DeleteTenant, TenantRef};
use tenantry_domain::{Isolation, Secret, Slug, TenantStatus};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Program, Serve, World};

use super::schedules::soak;
use super::within_one_process::say;

const REPLICAS: usize = 3;
const AT_ONCE: usize = 8;
/// Tenants of one round; then the next begins.
const TENANTS: usize = 500;
/// The longest that one tenant may take to come or to go.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where the doors are now.
#[derive(Clone)]
struct Doors {
    urls: Arc<Mutex<Vec<String>>>,
    token: Secret,
}

impl Doors {
    fn set(&self, serves: &[Serve]) {
        let urls = serves.iter().map(|serve| serve.url().to_owned()).collect();
        *self.urls.lock().unwrap_or_else(PoisonError::into_inner) = urls;
    }

    /// Any door; perhaps one whose replica was just killed.
    fn any(&self) -> Client {
        let urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        let url = &urls[rand::rng().random_range(0..urls.len())];
        Client::new(ClientConfig::new(url, Some(self.token.clone())).expect("a URL")).expect("a client")
    }

    /// Asks for something over and over until the tenant is what it should be.
    async fn bring(&self, slug: &Slug, wanted: TenantStatus, ask: impl AsyncFn(&Client, Option<TenantStatus>)) {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = None;
        while Instant::now() < deadline {
            let client = self.any();
            let shown = client.show_tenant(&TenantRef::Slug(slug.clone())).await;
            match shown {
                Ok(shown) if shown.value.status == wanted => return,
                Ok(shown) => {
                    seen = Some(shown.value.status);
                    ask(&client, seen).await;
                }
                Err(error) if error.code().is_some_and(|code| code.as_str() == "not_found") => ask(&client, None).await,
                // Its replica is dead; another door answers.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        panic!("{slug} does not become {wanted}: {seen:?}");
    }
}

/// A tenant comes and goes, whatever becomes of single calls.
async fn live(doors: &Doors, slug: Slug, isolation: Isolation) {
    doors
        .bring(&slug, TenantStatus::Active, async |client, status| {
            if status.is_none() {
                let create = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(slug.clone()) };
                let _ = client.create_tenant(&create, None).await;
            }
        })
        .await;
    doors
        .bring(&slug, TenantStatus::Deleted, async |client, status| {
            if status == Some(TenantStatus::Active) {
                let _ = client.delete_tenant(&TenantRef::Slug(slug.clone()), &DeleteTenant::at_once()).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_tenants_come_and_go_while_replicas_are_killed() {
    let Some(time) = soak() else {
        say("soak: skipped; TENANTRY_SOAK=120 runs it for two minutes");
        return;
    };
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    world.rest().await;
    let mut serves = Vec::new();
    for _ in 0..REPLICAS {
        serves.push(Serve::start(&world).await);
    }
    let doors = Doors { urls: Arc::default(), token: world.token().clone() };
    doors.set(&serves);
    let deadline = Instant::now() + time;
    let (begun, lived) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let drive = async || {
        while Instant::now() < deadline {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            let slug = format!("r{}-t{}", number / TENANTS, number % TENANTS);
            let isolation = if number % 2 == 0 { Isolation::Database } else { Isolation::Schema };
            live(&doors, Slug::parse(&slug).expect("a slug"), isolation).await;
            lived.fetch_add(1, Ordering::Relaxed);
        }
    };
    let kill = async {
        let mut kills = 0;
        while Instant::now() < deadline {
            let next = Instant::now() + Duration::from_secs(1);
            let victim = serves.swap_remove(rand::rng().random_range(0..serves.len()));
            victim.kill().await;
            kills += 1;
            serves.push(Serve::start(&world).await);
            doors.set(&serves);
            tokio::time::sleep_until(next.into()).await;
        }
        kills
    };
    let (_, kills) = futures::future::join(futures::future::join_all((0..AT_ONCE).map(|_| drive())), kill).await;
    world.use_door(serves[0].url());
    let program = Program::new(serves[0].url(), world.token());
    let mut said = String::new();
    // The last replicas that died may have left a pass of upkeep that the next one makes.
    eventually("the doctor finds nothing", async || {
        let ended = program.run(["doctor"]).await;
        said = format!("{}{}", ended.stdout, ended.stderr);
        ended.code() == Some(0)
    })
    .await;
    let lived = lived.load(Ordering::Relaxed);
    say(&format!("soak: {lived} tenants came and went, {kills} replicas were killed, in {time:?}\n{said}"));
    world.end().await;
    for prefix in ["h_", "s_", "t_"] {
        assert_eq!(homes.databases_like(prefix).await, Vec::<String>::new());
        assert_eq!(homes.roles_like(prefix).await, Vec::<String>::new());
    }
    for serve in serves {
        assert!(serve.terminate().await.success());
    }
}
