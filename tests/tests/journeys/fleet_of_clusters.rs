//! Clusters as an operator runs them: checked before they are taken in, grouped by region, full, away, and emptied.

use futures::future::join_all;
use serde_json::{Value, json};
use tenantry_api::{ClusterRef, DrainQuery};
use tenantry_control::reconcilers;
use tenantry_domain::{ClusterLimits, ClusterState, HealthState, Isolation, Region};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Admin, Program, World};

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

fn codes(considered: &Value, cluster: &str) -> Vec<String> {
    let all = considered.as_array().expect("clusters");
    let one = all.iter().find(|it| it["cluster"]["name"] == cluster).expect("the cluster");
    let refusals = one["refusals"].as_array().expect("refusals");
    refusals.iter().map(|it| it["code"].as_str().expect("a code").to_owned()).collect()
}

/// Looks at every cluster now.
async fn look(world: &World<'_>) {
    reconcilers::poke(world.replicas()[0].control(), "cluster_health").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_that_come_at_once_take_the_ten_places_there_are() {
    let limits = ClusterLimits { tenants: 10, ..ClusterLimits::default() };
    let world = World::builder().limits(limits).without_migrations().start().await;
    let wire = world.wire();
    let come = (0..50).map(|number| {
        let wire = wire.clone();
        async move { wire.post("/v1/tenants", &json!({ "slug": format!("t{number}"), "isolation": "schema" })).await }
    });
    let answers = join_all(come).await;
    let begun: Vec<_> = answers.iter().filter(|answer| answer.status == 202).collect();
    assert_eq!(begun.len(), 10);
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        answer.problem(409, "no_capacity");
        assert!(answer.json["detail"].as_str().unwrap().contains("10 of 10"), "{}", answer.text);
    }
    for answer in begun {
        let operation = answer.json["operation"]["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(world.settled(operation).await.state.as_str(), "succeeded");
    }
    let shown = wire.get("/v1/clusters/main").await.ok();
    assert_eq!((&shown.json["usage"]["homes"], &shown.json["usage"]["connections"]), (&json!(10), &json!(100)));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_a_region_group_lives_in_any_of_its_regions_and_the_group_keeps_them() {
    let mut world = World::start().await;
    let far = world.add_cluster("far", Admin::Superuser, |wish| wish.region = region("eu-west-1")).await;
    let wire = world.wire();
    let group = json!({ "regions": ["eu-west-1", "eu-central-1"] });
    let refused = wire.post("/v1/tenants", &json!({ "slug": "early", "region": "eu" })).await;
    assert_eq!(refused.problem(400, "invalid_request"), ["/region"]);
    let made = wire.put("/v1/region-groups/eu", &group).await;
    assert_eq!((made.status, &made.json["regions"]), (201, &json!(["eu-central-1", "eu-west-1"])));
    assert_eq!(wire.put("/v1/region-groups/eu", &group).await.status, 200, "the same again changes nothing");
    wire.put("/v1/region-groups/local", &group).await.problem(409, "conflict");
    wire.put("/v1/region-groups/both", &json!({ "regions": ["eu"] })).await.problem(400, "invalid_request");
    wire.put("/v1/region-groups/none", &json!({ "regions": [] })).await.problem(400, "invalid_request");

    let tenant = world.tenant("acme").with(|it| it.region = Some(region("eu"))).await;
    assert_eq!(tenant.cluster, Some(far.id));
    let elsewhere = json!({ "slug": "elsewhere", "region": "eu", "cluster": "main" });
    wire.post("/v1/tenants", &elsewhere).await.problem(422, "residency_violation");

    let shrunk = wire.put("/v1/region-groups/eu", &json!({ "regions": ["eu-central-1"] })).await;
    shrunk.problem(422, "residency_violation");
    assert!(shrunk.json["detail"].as_str().unwrap().contains("`acme` in `eu-west-1`"), "{}", shrunk.text);
    wire.delete("/v1/region-groups/eu").await.problem(409, "conflict");
    let stale =
        wire.header("if-match", "\"1\"").put("/v1/region-groups/eu", &json!({ "regions": ["eu-west-1"] })).await;
    stale.problem(412, "precondition_failed");
    assert_eq!(wire.put("/v1/region-groups/eu", &json!({ "regions": ["eu-west-1"] })).await.status, 200);
    world.delete(&tenant).await;
    assert_eq!(wire.delete("/v1/region-groups/eu").await.status, 204);
    wire.get("/v1/region-groups/eu").await.problem(404, "not_found");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_decides_everything_and_records_nothing() {
    let mut world = World::start().await;
    world.add_cluster("far", Admin::Superuser, |wish| wish.region = region("elsewhere")).await;
    world.add_cluster("own", Admin::Superuser, |wish| wish.tenancy = tenantry_domain::Tenancy::Dedicated).await;
    let wire = world.wire();
    let wish = json!({ "slug": "acme", "plan": "team", "region": "local", "overrides": { "connections": 7 } });
    let preview = wire.post("/v1/tenants?dry_run=true", &wish).await.ok().json;
    let placement = &preview["placement"];
    assert_eq!((&preview["slug"], &placement["plan"]), (&json!("acme"), &json!("team")));
    assert_eq!((&placement["is_possible"], &placement["cluster"]["name"]), (&json!(true), &json!("main")));
    assert_eq!((&placement["isolation"], &placement["limits"]["connections"]), (&json!("database"), &json!(7)));
    assert_eq!(codes(&placement["considered"], "main"), Vec::<String>::new());
    assert_eq!(codes(&placement["considered"], "far"), ["region"]);
    assert_eq!(codes(&placement["considered"], "own"), ["tenancy"]);
    let nowhere =
        json!({ "slug": "acme", "isolation": "database", "region": "local", "overrides": { "connections": 9999 } });
    let refused = wire.post("/v1/tenants?dry_run=true", &nowhere).await.ok().json;
    assert_eq!((&refused["placement"]["is_possible"], &refused["placement"]["cluster"]), (&json!(false), &Value::Null));
    assert_eq!(codes(&refused["placement"]["considered"], "main"), ["ceiling"]);
    let bad = json!({ "slug": "acme", "plan": "platinum" });
    assert_eq!(wire.post("/v1/tenants?dry_run=true", &bad).await.problem(400, "invalid_request"), ["/plan"]);
    wire.post("/v1/tenants?dry_run=true", &json!({ "slug": "acme", "isolation": "row" }))
        .await
        .problem(400, "invalid_request");

    let catalog = world.catalog_client().await;
    for table in ["tenant", "operation", "home", "route"] {
        let counted: i64 = catalog.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
        assert_eq!(counted, 0, "{table}");
    }
    drop(catalog);
    // The slug is free, and the decision stands when it is meant.
    let program = Program::new(&world.url(), world.token());
    let shown =
        program.run(["tenant", "create", "acme", "--plan", "team", "--region", "local", "--dry-run"]).await.ok();
    assert!(shown.stdout.contains("main") && shown.stdout.contains("chosen"), "{}", shown.stdout);
    let acme = world.tenant("acme").plan("team").with(|it| it.region = Some(region("local"))).await;
    assert_eq!(acme.cluster, Some(world.main_cluster().id));
    let asked = wire.get("/v1/placement/explain?plan=enterprise&region=local").await.ok().json;
    assert_eq!(asked["cluster"]["name"], "own");
    let refused = program.run(["placement", "explain", "--region", "elsewhere", "--isolation", "cluster"]).await;
    assert_eq!(refused.code(), Some(1));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_one_group_keep_apart_and_children_follow_their_parent() {
    let mut world = World::start().await;
    let other = world.add_cluster("other", Admin::Superuser, |_| ()).await;
    let wire = world.wire();
    let strictly = |slug: &str| {
        json!({ "slug": slug, "labels": { "group": "skyteam" },
                "affinity": { "apart": { "label": "group", "required": true } } })
    };
    let mut clusters = Vec::new();
    for slug in ["a", "b"] {
        let made = wire.post("/v1/tenants?wait=60", &strictly(slug)).await.ok().json;
        clusters.push(made["tenant"]["cluster"].as_str().unwrap().to_owned());
    }
    assert_ne!(clusters[0], clusters[1]);
    let third = wire.post("/v1/tenants", &strictly("c")).await;
    third.problem(409, "no_capacity");
    assert!(third.json["detail"].as_str().unwrap().contains("group=skyteam"), "{}", third.text);
    let unlabelled = json!({ "slug": "d", "affinity": { "apart": { "label": "group", "required": true } } });
    assert_eq!(wire.post("/v1/tenants", &unlabelled).await.problem(400, "invalid_request"), ["/labels"]);

    let parent = world.tenant("parent").with(|it| it.cluster = Some(other.id.into())).await;
    for slug in ["child", "second"] {
        let wish = json!({ "slug": slug, "parent": "parent", "affinity": { "with_parent": true } });
        let made = wire.post("/v1/tenants?wait=60", &wish).await.ok().json;
        assert_eq!(made["tenant"]["cluster"], json!(parent.cluster));
        let tenant = world.client().show_tenant(&slug.parse().unwrap()).await.unwrap().value;
        world.delete(&tenant).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_tenant_keeps_apart_from_can_be_changed_and_counts_from_then_on() {
    let mut world = World::start().await;
    let other = world.add_cluster("other", Admin::Superuser, |_| ()).await;
    let main: ClusterRef = world.main_cluster().id.into();
    let (wire, program) = (world.wire(), Program::new(&world.url(), world.token()));
    for (slug, cluster) in [("a", "main"), ("b", "main"), ("c", "other")] {
        let wish = json!({ "slug": slug, "cluster": cluster, "labels": { "group": "skyteam" } });
        wire.post("/v1/tenants?wait=60", &wish).await.ok();
    }
    let goes = async |slug: &str| {
        let plan = world.client().drain_cluster(&main, &DrainQuery { dry_run: true, limit: None }).await.unwrap();
        plan.moves.into_iter().find(|it| it.slug.as_str() == slug).unwrap()
    };
    let differences = async || {
        let told = wire.get("/v1/tenants/a/explain").await.ok().json["differences"].clone();
        serde_json::from_value::<Vec<String>>(told).unwrap()
    };
    assert_eq!(goes("a").await.to.map(|to| to.id), Some(other.id));
    assert_eq!(differences().await, Vec::<String>::new());

    let shown = program.json(["tenant", "update", "a", "--strictly-apart", "group"]).await;
    assert_eq!(shown["affinity"], json!({ "apart": { "label": "group", "required": true } }));
    let shown = program.json(["tenant", "update", "a", "--with-parent"]).await;
    let whole = json!({ "apart": { "label": "group", "required": true }, "with_parent": true });
    assert_eq!(shown["affinity"], whole, "what is not named stays");
    assert!(!goes("a").await.is_possible && goes("b").await.is_possible, "{:?}", goes("a").await);
    assert!(matches!(&differences().await[..], [one] if one.contains("group=skyteam")), "{:?}", differences().await);
    // Where it lives it may stay.
    assert_eq!(wire.get("/v1/tenants/a").await.ok().json["cluster"], json!(world.main_cluster().id));
    let log = wire.get("/v1/audit-log?tenant=a&limit=1").await.ok();
    assert_eq!(log.json["items"][0]["after"]["affinity"], whole, "{}", log.text);

    // What would leave it without any place to go is refused, by whichever field brings it about.
    let lost = wire.patch("/v1/tenants/a", &json!({ "labels": { "group": null } })).await;
    assert_eq!(lost.problem(400, "invalid_request"), ["/labels"]);
    let apart = json!({ "affinity": { "apart": { "label": "rack", "required": true } } });
    assert_eq!(wire.patch("/v1/tenants/a", &apart).await.problem(400, "invalid_request"), ["/affinity"]);
    for (bad, pointer) in [
        (json!({ "affinity": { "apart": { "label": "Not A Key" } } }), "/affinity/apart/label"),
        (json!({ "affinity": { "beside": "b" } }), "/affinity/beside"),
    ] {
        assert_eq!(wire.patch("/v1/tenants/a", &bad).await.problem(400, "invalid_request"), [pointer]);
    }
    let a = world.client().show_tenant(&"a".parse().unwrap()).await.unwrap().value;
    let bound = world.token_with(&[tenantry_domain::Scope::Admin], Some(&a)).await;
    wire.token(&bound).patch("/v1/tenants/a", &json!({ "affinity": null })).await.problem(403, "forbidden");
    assert_eq!(wire.get("/v1/tenants/a").await.ok().json["affinity"], whole);

    // A plan may come to ask for a label that some of its tenants lack: those stay, and the others are planned.
    program.json(["plan", "create", "racked", "--isolation", "schema", "--apart", "rack"]).await;
    program.json(["tenant", "update", "b", "--plan", "racked"]).await;
    program.json(["plan", "update", "racked", "--strictly-apart", "rack"]).await;
    assert!(goes("b").await.reason.is_some_and(|reason| reason.contains("rack")));
    program.json(["tenant", "update", "b", "--label", "colour=red"]).await;

    program.json(["tenant", "update", "a", "--remove-affinity"]).await;
    assert_eq!(goes("a").await.to.map(|to| to.id), Some(other.id));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_away_takes_no_new_homes_and_stands_in_nobodys_way() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let mut world = World::builder().homes_on(&server).homes_at(socket.address()).start().await;
    let other = world.add_cluster("other", Admin::Superuser, |_| ()).await;
    let main: ClusterRef = world.main_cluster().id.into();
    let state = async || world.client().show_cluster(&main).await.unwrap().value.health.state;
    look(&world).await;
    eventually("it is looked at", async || state().await == HealthState::Healthy).await;
    let health = world.client().show_cluster(&main).await.unwrap().value.health;
    let observed = health.observed.expect("figures");
    assert!(observed.connections_open > 0 && observed.connections_max > observed.connections_open);
    assert!(health.checks.iter().any(|check| check.name == "wal_level"), "{:?}", health.checks);

    socket.go_down();
    look(&world).await;
    eventually("its silence is noticed", async || state().await == HealthState::Unreachable).await;
    let away = world.client().show_cluster(&main).await.unwrap().value.health;
    assert!(away.failures >= 1 && away.error.is_some() && away.observed.is_some());
    let pinned = world.wire().post("/v1/tenants", &json!({ "slug": "pinned", "cluster": "main" })).await;
    pinned.problem(409, "no_capacity");
    assert!(pinned.json["detail"].as_str().unwrap().contains("does not answer"), "{}", pinned.text);
    let acme = world.tenant("acme").await;
    assert_eq!(acme.cluster, Some(other.id));

    socket.come_up();
    look(&world).await;
    eventually("it is back", async || state().await == HealthState::Healthy).await;
    let back = world.tenant("back").await;
    assert_eq!(back.cluster, Some(world.main_cluster().id));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_is_tried_first_and_every_check_is_told() {
    let world = World::start().await;
    let server = Server::own().await;
    let (wire, port) = (world.wire(), server.address().port());
    let wish = |password: &str| {
        json!({ "name": "new", "region": "local", "tenancy": "shared", "host": "127.0.0.1", "port": port,
                "user": server.cluster().user(), "password": password })
    };
    let preview = wire.post("/v1/clusters?dry_run=true", &wish(server.cluster().password())).await.ok().json;
    assert_eq!(preview["is_accepted"], true, "{preview:#}");
    let checks = preview["checks"].as_array().unwrap();
    let verdict = |name: &str| checks.iter().find(|it| it["name"] == name).map(|it| it["verdict"].clone());
    for name in ["connection", "tls", "server_version", "privileges", "encoding", "connections", "not_registered"] {
        assert_eq!(verdict(name), Some(json!("passed")), "{name}");
    }
    assert_eq!(verdict("public_access"), Some(json!("warning")), "nothing was closed yet");
    let open = "SELECT has_database_privilege('public', 'postgres', 'CONNECT')";
    let root = server.connect("postgres").await;
    assert!(root.query_one(open, &[]).await.unwrap().get::<_, bool>(0), "a dry run closes nothing");
    let wrong = wire.post("/v1/clusters?dry_run=true", &wish("no such password")).await.ok();
    assert_eq!((&wrong.json["is_accepted"], wrong.text.contains("no such password")), (&json!(false), false));
    assert_eq!(wire.get("/v1/clusters").await.ok().json["items"].as_array().unwrap().len(), 1);

    // One that lacks every right is told all of them at once.
    let guest = server.admin_without_superuser().await;
    root.batch_execute(&format!("ALTER ROLE \"{}\" NOCREATEDB NOCREATEROLE", guest.name)).await.unwrap();
    let mut weak = wish(&guest.password);
    weak["user"] = json!(guest.name);
    let refused = wire.post("/v1/clusters", &weak).await;
    refused.problem(400, "invalid_request");
    let detail = refused.json["detail"].as_str().unwrap();
    assert!(detail.contains("CREATEDB") && detail.contains("CREATEROLE"), "{detail}");
    // The catalog's server is known by its identity, whatever address it has.
    let main = world.server();
    let again = json!({ "name": "again", "region": "local", "tenancy": "shared", "host": "127.0.0.1",
                        "port": main.address().port(), "user": main.cluster().user(),
                        "password": main.cluster().password() });
    let known = wire.post("/v1/clusters?dry_run=true", &again).await.ok().json;
    let known = known["checks"].as_array().unwrap().iter().find(|it| it["name"] == "not_registered").unwrap().clone();
    assert!(known["verdict"] == "failed" && known["found"].as_str().unwrap().contains("`main`"), "{known}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_plans_where_each_would_go_and_uncordoning_takes_it_back() {
    let mut world = World::start().await;
    let mut made = Vec::new();
    for number in 0..3 {
        made.push(world.tenant(&format!("t{number}")).isolation(Isolation::Database).await);
    }
    let small = ClusterLimits { tenants: 2, ..ClusterLimits::default() };
    let other = world.add_cluster("other", Admin::Superuser, |wish| wish.limits = Some(small)).await;
    let main: ClusterRef = world.main_cluster().id.into();
    let tried = world.client().drain_cluster(&main, &DrainQuery { dry_run: true, limit: None }).await.unwrap();
    assert_eq!((tried.cluster.state, tried.tenants, tried.placeable), (ClusterState::Active, 3, 2));
    assert!(!tried.moves[0].is_possible && tried.moves[0].reason.as_ref().unwrap().contains("2 of 2"));
    assert!(tried.moves[1..].iter().all(|it| it.to.as_ref().is_some_and(|to| to.id == other.id)), "{tried:?}");
    let drained = world.client().drain_cluster(&main, &DrainQuery::default()).await.unwrap();
    assert_eq!(drained.cluster.state, ClusterState::Draining);
    assert_eq!(drained.moves, tried.moves);
    assert_eq!(world.tenant("late").await.cluster, Some(other.id), "a draining cluster takes nobody");
    for tenant in &made {
        assert_eq!(world.show(tenant).await.cluster, Some(world.main_cluster().id), "nothing moves");
    }
    world.client().uncordon_cluster(&main).await.unwrap();
    assert_eq!(
        world.tenant("later").with(|it| it.cluster = Some(main.clone())).await.cluster,
        Some(world.main_cluster().id)
    );
    world.end().await;
}
