//! Webhooks: every change is told to whoever wants to hear of it, however its receiver behaves and whoever is killed.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tenantry_api::{
    Client, Code, CommaSeparated, CreateTenant, CreateWebhook, ListDeliveries, RotateWebhookSecret, UpdateWebhook,
    WaitSeconds, Webhook, WebhookDelivery,
};
use tenantry_control::webhooks::WebhookConfig;
use tenantry_domain::{Access, DeliveryState, EventKind, Isolation, Scope, Secret, Slug, WebhookId};
use tenantry_testkit::{BreakableSocket, Server, eventually};
use tenantry_tests::{Behaviour, Program, Receiver, Serve, World, WorldBuilder};

/// Attempts follow each other closely, and hanging is soon noticed.
fn hasty() -> WebhookConfig {
    WebhookConfig {
        allow_loopback: true,
        timeout: Duration::from_millis(500),
        backoff: Duration::from_millis(10),
        ..WebhookConfig::default()
    }
}

fn world(config: WebhookConfig) -> WorldBuilder<'static> {
    World::builder().configure(move |control| control.webhooks = config.clone())
}

async fn subscribe(client: &Client, receiver: &Receiver, events: &[EventKind]) -> (Webhook, Secret) {
    let create = CreateWebhook { url: receiver.url(), description: String::new(), events: events.to_vec() };
    let created = client.create_webhook(&create).await.unwrap();
    (created.webhook, created.secret.into_secret())
}

async fn deliveries(client: &Client, webhook: WebhookId) -> Vec<WebhookDelivery> {
    client.list_deliveries(webhook, &ListDeliveries::default()).await.unwrap().items
}

fn half_a_minute() -> WaitSeconds {
    WaitSeconds::new(30).unwrap()
}

fn code(error: &tenantry_api::ClientError) -> Option<Code> {
    error.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_life_is_told_in_its_order_signed_and_as_it_was_then() {
    let world = world(hasty()).start().await;
    let receiver = Receiver::start().await;
    let (webhook, secret) = subscribe(world.client(), &receiver, &[]).await;
    // The first attempts are refused: what comes later waits.
    receiver.plan([Behaviour::Answer(500), Behaviour::Answer(429), Behaviour::Answer(302)]);
    let acme = world.tenant("acme").await;
    let taken = CreateTenant::new(Slug::parse("acme").unwrap());
    assert_eq!(code(&world.client().create_tenant(&taken, None).await.unwrap_err()), Some(Code::SlugTaken));
    world.delete(&acme).await;
    eventually("four events are taken", async || receiver.taken().len() >= 4).await;

    let taken = receiver.taken();
    let told: Vec<String> = taken.iter().map(tenantry_tests::Received::kind).collect();
    assert_eq!(told, ["tenant.created", "tenant.activated", "tenant.deleting", "tenant.deleted"]);
    let statuses: Vec<_> = taken.iter().map(|event| event.json()["tenant"]["status"].clone()).collect();
    assert_eq!(statuses, ["provisioning", "active", "deleting", "deleted"]);
    let sequences: Vec<i64> = taken.iter().map(|event| event.json()["sequence"].as_i64().unwrap()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    for event in &taken {
        assert!(event.is_signed_by(&secret), "{}", event.signature);
        assert!(!event.is_signed_by(&Secret::new("another".to_owned())));
        let body = event.json();
        assert_eq!((&body["version"], &body["tenant"]["slug"]), (&json!(1), &json!("acme")), "{body}");
        assert_eq!(body["tenant"]["id"], json!(acme.id));
        assert!(body["operation"]["kind"].is_string(), "{body}");
        let text = body.to_string();
        assert!(!text.contains("password") && !text.contains("SCRAM"), "{text}");
    }
    eventually("all are recorded as delivered", async || {
        let deliveries = deliveries(world.client(), webhook.id).await;
        deliveries.len() == 4 && deliveries.iter().all(|it| it.state == DeliveryState::Delivered)
    })
    .await;
    let listed = deliveries(world.client(), webhook.id).await;
    assert_eq!(listed.last().unwrap().attempts, 4, "{listed:?}");
    assert_eq!(listed.last().unwrap().status, Some(204));
    let ids: BTreeSet<String> = listed.iter().map(|delivery| delivery.id.to_string()).collect();
    assert_eq!(ids, taken.iter().map(|event| event.delivery.clone()).collect());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_fails_in_any_way_is_sent_the_same_delivery_until_it_takes_it() {
    let world = world(hasty()).start().await;
    let receiver = Receiver::start().await;
    let (webhook, _) = subscribe(world.client(), &receiver, &[]).await;
    receiver.plan([Behaviour::Answer(503), Behaviour::Redirect, Behaviour::Hang]);
    let begun = world.client().test_webhook(webhook.id, None).await.unwrap();
    eventually("it is taken", async || receiver.taken().len() == 1).await;
    let received = receiver.received();
    assert_eq!(received.len(), 4, "{received:?}");
    for request in &received {
        assert_eq!((request.path, request.delivery.as_str()), ("/hook", begun.id.to_string().as_str()));
        assert_eq!(request.kind(), "webhook.test");
        assert_eq!(request.body, received[0].body, "an attempt is like any other");
    }
    eventually("it is recorded", async || {
        deliveries(world.client(), webhook.id).await[0].state == DeliveryState::Delivered
    })
    .await;
    let failing = world.client().show_webhook(webhook.id).await.unwrap().failing_since;
    assert_eq!(failing, None);

    // What answers without an end is not read to its end.
    receiver.plan([Behaviour::Pour]);
    let poured = world.client().test_webhook(webhook.id, Some(half_a_minute())).await.unwrap();
    assert_eq!((poured.state, poured.status), (DeliveryState::Delivered, Some(200)));
    assert!(poured.response.unwrap().len() <= 500);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_listed_with_the_reason_and_sent_again_by_hand() {
    let config = WebhookConfig { give_up_after: Duration::ZERO, ..hasty() };
    let world = world(config).start().await;
    let receiver = Receiver::start().await;
    let (webhook, _) = subscribe(world.client(), &receiver, &[]).await;
    receiver.plan([Behaviour::Answer(500)]);
    let failed = world.client().test_webhook(webhook.id, Some(half_a_minute())).await.unwrap();
    assert_eq!((failed.state, failed.status), (DeliveryState::Failed, Some(500)));
    assert!(failed.error.as_ref().unwrap().contains("500"));
    assert_eq!(failed.response.as_deref(), Some("not today[0m"));
    assert!(world.client().show_webhook(webhook.id).await.unwrap().failing_since.is_some());
    let only_failed =
        ListDeliveries { state: CommaSeparated(vec![DeliveryState::Failed]), ..ListDeliveries::default() };
    let listed = world.client().list_deliveries(webhook.id, &only_failed).await.unwrap().items;
    assert_eq!(listed.len(), 1);
    let again = world.client().redeliver(webhook.id, failed.id, Some(half_a_minute())).await.unwrap();
    assert_eq!((again.id, again.state), (failed.id, DeliveryState::Delivered));
    let ids: BTreeSet<String> = receiver.received().into_iter().map(|request| request.delivery).collect();
    assert_eq!(ids.len(), 1);

    // Nobody listens there.
    let deserted = UpdateWebhook { url: Some("http://127.0.0.1:1/".to_owned()), ..UpdateWebhook::default() };
    world.client().update_webhook(webhook.id, &deserted).await.unwrap();
    let failed = world.client().test_webhook(webhook.id, Some(half_a_minute())).await.unwrap();
    assert_eq!((failed.state, failed.status), (DeliveryState::Failed, None));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_sender_was_killed_comes_again_under_the_same_id() {
    let server = Server::own().await;
    let mut world = World::builder().homes_on(&server).start().await;
    world.take_replica(0).stop().await;
    let serve = Serve::start(&world).await;
    world.use_door(serve.url());
    let receiver = Receiver::start().await;
    let (webhook, secret) = subscribe(world.client(), &receiver, &[]).await;
    receiver.plan([Behaviour::Hang]);
    world.client().test_webhook(webhook.id, None).await.unwrap();
    eventually("it is sent", async || receiver.received().len() == 1).await;
    // The receiver has it; nobody has recorded that.
    serve.kill().await;
    let serve = Serve::start(&world).await;
    world.use_door(serve.url());
    eventually("it is sent again", async || receiver.taken().len() == 1).await;
    let received = receiver.received();
    assert_eq!(received[0].delivery, received[1].delivery);
    assert_eq!(received[0].body, received[1].body);
    assert!(received.iter().all(|request| request.is_signed_by(&secret)));
    world.end().await;
    assert!(serve.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_replicas_send_each_event_once_and_a_hanging_receiver_holds_up_no_other() {
    let config =
        WebhookConfig { timeout: Duration::from_mins(1), concurrency: 6, concurrency_per_webhook: 2, ..hasty() };
    let world = world(config).replicas(2).start().await;
    let (well, ill) = (Receiver::start().await, Receiver::start().await);
    ill.otherwise(Behaviour::Hang);
    let events = [EventKind::TenantCreated, EventKind::TenantActivated];
    let (webhook, _) = subscribe(world.client(), &well, &events).await;
    let (hanging, _) = subscribe(world.client(), &ill, &events).await;
    for number in 0..10 {
        let create = CreateTenant {
            isolation: Some(Isolation::Schema),
            ..CreateTenant::new(Slug::parse(&format!("t{number}")).unwrap())
        };
        world.client().create_tenant(&create, None).await.unwrap();
    }
    eventually("all that is wanted is taken", async || well.taken().len() >= 20).await;
    let ids: BTreeSet<String> = well.taken().into_iter().map(|event| event.delivery).collect();
    assert_eq!((ids.len(), well.received().len()), (20, 20));
    assert!(ill.received().len() <= 4, "two from each replica");
    assert_eq!(deliveries(world.client(), webhook.id).await.len(), 20);
    world.client().delete_webhook(hanging.id).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn during_a_rotation_both_secrets_verify_and_after_another_only_the_two_newest() {
    let world = world(hasty()).start().await;
    let receiver = Receiver::start().await;
    let (webhook, first) = subscribe(world.client(), &receiver, &[]).await;
    let rotate = async |overlap_seconds| {
        let rotated = world.client().rotate_webhook_secret(webhook.id, RotateWebhookSecret { overlap_seconds }).await;
        rotated.map(|rotated| rotated.secret.into_secret())
    };
    let test = async || {
        world.client().test_webhook(webhook.id, Some(half_a_minute())).await.unwrap();
        receiver.received().pop().unwrap()
    };
    let second = rotate(None).await.unwrap();
    let request = test().await;
    assert!(request.is_signed_by(&first) && request.is_signed_by(&second));
    let third = rotate(Some(0)).await.unwrap();
    let request = test().await;
    assert!(request.is_signed_by(&third) && !request.is_signed_by(&second) && !request.is_signed_by(&first));
    assert_eq!(request.signatures(), 1);
    assert_eq!(code(&rotate(Some(604_801)).await.unwrap_err()), Some(Code::InvalidRequest));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_hears_only_what_it_wants_and_nothing_while_it_is_disabled() {
    let world = world(hasty()).start().await;
    let receiver = Receiver::start().await;
    let (webhook, _) = subscribe(world.client(), &receiver, &[EventKind::TenantDeleted]).await;
    let disabled = UpdateWebhook { enabled: Some(false), ..UpdateWebhook::default() };
    let enabled = UpdateWebhook { enabled: Some(true), ..UpdateWebhook::default() };
    let first = world.tenant("first").await;
    world.client().update_webhook(webhook.id, &disabled).await.unwrap();
    world.delete(&first).await;
    let refused = world.client().test_webhook(webhook.id, None).await.unwrap_err();
    assert_eq!(code(&refused), Some(Code::InvalidState));
    world.client().update_webhook(webhook.id, &enabled).await.unwrap();
    let second = world.tenant("second").await;
    world.delete(&second).await;
    world.client().test_webhook(webhook.id, Some(half_a_minute())).await.unwrap();
    eventually("both are taken", async || receiver.taken().len() == 2).await;
    let mut told: Vec<String> = receiver.received().iter().map(tenantry_tests::Received::kind).collect();
    told.sort();
    assert_eq!(told, ["tenant.deleted", "webhook.test"]);
    world.client().delete_webhook(webhook.id).await.unwrap();
    let gone = world.client().show_webhook(webhook.id).await.unwrap_err();
    assert_eq!(code(&gone), Some(Code::NotFound));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_or_takes_nothing_for_long_is_disabled_with_a_reason() {
    let config = WebhookConfig { disable_after: Duration::ZERO, ..hasty() };
    let world = world(config).start().await;
    let (gone, ill) = (Receiver::start().await, Receiver::start().await);
    gone.otherwise(Behaviour::Answer(410));
    ill.otherwise(Behaviour::Answer(500));
    let (first, _) = subscribe(world.client(), &gone, &[]).await;
    let (second, _) = subscribe(world.client(), &ill, &[]).await;
    for webhook in [&first, &second] {
        world.client().test_webhook(webhook.id, None).await.unwrap();
    }
    eventually("it takes nothing", async || {
        world.client().show_webhook(second.id).await.unwrap().failing_since.is_some()
    })
    .await;
    tenantry_control::reconcilers::poke(world.replicas()[0].control(), "webhook_upkeep").await.unwrap();
    for (webhook, reason) in [(first.id, "410"), (second.id, "took nothing")] {
        eventually("it is disabled", async || {
            let webhook = world.client().show_webhook(webhook).await.unwrap();
            !webhook.enabled && webhook.disabled_reason.is_some_and(|said| said.contains(reason))
        })
        .await;
    }
    let enabled = UpdateWebhook { enabled: Some(true), ..UpdateWebhook::default() };
    let again = world.client().update_webhook(second.id, &enabled).await.unwrap();
    assert_eq!((again.enabled, again.disabled_reason, again.failing_since), (true, None, None));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_leads_inward_and_a_token_without_the_scope_are_refused() {
    let world = World::start().await;
    let wish = |url: &str| CreateWebhook { url: url.to_owned(), description: String::new(), events: Vec::new() };
    for url in [
        "http://127.0.0.1:9/hook",
        "http://example.com/hook",
        "https://localhost/hook",
        "https://10.0.0.1/hook",
        "https://169.254.169.254/latest",
        "https://[::1]/hook",
        "https://user:word@example.com/",
        "nonsense",
    ] {
        let refused = world.client().create_webhook(&wish(url)).await.unwrap_err();
        assert_eq!(code(&refused), Some(Code::InvalidRequest), "{url}");
    }
    // A name that leads inward is noticed when it is connected to.
    let created = world.client().create_webhook(&wish("https://example.com/hook")).await.unwrap();
    assert!(created.webhook.enabled);
    let acme = world.tenant("acme").await;
    for (scopes, tenant, is_allowed) in [
        (vec![Scope::Webhooks(Access::Read)], None, false),
        (vec![Scope::Tenants(Access::Write)], None, false),
        (vec![Scope::Webhooks(Access::Write)], Some(&acme), false),
        (vec![Scope::Webhooks(Access::Write)], None, true),
    ] {
        let token = world.token_with(&scopes, tenant).await;
        let program = Program::new(&world.url(), &token);
        let ended = program.run(["webhook", "create", "https://example.com/other"]).await;
        assert_eq!(ended.code(), Some(i32::from(!is_allowed)), "{scopes:?}: {}", ended.stderr);
    }
    for webhook in world.client().list_webhooks(&tenantry_api::ListQuery::default()).await.unwrap().items {
        world.client().delete_webhook(webhook.id).await.unwrap();
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_on_the_command_line() {
    let world = world(WebhookConfig { give_up_after: Duration::ZERO, ..hasty() }).start().await;
    let receiver = Receiver::start().await;
    let program = Program::new(&world.url(), world.token());
    let url = receiver.url();
    let made = program.json(["webhook", "create", url.as_str(), "--event", "tenant.activated"]).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let secret = Secret::new(made["secret"].as_str().unwrap().to_owned());
    program.run(["webhook", "test", id.as_str()]).await.ok();
    assert!(receiver.received()[0].is_signed_by(&secret));
    receiver.plan([Behaviour::Answer(500)]);
    let failed = program.run(["webhook", "test", id.as_str()]).await;
    assert_eq!(failed.code(), Some(1));
    assert!(failed.stderr.contains("500"), "{}", failed.stderr);
    let listed = program.json(["webhook", "deliveries", id.as_str(), "--state", "failed"]).await;
    let delivery = listed["items"][0]["id"].as_str().unwrap();
    let again = program.json(["webhook", "redeliver", id.as_str(), delivery]).await;
    assert_eq!(again["state"], "delivered");
    let table = program.run(["webhook", "list"]).await.ok().stdout;
    assert!(table.contains(&url) && !table.contains(secret.expose()), "{table}");
    let updated = program.json(["webhook", "update", id.as_str(), "--disable", "--all-events"]).await;
    assert_eq!((&updated["enabled"], &updated["events"]), (&json!(false), &json!([])));
    let rotated = program.run(["webhook", "rotate-secret", id.as_str(), "--secret-only"]).await.ok().stdout;
    assert!(rotated.starts_with("tenantry_webhook_"), "{rotated}");
    let audit = program.json(["audit", "list", "--action", "webhook.create"]).await;
    let audit = audit.to_string();
    assert!(audit.contains(&url) && !audit.contains(secret.expose()), "{audit}");
    program.run(["webhook", "delete", id.as_str()]).await.ok();
    assert_eq!(program.json(["webhook", "list"]).await["items"], json!([]));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_falls_silent_and_answers_again_is_told_once_each() {
    let server = Server::own().await;
    let socket = BreakableSocket::before(server.address()).await;
    let world = world(hasty()).homes_on(&server).homes_at(socket.address()).start().await;
    let receiver = Receiver::start().await;
    subscribe(world.client(), &receiver, &[EventKind::ClusterUnhealthy, EventKind::ClusterRecovered]).await;
    let told = || receiver.taken().iter().map(tenantry_tests::Received::kind).collect::<Vec<_>>();
    let control = world.replicas()[0].control();
    socket.go_down();
    eventually("it is told that the cluster is silent", async || {
        tenantry_control::reconcilers::poke(control, "cluster_health").await.unwrap();
        !told().is_empty()
    })
    .await;
    socket.come_up();
    eventually("it is told that the cluster answers", async || {
        tenantry_control::reconcilers::poke(control, "cluster_health").await.unwrap();
        told().len() > 1
    })
    .await;
    assert_eq!(told(), ["cluster.unhealthy", "cluster.recovered"]);
    let body = receiver.taken()[0].json();
    assert_eq!(body["cluster"]["name"], "main");
    assert!(body["detail"]["reason"].is_string(), "{body}");
    world.end().await;
}
