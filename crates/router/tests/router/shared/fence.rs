//! Fences, refusals and changes of a shared login.

use tenantry_domain::{FeedVersion, RoleName, Secret};
use tenantry_router::{RouterConfig, RouterError};
use tenantry_testkit::{Server, eventually};

use super::homes::{SharedHomes, answer, backend, tenant};
use crate::home::{impatient, patient};

#[tokio::test]
async fn connections_that_a_fence_has_ended_are_replaced_and_nobody_notices() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(patient()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    for _ in 0..5 {
        let held = futures::future::join_all([acme.client(), zenith.client(), acme.client()]).await;
        drop(held.into_iter().collect::<Result<Vec<_>, _>>().expect("connections"));
        eventually("they are clean", async || {
            let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND state = 'idle'";
            homes.admin().await.query_one(query, &[&homes.pool.name]).await.expect("a count").get::<_, i64>(0) > 0
        })
        .await;
        homes.end_sessions().await;
        // At once: the router has not looked at its sockets.
        let client = zenith.client().await.expect("a new one");
        assert_eq!(answer(&client, "SELECT current_user::text").await, homes.tenants[1].app);
        let client = acme.client().await.expect("a new one");
        assert_eq!(answer(&client, "SELECT current_user::text").await, homes.tenants[0].app);
    }
}

#[tokio::test]
async fn a_fence_breaks_what_is_borrowed_and_harms_no_later_caller() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(RouterConfig { shared_pool_size: 1, ..patient() }).await;
    let client = tenant(&router, "zenith").await.client().await.expect("a connection");
    homes
        .run(&format!("UPDATE tenantry.stamp SET state = 'suspended' WHERE tenant = '{}'", homes.tenants[0].tenant))
        .await;
    homes.run(&format!("REVOKE {} FROM {}", homes.tenants[0].app, homes.pool.name)).await;
    homes.end_sessions().await;
    assert!(client.batch_execute("SELECT 1").await.is_err());
    drop(client);
    let error = tenant(&router, "acme").await.client().await.expect_err("suspended");
    assert!(matches!(error, RouterError::Stale { .. }), "{error:?}");
    let client = tenant(&router, "zenith").await.client().await.expect("a new one");
    assert_eq!(answer(&client, "SELECT current_schema()::text").await, homes.tenants[1].schema);
}

#[tokio::test]
async fn what_refuses_a_tenant_is_a_stale_route_and_costs_the_others_no_connection() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(RouterConfig { shared_pool_size: 1, ..impatient() }).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    let client = zenith.client().await.expect("a connection");
    let pid = backend(&client).await;
    drop(client);
    let (app, pool) = (&homes.tenants[0].app, &homes.pool.name);
    for (refuse, allow) in [
        (format!("REVOKE {app} FROM {pool}"), format!("GRANT {app} TO {pool}")),
        ("UPDATE tenantry.stamp SET generation = 2".to_owned(), "UPDATE tenantry.stamp SET generation = 1".to_owned()),
        (
            "UPDATE tenantry.stamp SET state = 'moving'".to_owned(),
            "UPDATE tenantry.stamp SET state = 'active'".to_owned(),
        ),
        (format!("ALTER ROLE {app} RENAME TO {app}x"), format!("ALTER ROLE {app}x RENAME TO {app}")),
    ] {
        homes.run(&refuse).await;
        let error = acme.client().await.expect_err(&refuse);
        assert!(matches!(error, RouterError::Stale { .. }), "{refuse}: {error:?}");
        assert!(!format!("{error} {error:?}").contains(&homes.pool.password));
        homes.run(&allow).await;
        let client = acme.client().await.expect(&allow);
        assert_eq!(backend(&client).await, pid, "the connection was kept after: {refuse}");
    }
    homes.run(&format!("ALTER ROLE {pool} NOLOGIN")).await;
    homes.end_sessions().await;
    let error = acme.client().await.expect_err("the login is shut out");
    assert!(matches!(error, RouterError::Stale { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stamp_is_looked_at_on_every_checkout() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(impatient()).await;
    let acme = tenant(&router, "acme").await;
    drop(acme.client().await.expect("a connection"));
    homes.run("UPDATE tenantry.stamp SET generation = 2").await;
    assert!(matches!(acme.client().await, Err(RouterError::Stale { .. })));
}

#[tokio::test]
async fn a_changed_login_takes_the_place_of_the_old_one() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let router = homes.router(patient()).await;
    let (acme, zenith) = (tenant(&router, "acme").await, tenant(&router, "zenith").await);
    drop(zenith.client().await.expect("a connection"));
    let held = acme.client().await.expect("a connection");
    let old = homes.pool.name.clone();
    let new = homes.names.login("pool2", "NOINHERIT").await;
    for home in &homes.tenants {
        homes.run(&format!("GRANT {}, {} TO {}", home.app, home.read_only, new.name)).await;
    }
    for mut route in homes.routes() {
        route.version = FeedVersion(3);
        if let Some(shared) = route.target.as_mut().and_then(|target| target.shared.as_mut()) {
            shared.credential.role = RoleName::parse(&new.name).expect("a role");
            shared.credential.password = Some(Secret::new(new.password.clone()));
        }
        assert!(router.apply(&route));
    }
    held.batch_execute("SELECT 1").await.expect("what is borrowed stays");
    for tenant in [&acme, &zenith] {
        let client = tenant.client().await.expect("a connection");
        assert_eq!(answer(&client, "SELECT session_user::text").await, new.name);
    }
    drop(held);
    eventually("the old ones are gone", async || {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        homes.admin().await.query_one(query, &[&old]).await.expect("a count").get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn a_tenant_goes_from_shared_connections_to_its_own_and_back() {
    let server = Server::shared().await;
    let homes = SharedHomes::two(server).await;
    let own = homes.names.login("acme_a", "INHERIT").await;
    homes.run(&format!("GRANT {} TO {}", homes.tenants[0].app, own.name)).await;
    homes
        .run(&format!(
            "UPDATE tenantry.stamp SET roles = roles || '{}'::name WHERE tenant = '{}'",
            own.name, homes.tenants[0].tenant
        ))
        .await;
    let router = homes.router(patient()).await;
    let acme = tenant(&router, "acme").await;
    let who = async || {
        let client = acme.client().await.expect("a connection");
        answer(&client, "SELECT concat_ws(' ', session_user, current_user, current_schema())").await
    };
    let (pool, app, schema) = (&homes.pool.name, &homes.tenants[0].app, &homes.tenants[0].schema);
    assert_eq!(who().await, format!("{pool} {app} {schema}"));
    let mut route = homes.route(0);
    let shared = route.target.as_mut().and_then(|target| {
        target.credential.role = RoleName::parse(&own.name).expect("a role");
        target.credential.password = Some(Secret::new(own.password.clone()));
        target.shared.take()
    });
    route.version = FeedVersion(3);
    assert!(router.apply(&route));
    assert_eq!(who().await, format!("{0} {0} {schema}", own.name));
    let options = acme.connection_options().await.expect("options");
    assert_eq!(options.user, own.name);
    (route.version, route.target.as_mut().expect("a target").shared) = (FeedVersion(4), shared);
    assert!(router.apply(&route));
    assert_eq!(who().await, format!("{pool} {app} {schema}"));
    let options = acme.connection_options().await.expect("options");
    assert_eq!(options.user, own.name, "other drivers have a login of the tenant's own");
}

#[tokio::test]
async fn without_a_password_of_the_login_the_token_is_to_blame() {
    let homes = SharedHomes::two(Server::shared().await).await;
    let mut route = homes.route(0);
    if let Some(shared) = route.target.as_mut().and_then(|target| target.shared.as_mut()) {
        shared.credential.password = None;
    }
    let builder = tenantry_router::Router::builder().fixed(vec![route], vec![homes.feed_cluster()]);
    let router = builder.build().await.expect("a router");
    let error = tenant(&router, "acme").await.client().await.expect_err("no password");
    assert!(error.to_string().contains("routes:secrets"), "{error}");
}
