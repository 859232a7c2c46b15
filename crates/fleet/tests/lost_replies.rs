//! The server does it and the answer never arrives: look, repeat, and have exactly what was wanted. Or the answer arrives
//! when another has the home by now.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::{ADMINS, Admin, Arena, Tenant, airline, count};
use tenantry_domain::{DatabaseName, Endpoint, LoginSlot, SchemaVersion};
use tenantry_fleet::{ApplyOptions, ClusterTarget, Fence, Fleet, FleetConfig, FleetError, Leaving};
use tenantry_testkit::{BreakableSocket, eventually};

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

/// Lets work get its answer to its first change of a home only when `meanwhile` is done, and so another worker has the
/// home by now.
async fn outrun<T>(
    arena: &Arena,
    tenant: &Tenant,
    socket: &BreakableSocket,
    work: std::pin::Pin<Box<impl Future<Output = T>>>,
    meanwhile: impl AsyncFnOnce(Fence),
) -> T {
    let root = arena.root(&arena.target.admin_database).await;
    let Fence { home, epoch } = tenant.fence;
    root.batch_execute(&format!("BEGIN; SELECT tenantry.raise_fence('{home}', {epoch})")).await.unwrap();
    let overtake = async {
        let watch = arena.root(&arena.target.admin_database).await;
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("the work waits for the fence", async || count(&watch, waits).await == 1).await;
        socket.hold();
        root.batch_execute("COMMIT").await.unwrap();
        // What it sent is done by now, and it does not know.
        eventually("the work has passed the fence", async || count(&watch, waits).await == 0).await;
        let later = Fence { home, epoch: epoch + 1 };
        root.batch_execute(&format!("SELECT tenantry.raise_fence('{home}', {})", later.epoch)).await.unwrap();
        meanwhile(later).await;
        socket.release();
    };
    futures::future::join(work, overtake).await.0
}

fn assert_stale<T: std::fmt::Debug>(result: &Result<T, FleetError>, tenant: &Tenant) {
    let Fence { home, epoch } = tenant.fence;
    let is_stale =
        matches!(result, Err(FleetError::StaleEpoch { home: of, epoch: with }) if (*of, *with) == (home, epoch));
    assert!(is_stale, "{result:?}");
}

#[tokio::test]
async fn whoever_was_overtaken_ends_no_session_of_a_tenant_that_is_let_in_again() {
    for admin in ADMINS {
        let arena = Arena::new(admin).await;
        let (socket, slow, target) = breakable(&arena).await;
        let tenant = arena.database_home();
        arena.provision(&tenant, None, None).await;
        let mut session = None;
        let late = outrun(
            &arena,
            &tenant,
            &socket,
            Box::pin(slow.disable_logins(&target, &tenant.fence, &tenant.home, false)),
            async |later| {
                arena.fleet.enable_logins(&arena.target, &later, &tenant.home, LoginSlot::A, false).await.unwrap();
                session = Some(arena.app(&tenant).await);
            },
        )
        .await;
        assert_stale(&late, &tenant);
        let session = session.unwrap();
        session.batch_execute("SELECT 1").await.unwrap();
        for leaving in [Leaving::Patiently, Leaving::Idle, Leaving::Now] {
            let late =
                arena.fleet.end_login_sessions(&arena.target, &tenant.fence, &tenant.home, LoginSlot::A, leaving);
            assert_stale(&late.await, &tenant);
            session.batch_execute("SELECT 1").await.unwrap();
        }
        drop(session);
        arena.namespace.end().await;
    }
}

#[tokio::test]
async fn whoever_was_overtaken_while_it_sealed_an_adoption_ends_nobodys_session() {
    let arena = Arena::new(Admin::Superuser).await;
    let (socket, slow, target) = breakable(&arena).await;
    let mut tenant = arena.database_home();
    tenant.home.database = DatabaseName::parse(&arena.namespace.database("legacy").await).unwrap();
    let (home, fence) = (&tenant.home, &tenant.fence);
    let belongings = arena.fleet.belongings(&arena.target, home).await.unwrap();
    arena.fleet.ensure_roles(&arena.target, fence, home, &tenant.secrets, &tenant.limits).await.unwrap();
    let stamp = tenant.stamp();
    arena.fleet.take_over(&arena.target, home, fence, &belongings, &tenant.limits, &stamp).await.unwrap();
    let stranger = arena.namespace.login("stranger", "").await;
    let grant = format!("GRANT CONNECT ON DATABASE \"{}\" TO \"{}\"", home.database, stranger.name);
    arena.root(&home.database).await.batch_execute(&grant).await.unwrap();
    let session = arena.server().connect_as(&stranger, home.database.as_str()).await.unwrap();
    let sealing = Box::pin(slow.seal_adoption(&target, home, fence, &belongings, &tenant.limits, &stamp));
    let late = outrun(&arena, &tenant, &socket, sealing, async |_| ()).await;
    assert_stale(&late, &tenant);
    session.batch_execute("SELECT 1").await.unwrap();
    drop(session);
    arena.namespace.end().await;
}
