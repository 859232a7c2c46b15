//! Answers without an end.

use std::io::Write;

use flate2::write::GzDecoder;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::house::{Answer, House};

/// Lines of a stream as they come.
struct Lines {
    response: Response,
    decoder: Option<GzDecoder<Vec<u8>>>,
    text: String,
}

impl Lines {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        let is_packed = response.headers().get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        Self { response, decoder: is_packed.then(|| GzDecoder::new(Vec::new())), text: String::new() }
    }

    /// The next line; `None` once the server has closed the stream.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.into();
                return Some(line);
            }
            let chunk = self.response.chunk().await.expect("the stream is not cut off")?;
            match &mut self.decoder {
                None => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Some(decoder) => {
                    decoder.write_all(&chunk).unwrap();
                    decoder.flush().unwrap();
                    self.text.push_str(&String::from_utf8(std::mem::take(decoder.get_mut())).unwrap());
                }
            }
        }
    }

    async fn next_json(&mut self) -> Value {
        serde_json::from_str(&self.next().await.expect("the stream goes on")).unwrap()
    }

    /// The `data` of the server-sent events up to the end, with their ids.
    async fn events(mut self) -> Vec<(String, Value)> {
        let (mut events, mut id) = (Vec::new(), String::new());
        while let Some(line) = self.next().await {
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((id.clone(), serde_json::from_str(data).unwrap()));
            }
        }
        events
    }
}

#[tokio::test]
async fn the_feed_brings_a_snapshot_then_changes_also_packed() {
    let house = House::open().await;
    house.register_cluster().await;
    for packing in ["gzip", "identity"] {
        let response = house.get("/v1/routes/feed").header("accept-encoding", packing).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/x-ndjson");
        assert_eq!(response.headers().contains_key("content-encoding"), packing == "gzip");
        let mut lines = Lines::of(response);
        let begin = lines.next_json().await;
        assert_eq!(begin["type"], "snapshot_begin");
        while lines.next_json().await["type"] != "snapshot_end" {}
        // A change comes at once, not when a buffer is full.
        let slug = format!("packed-{packing}");
        Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": slug}))).await;
        // The snapshot may be one that was made before; then what changed since comes first.
        let provisioning = loop {
            let event = lines.next_json().await;
            if event["slug"] == slug {
                break event;
            }
        };
        assert_eq!(provisioning["state"], "provisioning");
        loop {
            let event = lines.next_json().await;
            if event["slug"] == slug && event["state"] == "active" {
                assert!(event["credential"]["password"].is_string(), "an admin sees passwords");
                break;
            }
        }
    }
    house.end().await;
}

#[tokio::test]
async fn passwords_are_for_those_who_may_see_them() {
    let house = House::open().await;
    house.register_cluster().await;
    Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"}))).await;
    let reader = house.token([tenantry_domain::Scope::RoutesRead]).await;
    let request = house.stranger(Method::GET, "/v1/routes/feed").bearer_auth(&reader);
    let mut lines = Lines::of(request.send().await.unwrap());
    loop {
        let event = lines.next_json().await;
        assert!(!event.to_string().contains("password"), "{event}");
        if event["type"] == "snapshot_end" {
            break;
        }
    }
    let request = house.stranger(Method::GET, "/v1/routes/resolve?slug=acme").bearer_auth(&reader);
    let route = Answer::of(request).await;
    assert!(route.status == 200 && !route.body.to_string().contains("password"), "{route:?}");
    let route = Answer::of(house.get("/v1/routes/resolve?slug=acme")).await;
    assert!(route.body["credential"]["password"].is_string());
    house.end().await;
}

#[tokio::test]
async fn the_log_of_an_operation_is_followed_to_its_end_and_resumed() {
    let house = House::open().await;
    house.register_cluster().await;
    let begun = Answer::of(house.post("/v1/tenants", &json!({"slug": "acme"}))).await;
    assert_eq!((begun.status, &begun.body["tenant"]["status"]), (202, &json!("provisioning")));
    let path = format!("/v1/operations/{}/events", begun.body["operation"]["id"].as_str().unwrap());
    let response = house.get(&path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let all = Lines::of(response).events().await;
    assert!(all.len() > 2, "{all:?}");
    let operation = Answer::of(house.get(path.trim_end_matches("/events"))).await;
    assert_eq!(operation.body["state"], "succeeded");

    let (second, _) = &all[1];
    let rest = Lines::of(house.get(&path).header("last-event-id", second).send().await.unwrap()).events().await;
    assert_eq!(rest, all[2..]);
    let nonsense = Answer::of(house.get(&path).header("last-event-id", "x")).await;
    assert_eq!((nonsense.status, nonsense.code()), (400, "invalid_request"));
    house.end().await;
}

#[tokio::test]
async fn a_rollout_is_followed_until_it_is_finished() {
    let house = House::open().await;
    house.register_cluster().await;
    Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"}))).await;
    let files = json!([{"name": "V1__orders.sql", "content": "CREATE TABLE orders (id bigint PRIMARY KEY);"}]);
    let push = house.post("/v1/migration-sets", &json!({"name": "product", "files": files}));
    let set = Answer::of(push.try_clone().unwrap()).await;
    assert_eq!((set.status, set.body["migrations"][0]["name"].as_str()), (201, Some("orders")), "{set:?}");
    assert_eq!(Answer::of(push).await.status, 200, "the same content is known");
    let rollout = Answer::of(house.post("/v1/rollouts", &json!({"migration_set": set.body["id"]}))).await;
    assert_eq!(rollout.status, 202, "{rollout:?}");
    let path = rollout.header("location").to_owned();
    let events = Lines::of(house.get(&format!("{path}/events")).send().await.unwrap()).events().await;
    let (_, last) = events.last().unwrap();
    assert_eq!((&last["state"], &last["counts"]["applied"]), (&json!("succeeded"), &json!(1)), "{events:?}");
    let targets = Answer::of(house.get(&format!("{path}/targets?state=applied,failed"))).await;
    assert_eq!(targets.body["items"].as_array().unwrap().len(), 1, "{targets:?}");

    let files = json!([{"name": "V1__orders.sql", "content": "COMMIT;"}]);
    let refused = Answer::of(house.post("/v1/migration-sets", &json!({"name": "product", "files": files}))).await;
    assert_eq!((refused.status, refused.code()), (422, "migration_refused"));
    let finding = &refused.body["errors"][0];
    assert_eq!((&finding["pointer"], &finding["line"]), (&json!("V1__orders.sql"), &json!(1)), "{refused:?}");
    house.end().await;
}
