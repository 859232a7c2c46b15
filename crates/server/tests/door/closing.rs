//! The end, in good order; and TLS.

use serde_json::json;
use tenantry_server::{ServerConfig, TlsConfig};

use crate::house::{Answer, House};

#[tokio::test]
async fn a_closing_door_ends_streams_and_lets_requests_finish() {
    let house = House::open().await;
    house.register_cluster().await;
    let mut feed = house.get("/v1/routes/feed").send().await.unwrap();
    assert!(feed.chunk().await.unwrap().is_some());
    let creating = tokio::spawn(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"})).send());
    tenantry_testkit::eventually("the request has begun", async || {
        Answer::of(house.get("/v1/tenants/acme")).await.status == 200
    })
    .await;
    house.close.cancel();
    while feed.chunk().await.expect("ended, not cut off").is_some() {}
    let created = Answer::read(creating.await.unwrap().unwrap()).await;
    assert_eq!((created.status, &created.body["tenant"]["status"]), (201, &json!("active")), "{created:?}");
    assert!(house.get("/v1/tenants").send().await.is_err(), "nobody new is let in");
    house.end().await;
}

#[tokio::test]
async fn a_door_that_is_dropped_serves_nobody_any_more() {
    let house = House::open().await;
    let mut feed = house.get("/v1/routes/feed").send().await.unwrap();
    assert!(feed.chunk().await.unwrap().is_some());
    house.serving.abort();
    while feed.chunk().await.is_ok_and(|chunk| chunk.is_some()) {}
    assert!(house.get("/v1/tenants").send().await.is_err());
}

#[tokio::test]
async fn over_tls_the_door_speaks_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = Some(TlsConfig { certificate, key });
    let house = House::open_with(ServerConfig { tls, ..ServerConfig::default() }).await;
    assert!(house.url.starts_with("https://"));
    let answer = Answer::of(house.get("/v1/tenants")).await;
    assert_eq!(answer.status, 200);
    let plain = reqwest::get(house.url.replace("https", "http")).await;
    assert!(plain.is_err(), "plain HTTP is no longer spoken");
    house.end().await;
}
