//! Servers, name spaces and templates, against a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed preparation is a failed test")]

use std::sync::atomic::{AtomicUsize, Ordering};

use tenantry_testkit::{Namespace, Server, eventually};
use tokio_postgres::NoTls;

#[tokio::test]
async fn tests_of_one_process_share_one_server() {
    let (first, second) = tokio::join!(Server::shared(), Server::shared());
    assert_eq!(first.cluster().pid(), second.cluster().pid());
    let own = Server::own_with(|builder| builder.setting("max_connections", "20")).await;
    assert_ne!(own.cluster().pid(), first.cluster().pid());
    let shown = own.connect("postgres").await.query_one("SHOW max_connections", &[]).await.unwrap();
    assert_eq!(shown.get::<_, String>(0), "20");
}

#[tokio::test]
async fn a_url_leads_to_its_database() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let database = namespace.database("there").await;
    let (client, connection) = tokio_postgres::connect(&server.url(&database), NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT current_database()", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), database);
    namespace.end().await;
}

#[tokio::test]
async fn a_dropped_name_space_takes_databases_roles_rights_and_slots_along() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let database = namespace.database("busy").await;
    let owner = namespace.login("owner", "CREATEDB").await;
    let admin = server.connect("postgres").await;
    let claimed = format!("h{:08x}", rand_like(namespace.prefix()));
    namespace.claim(&claimed);
    admin.batch_execute(&format!("CREATE ROLE {claimed}_app")).await.unwrap();
    // A right in a database that stays, an open session, a slot: each would stop a plain DROP.
    admin.batch_execute(&format!("GRANT USAGE ON SCHEMA public TO {}", owner.name)).await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {database} IS_TEMPLATE true")).await.unwrap();
    let session = server.connect(&database).await;
    let slot = namespace.name("slot");
    let make = "SELECT pg_create_logical_replication_slot($1, 'pgoutput')";
    session.execute(make, &[&slot]).await.unwrap();
    server.connect_as(&owner, "postgres").await.unwrap();
    assert_eq!(namespace.objects().await.len(), 3);

    let prefix = namespace.prefix().to_owned();
    drop(namespace);
    assert_eq!(server.databases_like(&prefix).await, Vec::<String>::new());
    assert_eq!(server.roles_like(&prefix).await, Vec::<String>::new());
    assert_eq!(server.roles_like(&claimed).await, Vec::<String>::new());
    assert_eq!(tenantry_testkit::slots_like(&admin, &prefix).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_panicking_test_leaves_nothing() {
    let server = Server::shared().await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let namespace = Namespace::on(server);
        namespace.database("lost").await;
        tell.send(namespace.prefix().to_owned()).unwrap();
        panic!("on purpose");
    });
    let prefix = told.await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(server.databases_like(&prefix).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_name_space_on_a_killed_server_ends_without_a_word() {
    let server = Server::own().await;
    let namespace = Namespace::on(&server);
    namespace.database("gone").await;
    server.cluster().kill().await.unwrap();
    drop(namespace);
}

#[tokio::test]
async fn a_template_is_prepared_once_and_cloned_by_many() {
    static PREPARED: AtomicUsize = AtomicUsize::new(0);
    let server = Server::own().await;
    let template = || {
        server.template("catalog", async |config| {
            PREPARED.fetch_add(1, Ordering::SeqCst);
            let (client, connection) = config.connect(NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("CREATE TABLE tenant (slug text)").await.unwrap();
        })
    };
    let (first, second) = tokio::join!(template(), template());
    assert_eq!(first, second);
    assert_eq!(PREPARED.load(Ordering::SeqCst), 1);

    let namespace = Namespace::on(&server);
    let (a, b) = tokio::join!(namespace.database_from("a", &first), namespace.database_from("b", &first));
    for database in [a, b] {
        server.connect(&database).await.batch_execute("INSERT INTO tenant VALUES ('acme')").await.unwrap();
    }
}

#[tokio::test]
async fn an_admin_without_superuser_can_make_roles_and_databases_only() {
    let server = Server::shared().await;
    let namespace = Namespace::on(server);
    let admin = namespace.admin_without_superuser().await;
    let client = server.connect_as(&admin, "postgres").await.unwrap();
    client.batch_execute(&format!("CREATE ROLE {}", namespace.name("made"))).await.unwrap();
    client.batch_execute(&format!("CREATE DATABASE {}", namespace.name("made"))).await.unwrap();
    let refused = client.batch_execute("SELECT pg_read_file('postgresql.conf')").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}

#[tokio::test]
async fn eventually_waits_for_what_another_task_does() {
    let count = std::sync::Arc::new(AtomicUsize::new(0));
    let counting = std::sync::Arc::clone(&count);
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::task::yield_now().await;
            counting.fetch_add(1, Ordering::SeqCst);
        }
    });
    eventually("three steps", async || count.load(Ordering::SeqCst) == 3).await;
}

/// A number that differs from test run to test run, from a name that does.
fn rand_like(name: &str) -> u32 {
    name.bytes().fold(7, |hash, byte| u32::from(byte) ^ hash.wrapping_mul(0x0100_0193))
}
