//! Operations as people see and decide them.

use std::time::Duration;

use serde_json::json;
use tenantry_api::{
    CreateTenant, DecideOperation, ListAuditLog, ListOperationEvents, ListOperations, TenantWithOperation,
};
use tenantry_domain::{Isolation, OperationKind, OperationState, Reason, Slug, TenantStatus};
use tenantry_testkit::{BreakableSocket, Server};
use tenantry_tests::World;

/// Begins to make a tenant, and takes its server away in the middle of that.
async fn interrupted(world: &World<'_>, socket: &BreakableSocket) -> TenantWithOperation {
    world.tenant("first").await;
    let sprung = socket.sprung();
    socket.lose_reply_with("CREATE DATABASE");
    let create =
        CreateTenant { isolation: Some(Isolation::Database), ..CreateTenant::new(Slug::parse("second").unwrap()) };
    let begun = world.client().create_tenant(&create, None).await.unwrap();
    socket.wait_sprung(sprung + 1).await;
    socket.go_down();
    begun
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_says_by_whom_and_why_wherever_somebody_looks() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder()
        .homes_on(&server)
        .homes_at(socket.address())
        .configure(|config| config.attempts_max = 2)
        .start()
        .await;
    let begun = interrupted(&world, &socket).await;
    let parked = world.settled(begun.operation.id).await;
    assert_eq!(parked.state, OperationState::Parked, "{parked:?}");
    assert!(parked.deadline_at.is_some_and(|deadline| deadline > parked.created_at), "{parked:?}");

    let wire = world.wire();
    assert_eq!(wire.get("/readyz").await.ok().json, json!({ "parked_operations": 1 }));
    let metrics = wire.get("/metrics").await.ok().text;
    assert!(metrics.contains(r#"tenantry_operations_parked{kind="provision"} 1"#), "{metrics}");

    let path = format!("/v1/operations/{}/abandon", parked.id);
    wire.post(&path, &json!({ "reason": "two\nlines" })).await.problem(400, "invalid_request");
    wire.post(&path, &json!({ "because": "so" })).await.problem(400, "invalid_request");
    let decision = DecideOperation { reason: Some(Reason::parse("the rack burnt down").unwrap()) };
    let given_up = world.client().abandon_operation_because(parked.id, &decision).await.unwrap();
    assert_eq!(given_up.state, OperationState::Failed);
    let tenant = world.show(&begun.tenant).await;
    assert_eq!(tenant.status, TenantStatus::Failed);
    assert!(tenant.status_reason.as_ref().unwrap().contains("the rack burnt down"), "{tenant:?}");

    let timeline = world.client().list_operation_events(parked.id, &ListOperationEvents::default()).await.unwrap();
    let kinds: Vec<&str> = timeline.items.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 2], kinds[kinds.len() - 1]), ("queued", "decided", "abandoned"));
    let decided = &timeline.items[kinds.len() - 2].detail;
    assert_eq!((&decided["decision"], &decided["reason"]), (&json!("abandon"), &json!("the rack burnt down")));
    assert_eq!(timeline.next, None);
    let first = json!({ "limit": 1 });
    let first: ListOperationEvents = serde_json::from_value(first).unwrap();
    let first = world.client().list_operation_events(parked.id, &first).await.unwrap();
    let rest = ListOperationEvents { cursor: first.next.clone(), limit: None };
    let rest = world.client().list_operation_events(parked.id, &rest).await.unwrap();
    assert_eq!([first.items, rest.items].concat(), timeline.items);

    let audited = ListAuditLog { action: Some("operation.abandon".to_owned()), ..ListAuditLog::default() };
    let audited = world.client().list_audit_log(&audited).await.unwrap().items;
    let changes: Vec<_> = audited.iter().filter_map(|entry| entry.before.as_ref().zip(entry.after.as_ref())).collect();
    let [(before, after)] = changes.as_slice() else { panic!("{audited:?}") };
    assert_eq!((&before["state"], &after["state"]), (&json!("parked"), &json!("failed")));
    assert_eq!(after["reason"], "the rack burnt down");

    let since = |since| ListOperations { since: Some(since), ..ListOperations::default() };
    let listed = world.client().list_operations(&since(parked.created_at)).await.unwrap().items;
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [parked.id]);
    assert!(
        world.client().list_operations(&since("2199-01-01T00:00:00Z".parse().unwrap())).await.unwrap().items.is_empty()
    );
    socket.come_up();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_deadline_is_walked_back() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = World::builder()
        .homes_on(&server)
        .homes_at(socket.address())
        .configure(|config| {
            config.attempts_max = 1_000;
            config.deadlines = vec![(OperationKind::Provision, Duration::from_millis(2_500))];
        })
        .start()
        .await;
    let begun = interrupted(&world, &socket).await;
    tenantry_testkit::eventually("it walks back by itself", async || {
        world.client().show_operation(begun.operation.id).await.unwrap().state == OperationState::Undoing
    })
    .await;
    socket.come_up();
    let ended = world.settled(begun.operation.id).await;
    assert_eq!(ended.state, OperationState::Failed, "{ended:?}");
    let reason = ended.error.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("its deadline has passed"), "{reason}");
    world.assert_nothing_orphaned().await;
    world.end().await;
}
