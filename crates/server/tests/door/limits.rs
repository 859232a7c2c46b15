//! Everything is bounded, and says so.

use reqwest::Method;
use serde_json::json;
use tenantry_server::ServerConfig;

use crate::house::{Answer, House};

#[tokio::test]
async fn a_body_may_be_a_mebibyte_and_a_migration_set_more() {
    let house = House::open().await;
    let large = "x".repeat(2 * 1024 * 1024);
    let tenant = Answer::of(house.post("/v1/tenants", &json!({"slug": "acme", "name": large}))).await;
    assert_eq!((tenant.status, tenant.code()), (413, "payload_too_large"));
    let keyed = house.post("/v1/tenants", &json!({"slug": "acme", "name": large})).header("idempotency-key", "one");
    assert_eq!(Answer::of(keyed).await.status, 413);
    let content = format!("CREATE TABLE a (id int);\n-- {large}");
    let files = json!([{"name": "V1__a.sql", "content": content}]);
    let set = Answer::of(house.post("/v1/migration-sets", &json!({"name": "product", "files": files}))).await;
    assert_eq!(set.status, 201, "{set:?}");
    house.end().await;
}

#[tokio::test]
async fn past_the_number_of_requests_and_streams_the_next_is_told_to_come_back() {
    let house = House::open_with(ServerConfig { requests_max: 1, streams_max: 1, ..ServerConfig::default() }).await;
    house.register_cluster().await;
    let (first, second) = tokio::join!(house.get("/v1/routes/feed").send(), async {
        // Streams are not counted as requests, but there is room for one only.
        loop {
            let answer = Answer::of(house.get("/v1/tenants")).await;
            if answer.status == 200 {
                break;
            }
        }
    });
    let ((), first) = (second, first.unwrap());
    assert_eq!(first.status(), 200);
    let refused = Answer::of(house.get("/v1/routes/feed")).await;
    assert_eq!((refused.status, refused.code()), (503, "unavailable"));
    drop(first);

    let waiting = tokio::spawn(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"})).send());
    let mut refusals = 0;
    while !waiting.is_finished() {
        let answer = Answer::of(house.get("/v1/tenants")).await;
        if answer.status == 503 {
            assert_eq!((answer.code(), answer.header("retry-after")), ("unavailable", "1"));
            assert_eq!(Answer::of(house.stranger(Method::GET, "/healthz")).await.status, 204, "busy is alive");
            refusals += 1;
        }
    }
    let created = waiting.await.unwrap().unwrap().status();
    assert!(created == 201 || created == 503, "{created}");
    assert!(created == 503 || refusals > 0, "one request at a time");
    house.end().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_before_anything_is_read() {
    let house = House::open().await;
    let many = (0..100).fold(house.get("/v1/tenants"), |request, number| request.header(format!("x-{number}"), "x"));
    assert_eq!(many.send().await.unwrap().status(), 431);
    let long = house.get("/v1/tenants").header("x-long", "x".repeat(100_000));
    assert!(long.send().await.map_or(true, |answer| answer.status() == 431));
    house.end().await;
}

#[tokio::test]
async fn past_the_number_of_connections_a_new_one_is_closed() {
    let house = House::open_with(ServerConfig { connections_max: 2, ..ServerConfig::default() }).await;
    let first = house.get("/v1/routes/feed").send().await.unwrap();
    let second = house.get("/v1/routes/feed").send().await.unwrap();
    assert!(house.stranger(Method::GET, "/healthz").send().await.is_err(), "there is no room");
    drop((first, second));
    tenantry_testkit::eventually("there is room again", async || {
        house.stranger(Method::GET, "/healthz").send().await.is_ok_and(|answer| answer.status() == 204)
    })
    .await;
    house.end().await;
}
