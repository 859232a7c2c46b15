//! What seals passwords: rotated while everything runs, and out of everybody's sight.

use tenantry_domain::{Isolation, Limits, Pooling, Scope};
use tenantry_testkit::{Server, eventually};
use tenantry_tests::{Program, Serve, World};

const NEXT: &str = "2:3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c";

#[tokio::test(flavor = "multi_thread")]
async fn a_master_key_is_rotated_online_once_every_replica_has_the_next_one() {
    // Homes on a server of their own: `serve` keeps tenants off the catalog's.
    let homes = Server::own().await;
    let mut world = World::builder().homes_on(&homes).start().await;
    let pooling = Limits { shared_pooling: Some(true), ..Limits::default() };
    let acme = world.tenant("acme").isolation(Isolation::Schema).with(|create| create.overrides = pooling.into()).await;
    let mut before = world.route(&acme).await;
    eventually("it is pooled", async || {
        before = world.route(&acme).await;
        before.pooling == Pooling::Shared
    })
    .await;
    // A second replica comes with both keys; the first, within this process, has the old one only.
    let keys = format!("{},{NEXT}", world.catalog().1.expose());
    let serve = Serve::start_with(&world, &[("TENANTRY__SECRETS__MASTER_KEYS", &keys)]).await;
    let program = Program::new(serve.url(), world.token());
    let refused = program.run(["secrets", "rotate-master"]).await;
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("lack master key version 2"), "{}", refused.stderr);

    world.take_replica(0).stop().await;
    world.use_door(serve.url());
    let rotated = program.json(["secrets", "rotate-master"]).await;
    assert_eq!((rotated["current_version"].as_i64(), rotated["pending"].as_i64()), (Some(2), Some(0)), "{rotated}");
    let old = &rotated["master_keys"][0];
    assert_eq!((old["version"].as_i64(), old["is_removable"].as_bool()), (Some(1), Some(true)), "{rotated}");
    let after = world.route(&acme).await;
    assert_eq!(after.credential, before.credential, "the passwords are the same");
    assert_eq!(after.shared_credential, before.shared_credential, "the pool's, too");
    world.connect(&acme).await.run("SELECT 1").await;
    world.tenant("later").await;
    let again = program.run(["secrets", "rotate-master"]).await.ok();
    assert!(again.stderr.contains("Remove version 1"), "{}", again.stderr);
    let log = world.wire().get("/v1/audit-log?action=master_key.rotate").await.ok();
    assert_eq!(log.json["items"].as_array().unwrap().len(), 1, "what changed nothing is no entry: {}", log.text);

    // From now on the new key alone is enough, and the old one alone is refused.
    assert!(serve.terminate().await.success());
    let serve = Serve::start_with(&world, &[("TENANTRY__SECRETS__MASTER_KEYS", NEXT)]).await;
    world.use_door(serve.url());
    world.connect(&acme).await.run("SELECT 1").await;
    assert_eq!(world.route(&acme).await.shared_credential, before.shared_credential);
    let narrow = world.token_with(&[Scope::RoutesRead], None).await;
    let denied = world.wire().token(&narrow).get("/v1/secrets").await;
    denied.problem(403, "forbidden");
    world.end().await;
    assert!(serve.terminate().await.success());
}
