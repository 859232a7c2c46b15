//! `ETag` and `If-Match`, and merging without losing what others change.

use reqwest::Method;
use serde_json::json;

use crate::house::{Answer, House};

#[tokio::test]
async fn a_stale_version_is_refused_and_a_current_one_changed() {
    let house = House::open().await;
    house.register_cluster().await;
    Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": "acme", "labels": {"tier": "gold"}}))).await;
    let seen = Answer::of(house.get("/v1/tenants/acme")).await;
    let patch = |etag: &str, body| {
        let request = house.request(Method::PATCH, "/v1/tenants/acme").json(&body);
        if etag.is_empty() { request } else { request.header("if-match", etag) }
    };
    let first = Answer::of(patch(seen.header("etag"), json!({"name": "Acme"}))).await;
    assert_eq!((first.status, &first.body["name"]), (200, &json!("Acme")));
    assert_ne!(first.header("etag"), seen.header("etag"));
    let stale = Answer::of(patch(seen.header("etag"), json!({"name": "Other"}))).await;
    assert_eq!((stale.status, stale.code()), (412, "precondition_failed"));
    let foreign = Answer::of(patch("\"nonsense\"", json!({"name": "Other"}))).await;
    assert_eq!(foreign.status, 412);

    let merged = Answer::of(patch("", json!({"labels": {"pilot": "yes"}, "overrides": {"pool_size": 3}}))).await;
    assert_eq!(merged.body["labels"], json!({"tier": "gold", "pilot": "yes"}), "{merged:?}");
    let cleared = Answer::of(patch("", json!({"labels": {"tier": null}, "overrides": null}))).await;
    assert_eq!((&cleared.body["labels"], &cleared.body["overrides"]), (&json!({"pilot": "yes"}), &json!({})));
    for body in [json!({"name": null}), json!({"slug": "other"}), json!({"labels": {"Not A Key": "x"}})] {
        let refused = Answer::of(patch("", body.clone())).await;
        assert_eq!((refused.status, refused.code()), (400, "invalid_request"), "{body}");
    }
    let deleted = Answer::of(house.request(Method::DELETE, "/v1/tenants/acme").header("if-match", "\"1\"")).await;
    assert_eq!(deleted.status, 412);
    house.end().await;
}

#[tokio::test]
async fn changes_at_the_same_time_lose_no_label() {
    let house = House::open().await;
    house.register_cluster().await;
    Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"}))).await;
    let changes = (0..4).map(|number| {
        let labels = json!({"labels": {format!("key-{number}"): "x"}});
        Answer::of(house.request(Method::PATCH, "/v1/tenants/acme").json(&labels))
    });
    let mut done = 0;
    for answer in futures::future::join_all(changes).await {
        assert!(answer.status == 200 || answer.code() == "unavailable", "{answer:?}");
        done += usize::from(answer.status == 200);
    }
    let tenant = Answer::of(house.get("/v1/tenants/acme")).await;
    assert_eq!(tenant.body["labels"].as_object().unwrap().len(), done);
    house.end().await;
}

#[tokio::test]
async fn a_cluster_is_changed_cordoned_and_forgotten() {
    let house = House::open().await;
    house.register_cluster().await;
    let seen = Answer::of(house.get("/v1/clusters/one")).await;
    let limits = json!({"limits": {"tenants": 7}, "tls_ca": null});
    let request = house.request(Method::PATCH, "/v1/clusters/one").json(&limits);
    let changed = Answer::of(request.header("if-match", seen.header("etag"))).await;
    assert_eq!((changed.status, &changed.body["limits"]["tenants"]), (200, &json!(7)), "{changed:?}");
    let active = Answer::of(house.request(Method::DELETE, "/v1/clusters/one")).await;
    assert_eq!((active.status, active.code()), (409, "invalid_state"));
    let cordoned = Answer::of(house.request(Method::POST, "/v1/clusters/one/cordon")).await;
    assert_eq!((cordoned.status, &cordoned.body["state"]), (200, &json!("cordoned")));
    assert_eq!(Answer::of(house.request(Method::DELETE, "/v1/clusters/one")).await.status, 204);
    assert_eq!(Answer::of(house.get("/v1/clusters/one")).await.status, 404);
    house.end().await;
}
