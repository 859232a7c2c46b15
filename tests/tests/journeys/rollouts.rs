//! The fleet is brought to a migration set.

use serde_json::json;
use tenantry_api::{CommaSeparated, ListTargets, RolloutTarget, Tenant};
use tenantry_domain::{Isolation, RolloutId, RolloutState, TargetState};
use tenantry_tests::{Admin, World, files};

async fn targets(world: &World<'_>, rollout: RolloutId, state: Option<TargetState>) -> Vec<RolloutTarget> {
    let list = ListTargets { state: CommaSeparated(state.into_iter().collect()), ..ListTargets::default() };
    world.client().list_rollout_targets(rollout, &list).await.unwrap().items
}

/// One tenant of each isolation, and a second one in the shared database.
async fn fleet(world: &World<'_>) -> Vec<Tenant> {
    let mut tenants = Vec::new();
    for (slug, isolation) in [
        ("one", Isolation::Schema),
        ("two", Isolation::Schema),
        ("three", Isolation::Database),
        ("four", Isolation::Cluster),
    ] {
        tenants.push(world.tenant(slug).isolation(isolation).await);
    }
    tenants
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_more_reaches_tenants_of_every_isolation() {
    for admin in Admin::ALL {
        let world = World::builder().admin(admin).dedicated(1).start().await;
        let tenants = fleet(&world).await;
        for tenant in &tenants {
            world.connect(tenant).await.run(&format!("INSERT INTO notes (body) VALUES ('of {}')", tenant.slug)).await;
        }
        let next =
            files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer NOT NULL DEFAULT 3;\n");
        let set = world.push("next", &next).await;
        assert_eq!(set.promoted_at, None);
        let rollout = world.begin_rollout(&set).await;
        let rollout = world.rolled_out(rollout.id).await;
        assert_eq!((rollout.state, rollout.counts.applied, rollout.counts.total()), (RolloutState::Succeeded, 4, 4));
        for target in targets(&world, rollout.id, Some(TargetState::Applied)).await {
            let versions = (target.from_version.map(|version| version.0), target.to_version.map(|version| version.0));
            assert_eq!(versions, (Some(3), Some(4)), "{target:?}");
        }
        for tenant in &tenants {
            assert_eq!(world.show(tenant).await.schema_version.0, 4);
            assert_eq!(world.route(tenant).await.schema_version.0, 4);
            let session = world.connect(tenant).await;
            let own = session.texts("SELECT body || ' ' || stars FROM notes ORDER BY id").await;
            assert_eq!(own, ["the first note 3".to_owned(), format!("of {} 3", tenant.slug)]);
            session.run("UPDATE notes SET stars = 5").await;
        }
        // The set is what new tenants start with from now on.
        assert!(world.client().show_migration_set(&set.id).await.unwrap().promoted_at.is_some());
        let born_later = world.tenant("five").isolation(Isolation::Database).await;
        assert_eq!(born_later.schema_version.0, 4);
        assert_eq!(world.connect(&born_later).await.one::<i32>("SELECT stars FROM notes").await, 3);

        // Once more there is nothing to do, and nobody is connected to.
        let again = world.begin_rollout(&set).await;
        let again = world.rolled_out(again.id).await;
        assert_eq!((again.state, again.counts.already, again.counts.total()), (RolloutState::Succeeded, 5, 5));
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_fails_is_told_with_tenant_file_line_and_postgresqls_words() {
    let world = World::builder().dedicated(1).start().await;
    let tenants = fleet(&world).await;
    // It fails where the data says so: for one tenant of the four.
    world.connect(&tenants[1]).await.run("INSERT INTO notes (body) VALUES ('')").await;
    let next = files::notes_and(
        "V4__no_empty_notes.sql",
        "-- Nobody writes empty notes.\nCREATE TABLE left_behind (a int);\n\
         ALTER TABLE notes\n    ADD CONSTRAINT notes_say_something CHECK (body <> '');\n",
    );
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    let failed = world.rolled_out(rollout.id).await;
    assert_eq!((failed.state, failed.counts.applied, failed.counts.failed), (RolloutState::Failed, 3, 1));
    let broken = targets(&world, rollout.id, Some(TargetState::Failed)).await;
    assert_eq!(broken.iter().map(|target| target.tenant).collect::<Vec<_>>(), [tenants[1].id]);
    let error = broken[0].error.clone().unwrap();
    assert_eq!((&error["file"], &error["sqlstate"]), (&json!("V4__no_empty_notes.sql"), &json!("23514")));
    assert_eq!(error["line"], 3, "the statement's first line: {error}");
    assert!(error["message"].as_str().unwrap().contains("notes_say_something"), "{error}");

    // Nothing of the file is left in the tenant that refused it, and the set is nobody's default.
    let session = world.connect(&tenants[1]).await;
    assert_eq!(session.refusal("SELECT FROM left_behind").await, "42P01");
    assert_eq!(world.show(&tenants[1]).await.schema_version.0, 3);
    assert!(world.client().show_migration_set(&set.id).await.unwrap().promoted_at.is_none());
    assert_eq!(world.tenant("five").await.schema_version.0, 3);

    // The data is mended, and only those that failed are taken up again.
    session.run("DELETE FROM notes WHERE body = ''").await;
    world.client().retry_rollout(rollout.id).await.unwrap();
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.failed), (RolloutState::Succeeded, 0), "{ended:?}");
    for target in targets(&world, rollout.id, None).await {
        assert_eq!(target.to_version.map(|version| version.0), Some(4), "{target:?}");
    }
    for tenant in &tenants {
        assert_eq!(world.show(tenant).await.schema_version.0, 4);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_set_goes_on_where_the_broken_one_stopped() {
    let world = World::start().await;
    let (one, two) = (world.tenant("one").await, world.tenant("two").isolation(Isolation::Database).await);
    let mut files = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    files.push(("V5__broken.sql".to_owned(), "CREATE TABLE more (\n    a int,\n    b nonsense\n);\n".to_owned()));
    let broken = world.push("broken", &files).await;
    let rollout = world.begin_rollout(&broken).await;
    let failed = world.rolled_out(rollout.id).await;
    assert_eq!((failed.state, failed.counts.failed), (RolloutState::Failed, 2));
    for target in targets(&world, rollout.id, None).await {
        let error = target.error.unwrap();
        assert_eq!((&error["file"], &error["line"]), (&json!("V5__broken.sql"), &json!(3)), "{error}");
        assert_eq!(error["message"], "type \"nonsense\" does not exist");
    }
    for tenant in [&one, &two] {
        assert_eq!(world.show(tenant).await.schema_version.0, 4, "what went well before stays");
    }
    files[4].1 = "CREATE TABLE more (a int);\n".to_owned();
    let mended = world.push("mended", &files).await;
    let rollout = world.begin_rollout(&mended).await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.applied), (RolloutState::Succeeded, 2));
    for tenant in [&one, &two] {
        assert_eq!(world.connect(tenant).await.one::<i64>("SELECT count(*) FROM more").await, 0);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_born_during_a_rollout_end_at_its_version() {
    let world = World::start().await;
    for number in 0..4 {
        world.tenant(&format!("old-{number}")).await;
    }
    // One tenant's reader holds the rollout up until the others are born.
    let held = world.tenant("held").await;
    let reader = world.connect(&held).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    for number in 0..2 {
        let isolation = if number % 2 == 0 { Isolation::Schema } else { Isolation::Database };
        let born = world.tenant(&format!("new-{number}")).isolation(isolation).await;
        assert!(born.schema_version.0 >= 3);
    }
    assert!(!world.client().show_rollout(rollout.id).await.unwrap().state.is_finished());
    reader.run("COMMIT").await;
    let ended = world.rolled_out(rollout.id).await;
    assert_eq!((ended.state, ended.counts.total()), (RolloutState::Succeeded, 7), "{ended:?}");
    let tenants = world.wire().get("/v1/tenants").await.ok();
    for tenant in tenants.json["items"].as_array().unwrap() {
        assert_eq!(tenant["schema_version"], 4, "{tenant}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_paused_resumed_and_aborted() {
    let world = World::start().await;
    let held = world.tenant("held").await;
    let reader = world.connect(&held).await;
    reader.run("BEGIN; SELECT FROM notes").await;
    let wire = world.wire();
    let next = files::notes_and("V4__stars.sql", "ALTER TABLE notes ADD COLUMN stars integer;\n");
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    let path = |verb: &str| format!("/v1/rollouts/{}/{verb}", rollout.id);
    let second = wire.post("/v1/rollouts", &json!({ "migration_set": set.id.to_string() })).await;
    second.problem(409, "conflict");
    let state = |answer: tenantry_tests::Answer| answer.ok().json["state"].clone();
    assert_eq!(state(wire.post(&path("pause"), &json!({})).await), "paused");
    wire.post(&path("pause"), &json!({})).await.problem(409, "invalid_state");
    assert_ne!(state(wire.post(&path("resume"), &json!({})).await), "paused");
    assert_eq!(state(wire.post(&path("abort"), &json!({})).await), "aborted");
    wire.post(&path("resume"), &json!({})).await.problem(409, "invalid_state");
    reader.run("COMMIT").await;
    // An aborted rollout is no obstacle to the next.
    let again = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(again.id).await.state, RolloutState::Succeeded);
    assert_eq!(world.show(&held).await.schema_version.0, 4);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_products_schema_comes_to_every_isolation() {
    let world = World::builder().migrations(files::sample()).dedicated(1).start().await;
    let mut next = files::sample();
    next.push((tenantry_sample::NEXT_MIGRATION.0.to_owned(), tenantry_sample::NEXT_MIGRATION.1.to_owned()));
    let latest = i64::try_from(next.len()).unwrap();
    let tenants = fleet(&world).await;
    assert!(tenants.iter().all(|tenant| tenant.schema_version.0 == latest - 1));
    let set = world.push("next", &next).await;
    let rollout = world.begin_rollout(&set).await;
    assert_eq!(world.rolled_out(rollout.id).await.state, RolloutState::Succeeded);
    let mut shapes = Vec::new();
    for tenant in &tenants {
        let session = world.connect(tenant).await;
        let shape = session
            .texts(
                "SELECT relkind::text || ' ' || relname FROM pg_class WHERE relnamespace = current_schema::regnamespace
                 UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = current_schema::regnamespace
                 ORDER BY 1",
            )
            .await;
        shapes.push(shape);
    }
    assert!(shapes[0].len() > 20);
    assert!(shapes.windows(2).all(|pair| pair[0] == pair[1]), "{shapes:#?}");
    world.end().await;
}
