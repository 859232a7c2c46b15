//! The tenants that every side migrates.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use serde_json::json;
use tenantry_api::{Concurrency, CreateRollout, Tenant};
use tenantry_domain::{Isolation, RolloutState};
use tenantry_tests::files::{self, Files};
use tenantry_tests::{World, figures::figure};
use tokio_postgres::{Client, Config};
use uuid::Uuid;

use crate::CONCURRENCY;

/// How many tenants are made at the same time.
const HANDS: usize = 4;

/// One tenant's home, and the way into it for those who come without a control plane.
pub(crate) struct Home {
    /// As the home's migrator.
    pub(crate) login: Config,
    pub(crate) database: String,
    pub(crate) schema: String,
    pub(crate) owner: String,
}

pub(crate) struct Fleet<'w> {
    world: &'w World<'w>,
    files: Files,
    pub(crate) homes: Vec<Home>,
    pub(crate) isolation: Isolation,
}

impl<'w> Fleet<'w> {
    pub(crate) async fn of(world: &'w World<'w>, isolation: Isolation, number: usize) -> Self {
        let began = Instant::now();
        let wire = world.wire();
        let make = async |number: usize| {
            let slug = format!("{isolation}-{number}");
            let body = json!({ "slug": slug, "isolation": isolation });
            let answer = wire.post("/v1/tenants?wait=60", &body).await;
            assert_eq!(answer.json["tenant"]["status"], "active", "{}", answer.text);
            let tenant: Tenant = serde_json::from_value(answer.json["tenant"].clone()).expect("a tenant");
            home(world, &tenant).await
        };
        let homes: Vec<Home> = stream::iter(0..number).map(make).buffer_unordered(HANDS).collect().await;
        figure(&format!("{isolation}_fleet_made_s"), began.elapsed().as_secs_f64(), "s");
        Self { world, files: files::notes(), homes, isolation }
    }

    /// A rollout of one more migration, from the request for it to its end, over the API.
    pub(crate) async fn roll_out(&mut self) -> Duration {
        let version = self.files.len() + 1;
        self.files.push((format!("V{version}__step.sql"), table("step", version)));
        let set = self.world.push("fleet", &self.files).await;
        let mut create = CreateRollout::at_once(set.id);
        create.concurrency = Concurrency::new(CONCURRENCY as u64).ok();
        let began = Instant::now();
        let answer = self.world.wire().post("/v1/rollouts?wait=60", &json!(create)).await;
        let took = began.elapsed();
        let rollout: tenantry_api::Rollout = serde_json::from_value(answer.json).expect("a rollout");
        assert_eq!(rollout.state, RolloutState::Succeeded, "{rollout:?}");
        assert_eq!(rollout.counts.applied, self.homes.len() as u64, "{rollout:?}");
        took
    }

    /// A connection of the cluster's administrator to one of its databases.
    pub(crate) async fn root(&self, database: &str) -> Client {
        self.world.root(self.world.main_cluster(), database).await
    }
}

/// What every side makes.
pub(crate) fn table(name: &str, number: usize) -> String {
    format!("CREATE TABLE {name}_{number} (id bigint PRIMARY KEY, note text NOT NULL, made_at timestamptz);\n")
}

async fn home(world: &World<'_>, tenant: &Tenant) -> Home {
    let login = world.login(tenant).await;
    let role = login.get_user().expect("a role").to_owned();
    let id = role.strip_prefix("h_").and_then(|role| role.strip_suffix("_a")).expect("a login's name");
    let id = tenantry_domain::HomeId::new(Uuid::parse_str(id).expect("a home's id"));
    let record = world.store().home(id).await.expect("the home's record");
    let names = record.home.names();
    let mut login = login;
    login.user(names.migrator.as_str()).password(record.secrets.migrator.expose());
    Home {
        login,
        database: record.home.database.as_str().to_owned(),
        schema: record.home.schema.as_str().to_owned(),
        owner: names.owner.as_str().to_owned(),
    }
}
