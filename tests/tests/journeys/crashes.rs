//! Replicas, servers and connections end in the middle of work, and the work ends all the same, with nothing orphaned.

use std::time::Duration;

use tenantry_api::{CreateTenant, ListTenants};
use tenantry_domain::{Isolation, OperationId, OperationState, RolloutState, Slug, TenantStatus};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Serve, World, files};

const TENANTS: usize = 10;

/// Begins ten provisions, half of them databases and half schemas, without waiting for any.
async fn begin_ten(world: &World<'_>) -> Vec<OperationId> {
    let mut operations = Vec::new();
    for number in 0..TENANTS {
        let isolation = if number % 2 == 0 { Isolation::Database } else { Isolation::Schema };
        let slug = Slug::parse(&format!("t{number}")).unwrap();
        let create = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(slug) };
        operations.push(world.client().create_tenant(&create, None).await.unwrap().operation.id);
    }
    operations
}

/// How many provisions are through, and whether one is at work now.
async fn progress(world: &World<'_>) -> (i64, bool) {
    let catalog = world.catalog_client().await;
    let sql = "SELECT count(*) FILTER (WHERE state = 'succeeded'), coalesce(bool_or(state = 'running'), false)
               FROM operation";
    let row = catalog.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn all_become_active(world: &World<'_>, operations: &[OperationId]) {
    for operation in operations {
        let ended = world.settled(*operation).await;
        assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    }
    let tenants = world.client().list_tenants(&ListTenants::default()).await.unwrap().items;
    assert_eq!(tenants.len(), operations.len());
    for tenant in tenants {
        assert_eq!(tenant.status, TenantStatus::Active);
        assert_eq!(world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 1, "{}", tenant.slug);
    }
    world.assert_nothing_orphaned().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_control_plane_goes_on_where_it_was() {
    // A server of its own, so that "nothing orphaned" is about everything on it; and not the catalog's, because `serve`
    // keeps tenants off that.
    let server = Server::own().await;
    let mut world = World::builder().homes_on(&server).start().await;
    let door = world.url();
    world.take_replica(0).stop().await;
    let mut serve = Serve::start(&world).await;
    world.use_door(serve.url());
    let operations = begin_ten(&world).await;
    // Three times, each in the middle: something is through, something is at work, something is not begun.
    for kill in 0..3 {
        eventually("the work is in its middle", async || {
            let (done, is_running) = progress(&world).await;
            (is_running && done >= kill) || usize::try_from(done).unwrap() == TENANTS
        })
        .await;
        serve.kill().await;
        serve = Serve::start(&world).await;
        world.use_door(serve.url());
    }
    all_become_active(&world, &operations).await;
    let catalog = world.catalog_client().await;
    let planned = catalog.query_one("SELECT count(*) FROM resource WHERE state = 'planned'", &[]).await.unwrap();
    assert_eq!(planned.get::<_, i64>(0), 0);
    drop(catalog);
    assert_ne!(serve.url(), door);
    world.end().await;
    assert_eq!(server.databases_like("h_").await, Vec::<String>::new());
    for prefix in ["h_", "s_", "t_"] {
        assert_eq!(server.roles_like(prefix).await, Vec::<String>::new());
    }
    assert!(serve.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crashed_replica_is_succeeded_by_another() {
    let mut world =
        World::builder().replicas(2).configure(|config| config.lease = Duration::from_secs(1)).start().await;
    let operations = begin_ten(&world).await;
    eventually("the work has begun", async || progress(&world).await.1).await;
    let survivor = world.replicas()[1].url();
    world.take_replica(0).crash().await;
    world.use_door(&survivor);
    all_become_active(&world, &operations).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_replica_hands_its_work_over_at_once() {
    // With a lease of an hour, whoever waited for it to run out would wait in vain.
    let mut world =
        World::builder().replicas(2).configure(|config| config.lease = Duration::from_hours(1)).start().await;
    let operations = begin_ten(&world).await;
    eventually("the work has begun", async || progress(&world).await.1).await;
    let survivor = world.replicas()[1].url();
    world.take_replica(0).stop().await;
    world.use_door(&survivor);
    all_become_active(&world, &operations).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisions_outlive_a_restart_of_their_server() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    let operations = begin_ten(&world).await;
    eventually("the work has begun", async || progress(&world).await.1).await;
    server.cluster().kill().await.unwrap();
    server.cluster().restart().await.unwrap();
    all_become_active(&world, &operations).await;
    world.end().await;
}

/// PostgreSQL's copies of a database count from where the original was, if the server dies soon after.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_home_hands_out_no_key_twice_when_its_server_dies() {
    let server = Server::own().await;
    let world = World::builder().homes_on(&server).start().await;
    for isolation in [Isolation::Database, Isolation::Schema] {
        let tenant = world.tenant(&isolation.to_string()).isolation(isolation).await;
        let write = async || -> i64 {
            let session = world.connect(&tenant).await;
            session.one("INSERT INTO notes (body) VALUES ('one more') RETURNING id").await
        };
        let before = write().await;
        server.cluster().kill().await.unwrap();
        server.cluster().restart().await.unwrap();
        assert!(write().await > before);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provisions_outlive_a_restart_of_the_catalog() {
    let server = Server::own().await;
    let world = World::builder().catalog_on(&server).start().await;
    let operations = begin_ten(&world).await;
    eventually("the work has begun", async || progress(&world).await.1).await;
    server.cluster().restart().await.unwrap();
    all_become_active(&world, &operations).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_lost_is_not_a_failure() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder().homes_on(&server).homes_at(socket.address()).start().await;
    // What each statement ends with; the first two are said while the template is built as well.
    for (slug, isolation, reply) in [
        ("one", Isolation::Database, "CREATE DATABASE"),
        ("two", Isolation::Database, "CREATE DATABASE"),
        ("three", Isolation::Database, "COMMIT"),
        ("four", Isolation::Schema, "CREATE DATABASE"),
        ("five", Isolation::Schema, "CREATE SCHEMA"),
        ("six", Isolation::Schema, "COMMIT"),
    ] {
        let sprung = socket.sprung();
        socket.lose_reply_with(reply);
        let tenant = world.tenant(slug).isolation(isolation).await;
        assert_eq!(socket.sprung(), sprung + 1, "{slug}: nobody said {reply}");
        assert_eq!(world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    }
    world.assert_nothing_orphaned().await;
    for reply in ["COMMIT", "DROP DATABASE", "DROP ROLE"] {
        socket.lose_reply_with(reply);
        let page = world.client().list_tenants(&ListTenants::default()).await.unwrap();
        let living = page.items.iter().find(|tenant| tenant.status == TenantStatus::Active);
        world.delete(living.expect("a tenant")).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_provision_leaves_nothing() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder().homes_on(&server).homes_at(socket.address()).start().await;
    world.tenant("first").isolation(Isolation::Database).await;
    for (slug, reply) in [("early", None), ("late", Some("CREATE DATABASE"))] {
        // The server is away before anything is made, or in the middle.
        match reply {
            None => socket.go_down(),
            Some(reply) => socket.lose_reply_with(reply),
        }
        let sprung = socket.sprung();
        let create =
            CreateTenant { isolation: Some(Isolation::Database), ..CreateTenant::new(Slug::parse(slug).unwrap()) };
        let begun = world.client().create_tenant(&create, None).await.unwrap();
        if reply.is_some() {
            socket.wait_sprung(sprung + 1).await;
            socket.go_down();
        }
        eventually("the provision stumbles", async || {
            world.client().show_operation(begun.operation.id).await.unwrap().attempt > 0
        })
        .await;
        world.client().cancel_operation(begun.operation.id).await.unwrap();
        socket.come_up();
        let ended = world.settled(begun.operation.id).await;
        assert_eq!(ended.state, OperationState::Cancelled, "{ended:?}");
        let tenant = world.show(&begun.tenant).await;
        assert_eq!((tenant.status, tenant.cluster), (TenantStatus::Failed, None));
        world.assert_nothing_orphaned().await;
    }
    assert_eq!(server.databases_like("h_").await.len(), 1, "that of the first");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_walked_back_is_parked_until_somebody_says_so() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder()
        .homes_on(&server)
        .homes_at(socket.address())
        .configure(|config| config.attempts_max = 2)
        .start()
        .await;
    world.tenant("first").await;
    // The server goes away in the middle, and stays away: neither forward nor back.
    let sprung = socket.sprung();
    socket.lose_reply_with("CREATE DATABASE");
    let create =
        CreateTenant { isolation: Some(Isolation::Database), ..CreateTenant::new(Slug::parse("second").unwrap()) };
    let begun = world.client().create_tenant(&create, None).await.unwrap();
    socket.wait_sprung(sprung + 1).await;
    socket.go_down();
    let parked = world.settled(begun.operation.id).await;
    assert_eq!(parked.state, OperationState::Parked, "{parked:?}");
    assert!(parked.error.as_ref().unwrap()["message"].is_string());

    socket.come_up();
    world.client().retry_operation(parked.id).await.unwrap();
    let failed = world.settled(parked.id).await;
    assert_eq!(failed.state, OperationState::Failed, "walked back: {failed:?}");
    assert_eq!(world.show(&begun.tenant).await.status, TenantStatus::Failed);
    world.assert_nothing_orphaned().await;

    // And once more from the beginning, in a home of another name.
    world.client().retry_operation(parked.id).await.unwrap();
    let ended = world.settled(parked.id).await;
    assert_eq!(ended.state, OperationState::Succeeded, "{ended:?}");
    let tenant = world.show(&begun.tenant).await;
    assert_eq!(world.connect(&tenant).await.one::<i64>("SELECT count(*) FROM notes").await, 1);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_outlives_the_replica_that_carried_it_out() {
    let mut world =
        World::builder().replicas(2).configure(|config| config.lease = Duration::from_secs(1)).start().await;
    let operations = begin_ten(&world).await;
    all_become_active(&world, &operations).await;
    // A reader of one tenant keeps the rollout from ending before its replica does.
    let tenants = world.client().list_tenants(&ListTenants::default()).await.unwrap().items;
    let reader = world.connect(&tenants[0]).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    eventually("some targets are through", async || {
        world.client().show_rollout(rollout.id).await.unwrap().counts.applied >= 5
    })
    .await;
    let survivor = world.replicas()[1].url();
    world.take_replica(0).crash().await;
    world.use_door(&survivor);
    reader.run("COMMIT").await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.failed), (RolloutState::Succeeded, 0), "{ended:?}");
    for tenant in &tenants {
        assert_eq!(world.show(tenant).await.schema_version.0, 4, "{}", tenant.slug);
    }
    drop(reader);
    world.end().await;
}
