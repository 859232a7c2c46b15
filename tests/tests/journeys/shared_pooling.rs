//! Tenants that share a database may have their connections pooled together: one login, which becomes each tenant's role.

use tenantry_api::{ResumeTenant, Route, SuspendTenant, Tenant, WaitSeconds};
use tenantry_domain::{Isolation, Limits, Pooling};
use tenantry_router::{Router, RouterError};
use tenantry_testkit::eventually;
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
        let own = alone.role.as_ref().unwrap().as_str();
        let app = format!("{}_app", own.trim_end_matches("_a"));
        assert!(session.batch_execute(&format!("SET ROLE \"{app}\"")).await.is_err());
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

        let id = one.id.into();
        world.client().suspend_tenant(&id, &SuspendTenant::default(), wait()).await.unwrap();
        assert!(session.batch_execute("SELECT 1").await.is_err(), "its session has ended");
        let session = HomeSession::log_in(&login).await.unwrap();
        let refused = session.batch_execute(&assume(&route)).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{refused:?}");
        session.batch_execute(&assume(&others)).await.unwrap();

        world.client().resume_tenant(&id, &ResumeTenant::default(), wait()).await.unwrap();
        let session = HomeSession::log_in(&login).await.unwrap();
        session.batch_execute(&assume(&becomes(&world, &one, Pooling::Shared).await)).await.unwrap();

        // Taken back, by the same way as given.
        let patch = serde_json::json!({ "overrides": { "shared_pooling": null } });
        world.wire().patch(&format!("/v1/tenants/{}", one.id), &patch).await.ok();
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
    world.client().suspend_tenant(&gone.id.into(), &SuspendTenant::default(), wait()).await.unwrap();
    visit(stays).await.expect("the connection was ended, and the next one is opened without an error");
    eventually("the router knows", async || matches!(visit(gone).await, Err(RouterError::Suspended { .. }))).await;
    visit(stays).await.unwrap();
    router.close();
    world.end().await;
}
