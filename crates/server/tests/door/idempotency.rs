//! One request, sent twice.

use serde_json::json;
use tenantry_testkit::eventually;

use crate::house::{Answer, House};

const KEY: &str = "idempotency-key";

#[tokio::test]
async fn a_repeated_request_is_answered_as_it_was_and_done_once() {
    let house = House::open().await;
    house.register_cluster().await;
    let create = || house.post("/v1/tenants?wait=60", &json!({"slug": "acme"})).header(KEY, "one");
    let first = Answer::of(create()).await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, ""), "{first:?}");
    let again = Answer::of(create()).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.body, again.header("location")), (&first.body, first.header("location")));
    assert_eq!(again.header("etag"), first.header("etag"));
    // Less patience asks for the same thing.
    let hurried = Answer::of(house.post("/v1/tenants", &json!({"slug": "acme"})).header(KEY, "one")).await;
    assert_eq!((hurried.status, &hurried.body), (201, &first.body));

    let other = Answer::of(house.post("/v1/tenants", &json!({"slug": "beta"})).header(KEY, "one")).await;
    assert_eq!((other.status, other.code()), (422, "idempotency_mismatch"));
    let elsewhere = house.post("/v1/tokens", &json!({"name": "x", "scopes": ["admin"]})).header(KEY, "one");
    assert_eq!(Answer::of(elsewhere).await.status, 422);
    let tenants = Answer::of(house.get("/v1/tenants")).await;
    assert_eq!(tenants.body["items"].as_array().unwrap().len(), 1);
    house.end().await;
}

#[tokio::test]
async fn a_refused_request_may_be_sent_again_once_its_cause_is_mended() {
    let house = House::open().await;
    let create = || house.post("/v1/tenants", &json!({"slug": "acme"})).header(KEY, "one");
    let refused = Answer::of(create()).await;
    assert_eq!((refused.status, refused.code()), (409, "no_capacity"));
    house.register_cluster().await;
    let accepted = Answer::of(create()).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    house.end().await;
}

#[tokio::test]
async fn work_goes_on_when_the_caller_hangs_up() {
    let house = House::open().await;
    house.register_cluster().await;
    let create = || house.post("/v1/tenants?wait=60", &json!({"slug": "acme"})).header(KEY, "one");
    let impatient = tokio::spawn(create().send());
    eventually("the request has begun", async || Answer::of(house.get("/v1/tenants/acme")).await.status == 200).await;
    impatient.abort();
    let mut last = None;
    eventually("the answer is there for a repetition", async || {
        let again = Answer::of(create()).await;
        let is_done = again.status == 201;
        assert!(is_done || again.code() == "conflict", "{again:?}");
        last = Some(again);
        is_done
    })
    .await;
    let answer = last.unwrap();
    assert_eq!((answer.header("idempotency-replayed"), &answer.body["tenant"]["status"]), ("true", &json!("active")));
    house.end().await;
}

#[tokio::test]
async fn the_secret_of_a_token_is_kept_nowhere() {
    let house = House::open().await;
    let create = || house.post("/v1/tokens", &json!({"name": "ci", "scopes": ["routes:read"]})).header(KEY, "one");
    let made = Answer::of(create()).await;
    assert_eq!(made.status, 201);
    let again = Answer::of(create()).await;
    assert_eq!((again.status, again.code()), (409, "conflict"));
    assert!(again.body["detail"].as_str().unwrap().contains(made.body["id"].as_str().unwrap()), "{again:?}");

    let catalog = house.postgres.connect("catalog").await;
    let kept =
        catalog.query_one("SELECT count(*), string_agg(convert_from(body, 'UTF8'), '') FROM idempotency_key", &[]);
    let kept = kept.await.unwrap();
    assert_eq!(kept.get::<_, i64>(0), 1);
    assert!(!kept.get::<_, String>(1).contains(made.body["secret"].as_str().unwrap()));
    house.end().await;
}
