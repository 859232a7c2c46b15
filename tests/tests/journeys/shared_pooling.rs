//! Tenants that share a database may have their connections pooled together: one login, which becomes each tenant's role.

use serde_json::json;
use tenantry_api::{ResumeTenant, Route, SuspendTenant, Tenant, WaitSeconds};
use tenantry_control::reconcilers;
use tenantry_domain::{Isolation, Limits, Pooling};
use tenantry_router::{Router, RouterError};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Admin, HomeSession, World};
use tokio_postgres::Config;

fn with_shared_pooling() -> Limits {
    Limits { shared_pooling: Some(true), ..Limits::default() }
}

async fn tenant(world: &World<'_>, slug: &str, isolation: Isolation, limits: Limits) -> Tenant {
    world.tenant(slug).isolation(isolation).with(|create| create.overrides = limits.into()).await
}

async fn becomes(world: &World<'_>, tenant: &Tenant, pooling: Pooling) -> Route {
    let mut route = world.route(tenant).await;
    eventually(&format!("{} is pooled as {pooling}", tenant.slug), async || {
        route = world.route(tenant).await;
        route.pooling == pooling
    })
    .await;
    route
}

/// How the pool logs in.
async fn login(world: &World<'_>, tenant: &Tenant, route: &Route) -> Config {
    let shared = route.shared_credential.clone().expect("a shared credential");
    let mut config = world.login(tenant).await;
    config.user(shared.role.as_str()).password(shared.password.expect("a password").as_secret().expose());
    config
}

/// What a router does at each checkout.
fn assume(route: &Route) -> String {
    let role = route.app_role.as_ref().expect("a role");
    format!("SET ROLE \"{role}\"; SELECT tenantry.attach('{}', {})", route.tenant, route.generation)
}

/// The role of a tenant that the pool becomes, whether it may now or not.
fn app_role(route: &Route) -> String {
    let own = route.role.as_ref().expect("a role").as_str();
    format!("{}app", own.trim_end_matches(['a', 'b']))
}

async fn override_pooling(world: &World<'_>, tenant: &Tenant, value: &serde_json::Value) {
    let patch = json!({ "overrides": { "shared_pooling": value } });
    world.wire().patch(&format!("/v1/tenants/{}", tenant.id), &patch).await.ok();
}

/// Whether the pool's role is to be let into the tenant's home, and whether its route says so.
async fn recorded(world: &World<'_>, tenant: &Tenant) -> (bool, bool) {
    let sql = "SELECT pool_member, is_pooled FROM home WHERE tenant = $1";
    let row = world.catalog_client().await.query_one(sql, &[&tenant.id.as_uuid()]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn suspend(world: &World<'_>, tenant: &Tenant) {
    world.client().suspend_tenant(&tenant.id.into(), &SuspendTenant::default(), wait()).await.unwrap();
}

async fn resume(world: &World<'_>, tenant: &Tenant) {
    world.client().resume_tenant(&tenant.id.into(), &ResumeTenant::default(), wait()).await.unwrap();
}

/// Whether the shared login has its own settings, becomes these tenants' roles and none of those.
async fn is_right(login: &Config, inside: &[&Route], outside: &[String]) -> Result<bool, tokio_postgres::Error> {
    let session = HomeSession::log_in(login).await?;
    let timeout: String = session.query_one("SHOW statement_timeout", &[]).await?.get(0);
    for route in inside {
        session.batch_execute(&assume(route)).await?;
        session.batch_execute("RESET ROLE").await?;
    }
    let mut is_right = timeout != "7s";
    for role in outside {
        is_right &= session.batch_execute(&format!("SET ROLE \"{role}\"")).await.is_err();
    }
    Ok(is_right)
}

/// Has somebody look soon at what changed.
async fn poke(world: &World<'_>, reconciler: &str) {
    reconcilers::poke(world.replicas()[0].control(), reconciler).await.unwrap();
}

fn wait() -> Option<WaitSeconds> {
    WaitSeconds::new(60).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_tenant_is_reached_by_the_shared_login_and_others_are_not() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let pooled = tenant(&world, "pooled", Isolation::Schema, with_shared_pooling()).await;
        let too = tenant(&world, "too", Isolation::Schema, with_shared_pooling()).await;
        let alone = tenant(&world, "alone", Isolation::Schema, Limits::default()).await;
        let apart = tenant(&world, "apart", Isolation::Database, with_shared_pooling()).await;
        let route = becomes(&world, &pooled, Pooling::Shared).await;
        let others = becomes(&world, &too, Pooling::Shared).await;
        assert_eq!(route.shared_credential, others.shared_credential, "one login for both");
        assert_ne!(route.credential, others.credential, "and one of its own for each");
        let (alone, apart) = (world.route(&alone).await, world.route(&apart).await);
        for route in [&alone, &apart] {
            assert_eq!((route.pooling, &route.shared_credential, &route.app_role), (Pooling::Own, &None, &None));
        }
        let session = HomeSession::log_in(&login(&world, &pooled, &route).await).await.unwrap();
        let schema = |route: &Route| route.schema.clone().unwrap();
        // By itself it may do nothing.
        let peek = format!("SELECT * FROM {}.flight", schema(&route));
        assert!(session.batch_execute(&peek).await.is_err());
        assert!(session.batch_execute("SELECT * FROM tenantry.stamp").await.is_err());
        for route in [&route, &others] {
            session.batch_execute(&assume(route)).await.unwrap();
            let row = session.query_one("SELECT current_user::text, current_schema()::text", &[]).await.unwrap();
            let seen: (String, String) = (row.get(0), row.get(1));
            assert_eq!(seen, (route.app_role.clone().unwrap().to_string(), schema(route).to_string()));
            session.batch_execute("RESET ROLE").await.unwrap();
        }
        // Another's placement is not reached, nor one who did not ask for it.
        let foreign = assume(&route).replace(&route.tenant.to_string(), &others.tenant.to_string());
        assert!(session.batch_execute(&foreign).await.is_err());
        session.batch_execute("RESET ROLE").await.unwrap();
        assert!(session.batch_execute(&format!("SET ROLE \"{}\"", app_role(&alone))).await.is_err());
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_a_pooled_tenant_out_recycles_the_pool_and_lets_it_in_again() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let one = tenant(&world, "one", Isolation::Schema, with_shared_pooling()).await;
        let other = tenant(&world, "other", Isolation::Schema, with_shared_pooling()).await;
        let route = becomes(&world, &one, Pooling::Shared).await;
        let others = becomes(&world, &other, Pooling::Shared).await;
        let login = login(&world, &one, &route).await;
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&route)).await.unwrap();

        suspend(&world, &one).await;
        assert!(session.batch_execute("SELECT 1").await.is_err(), "its session has ended");
        let session = HomeSession::log_in(&login).await.unwrap();
        let refused = session.batch_execute(&assume(&route)).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{refused:?}");
        session.batch_execute(&assume(&others)).await.unwrap();

        resume(&world, &one).await;
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&becomes(&world, &one, Pooling::Shared).await)).await.unwrap();

        // Taken back, by the same way as given.
        override_pooling(&world, &one, &json!(null)).await;
        let own = becomes(&world, &one, Pooling::Own).await;
        assert_eq!(own.shared_credential, None);
        eventually("the pool is shut out", async || {
            let session = HomeSession::log_in(&login).await.unwrap();
            session.batch_execute(&assume(&route)).await.is_err()
        })
        .await;
        world.connect(&world.show(&one).await).await;
        becomes(&world, &other, Pooling::Shared).await;
        world.delete(&other).await;
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_does_to_the_shared_login_does_not_last() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let one = tenant(&world, "one", Isolation::Schema, with_shared_pooling()).await;
        let other = tenant(&world, "other", Isolation::Schema, with_shared_pooling()).await;
        let suspended = tenant(&world, "suspended", Isolation::Schema, with_shared_pooling()).await;
        let alone = tenant(&world, "alone", Isolation::Schema, Limits::default()).await;
        let route = becomes(&world, &one, Pooling::Shared).await;
        let others = becomes(&world, &other, Pooling::Shared).await;
        becomes(&world, &suspended, Pooling::Shared).await;
        let outside = [app_role(&world.route(&suspended).await), app_role(&world.route(&alone).await)];
        suspend(&world, &suspended).await;
        let login = login(&world, &one, &route).await;
        let pool = login.get_user().unwrap();
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&route)).await.unwrap();
        for statement in [
            "RESET ROLE",
            "ALTER ROLE CURRENT_USER SET statement_timeout = '7s'",
            "ALTER ROLE CURRENT_USER PASSWORD 'mine'",
        ] {
            session.run(statement).await;
        }
        let root = world.root(world.main_cluster(), "postgres").await;
        root.batch_execute(&format!(
            "ALTER ROLE \"{pool}\" CREATEDB; REVOKE \"{}\" FROM \"{pool}\"",
            app_role(&others)
        ))
        .await
        .unwrap();
        for role in &outside {
            root.batch_execute(&format!("GRANT \"{role}\" TO \"{pool}\"")).await.unwrap();
        }
        poke(&world, "role_drift").await;
        let attributes = format!("SELECT rolcreatedb FROM pg_roles WHERE rolname = '{pool}'");
        eventually("the shared login is as it was", async || {
            let may_create: bool = root.query_one(&attributes, &[]).await.unwrap().get(0);
            !may_create && is_right(&login, &[&route, &others], &outside).await.unwrap_or(false)
        })
        .await;
        assert_eq!(recorded(&world, &suspended).await, (true, true), "it comes back with its resumption");
        resume(&world, &suspended).await;
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&becomes(&world, &suspended, Pooling::Shared).await)).await.unwrap();
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_says_that_connections_are_pooled_is_followed() {
    let world = World::start().await;
    let plan = json!({ "name": "crowd", "isolation": "schema", "limits": { "shared_pooling": true } });
    world.wire().post("/v1/plans", &plan).await.ok();
    let own = world.tenant("own").isolation(Isolation::Schema).plan("developer").await;
    let crowded = world.tenant("crowded").plan("crowd").await;
    let resting = world.tenant("resting").plan("crowd").await;
    becomes(&world, &crowded, Pooling::Shared).await;
    becomes(&world, &resting, Pooling::Shared).await;
    assert_eq!(world.route(&own).await.pooling, Pooling::Own);
    // The tenant's plan.
    world.wire().patch("/v1/tenants/own", &json!({ "plan": "crowd" })).await.ok();
    becomes(&world, &own, Pooling::Shared).await;
    // The plan's limits, which an override is above; a suspended tenant is taken out at once.
    override_pooling(&world, &crowded, &json!(true)).await;
    suspend(&world, &resting).await;
    world.wire().patch("/v1/plans/crowd", &json!({ "limits": { "shared_pooling": null } })).await.ok();
    becomes(&world, &own, Pooling::Own).await;
    eventually("nobody lets the suspended one in again", async || recorded(&world, &resting).await == (false, false))
        .await;
    becomes(&world, &crowded, Pooling::Shared).await;
    override_pooling(&world, &crowded, &json!(false)).await;
    becomes(&world, &crowded, Pooling::Own).await;
    resume(&world, &resting).await;
    assert_eq!((world.route(&resting).await.pooling, recorded(&world, &resting).await), (Pooling::Own, (false, false)));
    world.connect(&world.show(&resting).await).await;

    // What was said while it could not be followed.
    suspend(&world, &resting).await;
    override_pooling(&world, &resting, &json!(true)).await;
    poke(&world, reconcilers::ROLE_CHANGES).await;
    resume(&world, &resting).await;
    poke(&world, reconcilers::ROLE_CHANGES).await;
    becomes(&world, &resting, Pooling::Shared).await;
    world.wire().patch("/v1/plans/crowd", &json!({ "limits": { "shared_pooling": true } })).await.ok();
    becomes(&world, &own, Pooling::Shared).await;
    assert_eq!(world.route(&crowded).await.pooling, Pooling::Own, "it said no for itself");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_holds_up_no_other_and_is_not_forgotten() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let mut world = World::builder().homes_on(&server).homes_at(socket.address()).start().await;
    let other = world.add_cluster("other", Admin::Superuser, |_| ()).await;
    let mut tenants = Vec::new();
    for slug in ["one", "two"] {
        let main = Some(world.main_cluster().id.into());
        let make = world.tenant(slug).isolation(Isolation::Schema);
        tenants
            .push(make.with(|create| (create.cluster, create.overrides) = (main, with_shared_pooling().into())).await);
    }
    let make = world.tenant("elsewhere").isolation(Isolation::Schema);
    let elsewhere = make.with(|create| create.cluster = Some(other.id.into())).await;
    for tenant in &tenants {
        becomes(&world, tenant, Pooling::Shared).await;
    }
    socket.go_down();
    for tenant in &tenants {
        override_pooling(&world, tenant, &json!(null)).await;
    }
    override_pooling(&world, &elsewhere, &json!(true)).await;
    becomes(&world, &elsewhere, Pooling::Shared).await;
    for tenant in &tenants {
        assert!(recorded(&world, tenant).await.0, "its home was not reached");
    }
    socket.come_up();
    poke(&world, reconcilers::ROLE_CHANGES).await;
    for tenant in &tenants {
        eventually("it is taken out", async || recorded(&world, tenant).await == (false, false)).await;
        world.connect(&world.show(tenant).await).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_tenant_leaves_the_pool_and_the_others_go_on() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).start().await;
        let gone = tenant(&world, "gone", Isolation::Schema, with_shared_pooling()).await;
        let stays = tenant(&world, "stays", Isolation::Schema, with_shared_pooling()).await;
        let route = becomes(&world, &gone, Pooling::Shared).await;
        let others = becomes(&world, &stays, Pooling::Shared).await;
        let login = login(&world, &gone, &route).await;
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&route)).await.unwrap();
        world.delete(&gone).await;
        assert!(session.batch_execute("SELECT 1").await.is_err(), "its session has ended");
        let session = HomeSession::log_in(&login).await.expect("the login is the others', too");
        session.batch_execute(&assume(&others)).await.unwrap();
        session.batch_execute("INSERT INTO notes (body) VALUES ('still here')").await.unwrap();
        session.batch_execute("RESET ROLE").await.unwrap();
        assert!(session.batch_execute(&assume(&route)).await.is_err());
        let groups = format!(
            "SELECT g.rolname::text FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid
               JOIN pg_roles m ON m.oid = a.member WHERE m.rolname = '{}' ORDER BY 1",
            login.get_user().unwrap()
        );
        let app = app_role(&others);
        assert_eq!(session.texts(&groups).await, [app.clone(), app.replace("_app", "_ro")]);
        assert_eq!(world.route(&stays).await.shared_credential, others.shared_credential);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_serves_tenants_of_one_database_over_few_connections() {
    let world = World::start().await;
    let mut tenants = Vec::new();
    for number in 0..4 {
        tenants.push(tenant(&world, &format!("pooled-{number}"), Isolation::Schema, with_shared_pooling()).await);
    }
    for tenant in &tenants {
        becomes(&world, tenant, Pooling::Shared).await;
    }
    let router = Router::builder().control_plane(world.url(), world.token().clone()).name("few").build().await.unwrap();
    let visit = async |tenant: &Tenant| -> Result<(String, i32), RouterError> {
        let client = router.tenant(tenant.id).await?.client().await?;
        let seen = client.query_one("SELECT current_schema()::text, pg_backend_pid()", &[]).await.unwrap();
        client.batch_execute("SET search_path = pg_catalog; SET work_mem = '1MB'").await.unwrap();
        Ok((seen.get(0), seen.get(1)))
    };
    let mut backends = std::collections::BTreeSet::new();
    for round in 0..3 {
        for tenant in &tenants {
            let (schema, backend) = visit(tenant).await.unwrap();
            assert_eq!(schema, world.route(tenant).await.schema.unwrap().to_string(), "round {round}");
            backends.insert(backend);
        }
    }
    assert_eq!(backends.len(), 1, "one connection went from one to the next");
    let (gone, stays) = (&tenants[0], &tenants[1]);
    suspend(&world, gone).await;
    visit(stays).await.expect("the connection was ended, and the next one is opened without an error");
    eventually("the router knows", async || matches!(visit(gone).await, Err(RouterError::Suspended { .. }))).await;
    visit(stays).await.unwrap();
    router.close();
    world.end().await;
}
