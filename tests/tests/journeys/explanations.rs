//! One tenant explained, and where it is not as it should be.

use serde_json::json;
use tenantry_control::reconcilers;
use tenantry_domain::{FeedVersion, Isolation, Limits, Pooling};
use tenantry_testkit::eventually;
use tenantry_tests::{Program, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_tells_intention_observation_and_where_they_differ() {
    let world = World::start().await;
    let acme = world.tenant("acme").isolation(Isolation::Database).await;
    let told = world.client().explain_tenant(&acme.id.into()).await.unwrap();
    assert_eq!(told.differences, [""; 0], "{:?}", told.observed);
    assert_eq!(told.observed.unseen, [""; 0]);
    assert_eq!((told.observed.database, told.observed.schema), (Some(true), Some(true)));
    assert_eq!(told.observed.schema_version, Some(acme.schema_version));
    assert_eq!(told.observed.stamped_generation, Some(acme.generation));
    assert_eq!(told.observed.roles.as_ref().map(Vec::len), Some(6));
    let placement = told.placement.as_ref().expect("a place");
    assert_eq!(Some(placement.cluster), acme.cluster);
    assert!(placement.reason.contains("main"), "{}", placement.reason);
    assert!(told.resources.iter().any(|it| it.kind == "database" && it.state == "created"), "{:?}", told.resources);
    let provision = &told.operations[0];
    assert_eq!(provision.timeline.first().map(|event| event.kind.as_str()), Some("queued"));
    assert!(provision.timeline.iter().any(|event| event.kind == "succeeded"), "{:?}", provision.timeline);

    // A router that is behind, and a stamp that was changed by hand.
    let route = told.route.expect("a route");
    let behind = json!({ "applied_version": route.version.0 - 1, "routes": 1, "pools": 0 });
    world.wire().post("/v1/routers/one/report", &behind).await.ok();
    let inside = world.root(world.main_cluster(), placement.database.as_str()).await;
    inside.batch_execute("UPDATE tenantry.stamp SET generation = 7").await.unwrap();
    let told = world.client().explain_tenant(&acme.id.into()).await.unwrap();
    let all = told.differences.join("\n");
    for expected in ["router `one`", "stamp is of generation 7"] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
    assert_eq!(told.routers.iter().map(|it| it.has_route).collect::<Vec<_>>(), [false]);
    assert!(told.feed_version >= FeedVersion(route.version.0));

    let program = Program::new(&world.url(), world.token());
    let said = program.run(["tenant", "explain", "acme"]).await.ok().stdout;
    for expected in ["differs", "why there", "stamp is of generation 7", "h_"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    inside.batch_execute("UPDATE tenantry.stamp SET generation = 1").await.unwrap();
    drop(inside);
    world.delete(&acme).await;
    let told = world.client().explain_tenant(&acme.id.into()).await.unwrap();
    assert_eq!((told.differences.len(), told.placement, told.resources.len()), (0, None, 0));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_tells_what_a_pool_lacks_and_where_one_is_asked_for_in_vain() {
    let mut world = World::start().await;
    let pooling = Limits { shared_pooling: Some(true), ..Limits::default() };
    let make = async |slug: &str, isolation| {
        world.tenant(slug).isolation(isolation).with(|create| create.overrides = pooling.into()).await
    };
    let (pooled, apart) = (make("pooled", Isolation::Schema).await, make("apart", Isolation::Database).await);
    eventually("it is pooled", async || world.route(&pooled).await.pooling == Pooling::Shared).await;
    // Nobody sets right what is broken next.
    world.rest().await;
    let told = world.client().explain_tenant(&apart.id.into()).await.unwrap();
    let expected = "the limit `shared_pooling=true` has no effect: the tenant's isolation is `database`";
    assert!(told.differences.len() == 1 && told.differences[0].starts_with(expected), "{:?}", told.differences);
    let told = world.client().explain_tenant(&pooled.id.into()).await.unwrap();
    assert_eq!((told.differences, told.observed.unseen), (Vec::new(), Vec::new()));

    let credential = world.route(&pooled).await.shared_credential.expect("a shared credential");
    let root = world.root(world.main_cluster(), "postgres").await;
    let role = credential.role.as_str();
    root.batch_execute(&format!("ALTER ROLE \"{role}\" PASSWORD 'mine'; GRANT pg_monitor TO \"{role}\""))
        .await
        .unwrap();
    let told = world.client().explain_tenant(&pooled.id.into()).await.unwrap();
    assert_eq!(told.differences, [format!("{role} is a member of pg_monitor"), format!("{role} has another password")]);
    world.add_replica(|_| ()).await;
    reconcilers::poke(world.replicas()[1].control(), "role_drift").await.unwrap();
    eventually("it is set right", async || {
        world.client().explain_tenant(&pooled.id.into()).await.unwrap().differences.is_empty()
    })
    .await;
    world.end().await;
}
