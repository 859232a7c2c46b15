//! What services' own tests are given: routers without a control plane; and options for other drivers.

use std::time::Duration;

use tenantry_router::testing::TestTenants;
use tenantry_router::{Limits, RequestLimit, RouteState, RouterError, Secret, tokio_postgres};
use tenantry_testkit::{Namespace, Server};
use tokio_postgres::NoTls;

use crate::home::Home;

#[tokio::test]
async fn tenants_of_one_database_see_their_own_schema() {
    let names = Namespace::on(Server::shared().await);
    let url = names.server().url(&names.database("service").await);
    let router = TestTenants::in_database(url)
        .tenant("plain")
        .tenant_in("acme", "acme's \"schema\"")
        .tenant_in("zenith", "zenith")
        .tenant_that_is(RouteState::Suspended, "asleep")
        .base_domain("example.com")
        .schema_version(7)
        .limits(Limits { requests_per_minute: Some(1), ..Limits::default() })
        .build()
        .await
        .expect("a router");
    for slug in ["plain", "acme", "zenith"] {
        let tenant = router.tenant(slug).await.expect("found").at_least(7).await.expect("new enough");
        let client = tenant.client().await.expect("a connection");
        client.batch_execute("CREATE TABLE flights AS SELECT 1 AS id").await.expect("nobody else's");
    }
    let client = router.tenant("acme.example.com").await.expect("found").client().await.expect("a connection");
    let row = client.query_one("SELECT current_schema()::text", &[]).await.expect("asked");
    assert_eq!(row.get::<_, String>(0), "acme's \"schema\"");
    drop(client);
    assert!(matches!(router.tenant("asleep").await, Err(RouterError::Suspended { .. })));
    let zenith = router.tenant("zenith").await.expect("found");
    drop(zenith.admit().await.expect("the first"));
    let error = zenith.admit().await.expect_err("the second");
    assert!(matches!(error, RouterError::LimitExceeded { limit: RequestLimit::PerMinute, .. }), "{error}");
    router.close();
}

#[tokio::test]
async fn routers_of_one_database_are_made_at_the_same_time_and_agree() {
    let names = Namespace::on(Server::shared().await);
    let url = names.server().url(&names.database("service").await);
    let routers = (0..6).map(|_| TestTenants::in_database(url.clone()).tenant("acme").tenant_in("b", "b").build());
    let routers = futures::future::try_join_all(routers).await.expect("routers");
    let ids: Vec<_> = routers.iter().map(|router| router.lookup("acme").expect("found").id()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test]
async fn a_read_only_login_reads_only() {
    let names = Namespace::on(Server::shared().await);
    let url = names.server().url(&names.database("service").await);
    let reader = names.login("reader", "").await;
    let tenants = TestTenants::in_database(url).tenant("acme");
    let tenants = tenants.read_only_login(&reader.name, Secret::new(reader.password.clone()));
    let acme = tenants.build().await.expect("a router").tenant("acme").await.expect("found");
    acme.client().await.expect("a connection").batch_execute("CREATE TABLE flights ()").await.expect("may write");
    let client = acme.read_only().client().await.expect("a connection");
    let error = client.batch_execute("CREATE TABLE more ()").await.expect_err("may not");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "42501");
}

#[tokio::test]
async fn real_homes_and_unusable_databases_are_refused() {
    let home = Home::on(Server::shared().await, "acme").await;
    let server = home.names.server();
    for (url, why) in [
        (server.url(&home.database), "prepared"),
        (server.url("no_such_database"), "reached"),
        ("postgres://user@/".to_owned(), "host"),
        ("postgres://127.0.0.1/db".to_owned(), "user"),
        ("not a connection string".to_owned(), "not valid"),
    ] {
        match TestTenants::in_database(url).tenant("acme").build().await {
            Err(RouterError::Refused { reason, .. }) => assert!(reason.contains(why), "{reason}"),
            other => panic!("not refused: {other:?}"),
        }
    }
    let names = Namespace::on(server);
    let url = server.url(&names.database("service").await);
    let outcome = TestTenants::in_database(url).tenant("No Slug").build().await;
    assert!(matches!(outcome, Err(RouterError::Refused { .. })));
    // The home's own check is untouched.
    drop(home.router().await.tenant("acme").await.expect("found").client().await.expect("still a home"));
}

#[tokio::test]
async fn another_driver_gets_in_with_the_options_and_is_refused_once_they_are_stale() {
    let home = Home::on(Server::shared().await, "acme").await;
    let acme = home.router().await.tenant("acme").await.expect("found");
    for (tenant, user) in [(acme.clone(), &home.login.name), (acme.read_only(), &home.read_only.name)] {
        let options = tenant.connection_options().await.expect("options");
        assert_eq!((&options.user, &options.database, options.schema.as_str()), (user, &home.database, "public"));
        let (client, connection) = tokio_postgres::connect(options.url().expose(), NoTls).await.expect("connected");
        let driver = tokio::spawn(connection);
        client.batch_execute(&options.attach).await.expect("the tenant lives there");
        let row = client.query_one("SELECT current_user::text", &[]).await.expect("asked");
        assert_eq!(&row.get::<_, String>(0), user);
        let printed = format!("{options:?}");
        assert!(!printed.contains(options.password.expose()), "{printed}");
        drop(client);
        tokio::time::timeout(Duration::from_mins(1), driver).await.expect("ended").expect("no panic").expect("well");
    }
    let options = acme.connection_options().await.expect("options");
    home.admin().await.batch_execute("UPDATE tenantry.stamp SET generation = 2").await.expect("moved");
    let (client, connection) = tokio_postgres::connect(options.url().expose(), NoTls).await.expect("connected");
    tokio::spawn(connection);
    let error = client.batch_execute(&options.attach).await.expect_err("stale");
    assert_eq!(error.code().expect("an SQLSTATE").code(), "TN001");
}
