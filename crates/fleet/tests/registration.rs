//! Taking a server in, and what is said where it cannot be.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::{sqlstate, target};
use tenantry_domain::{Endpoint, Secret, TlsMode, Verdict};
use tenantry_fleet::{Fleet, FleetConfig, FleetError};
use tenantry_testkit::{Login, Server};

async fn superuser(server: &Server) -> Login {
    let login = Login { name: "root_of_test".to_owned(), password: "longenough".to_owned() };
    let sql = format!("CREATE ROLE {} SUPERUSER LOGIN PASSWORD '{}'", login.name, login.password);
    server.connect("postgres").await.batch_execute(&sql).await.unwrap();
    login
}

#[tokio::test]
async fn registering_closes_every_database_to_public() {
    let server = Server::own().await;
    server.connect("postgres").await.batch_execute("CREATE DATABASE \"someone's own\"").await.unwrap();
    let login = superuser(&server).await;
    let target = target(&server, &login, "postgres");
    let fleet = Fleet::new(FleetConfig::default());
    let inspection = fleet.inspect(&target).await.unwrap();
    assert_eq!(inspection.obstacles(), Vec::<String>::new());
    assert_eq!(inspection.existing_user_databases, ["someone's own"]);
    assert!(inspection.system_identifier.parse::<u64>().unwrap() > 0);
    assert!(inspection.can_signal && !inspection.tls && inspection.server_version >= 150_000);
    for _ in 0..2 {
        assert_eq!(fleet.prepare_cluster(&target).await.unwrap(), Vec::<String>::new());
    }
    let guest = server.admin_without_superuser().await;
    for database in ["postgres", "template1", "someone's own"] {
        let refused = server.connect_as(&guest, database).await.err().unwrap();
        assert_eq!(sqlstate(&refused), "42501", "{database}");
    }
    fleet.ping(&target).await.unwrap();
    fleet.release_cluster(&target).await.unwrap();
    fleet.release_cluster(&target).await.unwrap();
}

#[tokio::test]
async fn what_an_admin_may_not_close_is_reported() {
    let server = Server::own().await;
    let admin = server.admin_without_superuser().await;
    let root = server.connect("postgres").await;
    root.batch_execute(&format!("CREATE DATABASE control OWNER \"{}\"", admin.name)).await.unwrap();
    let target = target(&server, &admin, "control");
    let fleet = Fleet::new(FleetConfig::default());
    let findings = fleet.prepare_cluster(&target).await.unwrap();
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].contains("`postgres`") && findings[1].contains("`template1`"), "{findings:?}");
}

#[tokio::test]
async fn a_server_that_cannot_be_used_says_why() {
    let server = Server::own().await;
    let guest = server.admin_without_superuser().await;
    let root = server.connect("postgres").await;
    root.batch_execute(&format!("ALTER ROLE \"{}\" NOCREATEDB NOCREATEROLE", guest.name)).await.unwrap();
    let fleet = Fleet::new(FleetConfig::default());
    let mut target = target(&server, &guest, "postgres");
    let inspection = fleet.inspect(&target).await.unwrap();
    let [obstacle] = &inspection.obstacles()[..] else { panic!("{:?}", inspection.obstacles()) };
    for missing in ["CREATEDB", "CREATEROLE", "CREATE on its own database"] {
        assert!(obstacle.contains(missing), "{missing}: {obstacle}");
    }
    let warned: Vec<String> = inspection
        .checks()
        .into_iter()
        .filter(|check| check.verdict == Verdict::Warning)
        .map(|check| check.name)
        .collect();
    assert!(warned.contains(&"public_access".to_owned()), "{warned:?}");

    target.password = Secret::new("wrong".to_owned());
    let Err(FleetError::Refused { reason, .. }) = fleet.inspect(&target).await else {
        panic!("a wrong password passed")
    };
    assert!(reason.contains("password authentication failed") && !reason.contains("wrong"), "{reason}");

    target.endpoint = Endpoint::new("127.0.0.1", 1).unwrap();
    let error = fleet.inspect(&target).await.unwrap_err();
    assert!(matches!(&error, FleetError::Unreachable { .. }) && error.is_retryable());
}

#[tokio::test]
async fn a_password_goes_over_tls_or_nowhere() {
    let server = Server::own().await;
    let login = superuser(&server).await;
    let fleet = Fleet::new(FleetConfig::default());
    let mut target = target(&server, &login, "postgres");
    for mode in [TlsMode::Require, TlsMode::VerifyCa, TlsMode::VerifyFull] {
        target.tls_mode = mode;
        let refused = fleet.inspect(&target).await;
        assert!(matches!(refused, Err(FleetError::Refused { .. })), "{mode}: {refused:?}");
    }
    target.tls_mode = TlsMode::Disable;
    target.endpoint = Endpoint::new("db.example.com", 5432).unwrap();
    assert!(matches!(fleet.inspect(&target).await, Err(FleetError::Refused { .. })));
}

#[tokio::test]
async fn a_unix_socket_is_as_good_as_an_address() {
    let server = Server::own().await;
    let login = superuser(&server).await;
    let mut target = target(&server, &login, "postgres");
    let root = server.connect("postgres").await;
    let folder: String = root.query_one("SHOW unix_socket_directories", &[]).await.unwrap().get(0);
    target.endpoint = Endpoint::new(folder.trim_matches('"'), target.endpoint.port()).unwrap();
    target.tls_mode = TlsMode::VerifyFull;
    Fleet::new(FleetConfig::default()).inspect(&target).await.unwrap();
}

#[tokio::test]
async fn a_restart_of_the_server_costs_one_answer_at_most() {
    let server = Server::own().await;
    let login = superuser(&server).await;
    let target = target(&server, &login, "postgres");
    let fleet = Fleet::new(FleetConfig::default());
    fleet.ping(&target).await.unwrap();
    let root = server.connect("postgres").await;
    root.batch_execute(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'",
        login.name
    ))
    .await
    .unwrap();
    let first = fleet.ping(&target).await;
    assert!(first.as_ref().map_or_else(FleetError::is_retryable, |()| true), "{first:?}");
    fleet.ping(&target).await.unwrap();
}
