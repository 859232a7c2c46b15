//! What catalog and clusters disagree on is reported, and what is ours goes; the doctor says whether all is well.

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tenantry_api::{ListAuditLog, ListOrphans, Orphan, Tenant};
use tenantry_domain::{Isolation, OrphanKind, OrphanVerdict};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Program, World};

async fn orphans(world: &World<'_>) -> Vec<Orphan> {
    let list = ListOrphans { gone: Some(true), ..ListOrphans::default() };
    world.client().list_orphans(&list).await.unwrap().items
}

/// Looks at every cluster until a condition on what is found holds.
async fn scanned_until(world: &World<'_>, what: &str, holds: impl Fn(&[Orphan]) -> bool) -> Vec<Orphan> {
    let mut seen = Vec::new();
    eventually(what, async || {
        world.client().scan_orphans().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = orphans(world).await;
        holds(&seen)
    })
    .await;
    seen
}

fn named<'o>(orphans: &'o [Orphan], name: &str) -> Option<&'o Orphan> {
    orphans.iter().find(|orphan| orphan.name == name && orphan.gone_at.is_none())
}

/// The name of the database that is a tenant's home.
async fn database_of(world: &World<'_>, tenant: &Tenant) -> String {
    world.route(tenant).await.database.unwrap().as_str().to_owned()
}

async fn run(world: &World<'_>, statements: &[String]) {
    let root = world.root(world.main_cluster(), "postgres").await;
    for statement in statements {
        root.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_is_reported_at_once_and_removed_when_a_person_says_so() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let tenant = world.tenant("acme").isolation(Isolation::Database).await;
    let name = database_of(&world, &tenant).await;
    world.delete(&tenant).await;
    // As a worker that was asleep would, or a backend whose client is gone.
    let strange = format!("h_{}", uuid::Uuid::now_v7().simple());
    run(
        &world,
        &[
            format!("CREATE ROLE {name}_owner"),
            format!("CREATE DATABASE {name}"),
            format!("CREATE ROLE {strange}_owner"),
        ],
    )
    .await;
    let seen = scanned_until(&world, "all are found", |seen| {
        [name.clone(), format!("{name}_owner"), format!("{strange}_owner")].iter().all(|it| named(seen, it).is_some())
    })
    .await;
    let late = named(&seen, &name).unwrap();
    assert_eq!((late.kind, late.verdict), (OrphanKind::Database, OrphanVerdict::Ours));
    assert!(late.removable_after.unwrap() > late.first_seen);
    let foreign = named(&seen, &format!("{strange}_owner")).unwrap();
    assert_eq!((foreign.verdict, foreign.removable_after), (OrphanVerdict::Foreign, None));

    // Its delay is a day. A person may be quicker, but only with what is ours.
    assert_eq!(server.databases_like(&name).await.len(), 1);
    let refused = world.client().remove_orphan(foreign.id).await.unwrap_err();
    assert_eq!(refused.code().map(tenantry_api::Code::as_str), Some("invalid_state"), "{refused}");
    let gone = world.client().remove_orphan(late.id).await.unwrap();
    assert!(gone.removed && gone.gone_at.is_some());
    assert_eq!(server.databases_like(&name).await, Vec::<String>::new());
    let role = named(&seen, &format!("{name}_owner")).unwrap();
    world.client().remove_orphan(role.id).await.unwrap();
    assert_eq!(server.roles_like(&name).await, Vec::<String>::new());
    let audit = ListAuditLog { action: Some("orphan.remove".to_owned()), ..ListAuditLog::default() };
    assert_eq!(world.client().list_audit_log(&audit).await.unwrap().items.len(), 2);

    run(&world, &[format!("DROP ROLE {strange}_owner")]).await;
    scanned_until(&world, "what went by itself is settled", |seen| named(seen, &format!("{strange}_owner")).is_none())
        .await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn past_its_delay_ours_goes_by_itself_and_nothing_of_another_catalog() {
    let server = Server::own().await;
    let world =
        World::builder().homes_on(&server).configure(|config| config.orphan_delay = Duration::ZERO).start().await;
    let other = World::builder().homes_on(&server).start().await;
    let neighbour = other.tenant("neighbour").isolation(Isolation::Database).await;
    let lodger = other.tenant("lodger").isolation(Isolation::Schema).await;
    let stays = world.tenant("stays").isolation(Isolation::Schema).await;
    let goes = world.tenant("goes").isolation(Isolation::Schema).await;
    let route = world.route(&goes).await;
    let (database, schema) = (route.database.unwrap(), route.schema.unwrap());
    world.delete(&goes).await;
    world.client().purge_tenant(&goes.id.into()).await.unwrap();
    // Even of a purged tenant it is known that its home is gone.
    let inside = world.root(world.main_cluster(), database.as_str()).await;
    inside.batch_execute(&format!("CREATE SCHEMA {}", schema.as_str())).await.unwrap();
    drop(inside);
    let seen = scanned_until(&world, "the schema is removed", |seen| {
        seen.iter().any(|orphan| orphan.name == schema.as_str() && orphan.removed)
    })
    .await;
    assert!(seen.iter().any(|orphan| orphan.verdict == OrphanVerdict::Foreign), "the other catalog's: {seen:?}");
    assert!(seen.iter().all(|orphan| !orphan.removed || orphan.verdict == OrphanVerdict::Ours));
    for tenant in [&neighbour, &lodger] {
        assert_eq!(other.connect(tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    }
    assert_eq!(world.connect(&stays).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    other.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_no_database_claims_is_told() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let directory = server.cluster().data_dir().join("base/987654");
    std::fs::create_dir(&directory).unwrap();
    let long_ago = SystemTime::now() - Duration::from_hours(1);
    std::fs::File::open(&directory).unwrap().set_modified(long_ago).unwrap();
    let seen = scanned_until(&world, "the directory is found", |seen| named(seen, "base/987654").is_some()).await;
    let found = named(&seen, "base/987654").unwrap();
    assert_eq!((found.kind, found.verdict), (OrphanKind::Directory, OrphanVerdict::Foreign));
    std::fs::remove_dir(&directory).unwrap();
    world.end().await;
}

/// The doctor's exit status and which checks found something.
async fn examined(world: &World<'_>) -> (Option<i32>, Vec<String>) {
    let program = Program::new(&world.url(), world.token());
    let ended = program.run(["doctor", "--output", "json"]).await;
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let mut checks: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap().to_owned())
        .collect();
    checks.dedup();
    (ended.code(), checks)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_does_not_agree_and_ends_with_five() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    world.tenant("globex").isolation(Isolation::Schema).await;
    assert_eq!(examined(&world).await, (Some(0), Vec::new()));

    let name = database_of(&world, &acme).await;
    let inside = world.root(world.main_cluster(), &name).await;
    inside.batch_execute("UPDATE tenantry.stamp SET generation = generation + 1").await.unwrap();
    assert_eq!(examined(&world).await, (Some(5), vec!["stamps".to_owned()]));
    inside.batch_execute("UPDATE tenantry.stamp SET generation = generation - 1").await.unwrap();
    drop(inside);

    run(&world, &[format!("ALTER ROLE {name}_a NOLOGIN")]).await;
    assert_eq!(examined(&world).await, (Some(5), vec!["logins".to_owned()]));
    run(&world, &[format!("ALTER ROLE {name}_a LOGIN"), format!("ALTER ROLE {name}_b RENAME TO elsewhere")]).await;
    assert_eq!(examined(&world).await, (Some(5), vec!["missing".to_owned()]));
    run(&world, &[format!("ALTER ROLE elsewhere RENAME TO {name}_b")]).await;

    let catalog = world.catalog_client().await;
    catalog.batch_execute("UPDATE cluster SET homes = homes + 1").await.unwrap();
    assert_eq!(examined(&world).await, (Some(5), vec!["cluster_counts".to_owned()]));
    catalog.batch_execute("UPDATE cluster SET homes = homes - 1").await.unwrap();
    drop(catalog);
    assert_eq!(examined(&world).await, (Some(0), Vec::new()));
    world.end().await;
}
