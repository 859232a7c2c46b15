//! The server does it and the answer never arrives: look, repeat, and have exactly what was wanted.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{Admin, Arena, airline, count};
use tenantry_domain::{Endpoint, SchemaVersion};
use tenantry_fleet::{ApplyOptions, ClusterTarget, Fleet, FleetConfig, FleetError};
use tenantry_testkit::BreakableSocket;

/// The same cluster by a way that breaks, with a fleet that has kept no connection.
async fn breakable(arena: &Arena) -> (BreakableSocket, Fleet, ClusterTarget) {
    let socket = BreakableSocket::before(arena.server().address()).await;
    let mut target = arena.target.clone();
    target.endpoint = Endpoint::new("127.0.0.1", socket.address().port()).unwrap();
    (socket, Fleet::new(FleetConfig::default()), target)
}

/// Repeats what may be repeated; counts the attempts that failed.
async fn until_done<T>(mut attempt: impl AsyncFnMut() -> Result<T, FleetError>) -> (T, usize) {
    for failed in 0..200 {
        match attempt().await {
            Ok(done) => return (done, failed),
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("not retryable: {error:?}"),
        }
    }
    panic!("never done");
}

/// Answers in the life of a home, each lost once.
const ANSWERS: [&str; 6] = ["CREATE DATABASE", "COMMIT", "GRANT", "SELECT 1", "RESET", "REVOKE"];

#[tokio::test]
async fn a_home_is_whole_whichever_answer_is_lost() {
    for admin in [Admin::Superuser, Admin::Managed] {
        let arena = Arena::new(admin).await;
        let template = arena.template_name();
        arena.fleet.ensure_template(&arena.target, &template, Some(&airline())).await.unwrap();
        let shared = arena.shared_database().await;
        for answer in ANSWERS {
            for tenant in [arena.database_home(), arena.schema_home(&shared)] {
                let (socket, fleet, target) = breakable(&arena).await;
                let template = (tenant.home.database != shared).then_some(&template);
                socket.lose_reply_with(answer);
                let spec = tenant.spec(template);
                until_done(async || fleet.ensure_home(&target, &spec).await).await;
                let options = ApplyOptions::default();
                let (password, set) = (&tenant.secrets.migrator, airline());
                until_done(async || fleet.apply(&target, &tenant.home, password, &set, &options).await).await;
                let app = arena.app(&tenant).await;
                assert_eq!(count(&app, "SELECT count(*) FROM aircraft").await, 2, "{answer}");
                drop(app);
                // The same trap on the way down.
                socket.lose_reply_with(if answer == "CREATE DATABASE" { "DROP DATABASE" } else { answer });
                if template.is_some() {
                    until_done(async || fleet.drop_database(&target, &tenant.home.database).await).await;
                } else {
                    until_done(async || fleet.drop_schema(&target, &tenant.home).await).await;
                }
                until_done(async || fleet.drop_roles(&target, &tenant.fence, &tenant.home).await).await;
                let observed = arena.fleet.observe_home(&arena.target, &tenant.home).await.unwrap();
                assert!(!observed.schema && observed.roles.is_empty(), "{answer}: {observed:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_migration_whose_answer_is_lost_is_not_applied_twice() {
    let arena = Arena::new(Admin::Managed).await;
    let (socket, fleet, target) = breakable(&arena).await;
    let tenant = arena.database_home();
    arena.provision(&tenant, None, None).await;
    socket.lose_reply_with("COMMIT");
    let (options, set) = (ApplyOptions::default(), airline());
    let lost = fleet.apply(&target, &tenant.home, &tenant.secrets.migrator, &set, &options).await;
    assert!(matches!(lost, Err(FleetError::Unknown { .. })), "{lost:?}");
    assert_eq!(socket.sprung(), 1);
    let apply = async || fleet.apply(&target, &tenant.home, &tenant.secrets.migrator, &set, &options).await;
    let (applied, _) = until_done(apply).await;
    assert_eq!(applied.to, SchemaVersion(3));
    let app = arena.app(&tenant).await;
    assert_eq!(count(&app, "SELECT count(*) FROM aircraft").await, 2);
    assert_eq!(count(&app, "SELECT count(*) FROM refinery_schema_history").await, 3);
}

#[tokio::test]
async fn a_database_that_is_still_being_created_is_neither_made_twice_nor_left_behind() {
    let arena = Arena::new(Admin::Managed).await;
    let template = arena.template_name();
    arena.fleet.ensure_template(&arena.target, &template, Some(&airline())).await.unwrap();
    let tenant = arena.database_home();
    let spec = tenant.spec(Some(&template));
    // Given up in the middle, as by a worker that is killed: the server may go on.
    let _ = tokio::time::timeout(Duration::from_millis(12), arena.fleet.ensure_home(&arena.target, &spec)).await;
    let fleet = Fleet::new(FleetConfig::default());
    until_done(async || fleet.drop_database(&arena.target, &tenant.home.database).await).await;
    assert!(!arena.fleet.observe_home(&arena.target, &tenant.home).await.unwrap().database);
    until_done(async || fleet.ensure_home(&arena.target, &spec).await).await;
    arena.app(&tenant).await;
}
