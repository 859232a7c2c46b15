//! The HTTP service as clients see it, over the router and a real home.

use crate::home::{Home, Place, number};
use axum::Router as Routes;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tenantry_router::{Router, TenantSources};
use tenantry_sample::{Dataset, load, service};
use tower::ServiceExt as _;

/// The service with the tenants `jetblue` (B6) and `hawaiian` (HA).
struct World {
    jetblue: Home,
    _hawaiian: Home,
    service: Routes,
}

impl World {
    async fn start() -> Self {
        let data = Dataset::read().unwrap();
        let (jetblue, hawaiian) = (Home::migrated(Place::Schema).await, Home::migrated(Place::Database).await);
        let mut published = Vec::new();
        let mut clusters = Vec::new();
        for (home, slug, carrier, flights) in [(&jetblue, "jetblue", "B6", 4_427), (&hawaiian, "hawaiian", "HA", 31)] {
            let mut client = home.client().await;
            let transaction = client.transaction().await.unwrap();
            assert_eq!(load(&transaction, &data, carrier).await.unwrap().flights, flights);
            transaction.commit().await.unwrap();
            let (route, cluster) = home.route(slug).await;
            published.push(route);
            clusters.push(cluster);
        }
        let router = Router::builder().fixed(published, clusters).base_domain("flights.example").build().await.unwrap();
        let service = service(router, TenantSources::new().sub_domain());
        Self { jetblue, _hawaiian: hawaiian, service }
    }

    async fn get(&self, tenant: &str, path: &str) -> (StatusCode, Value) {
        self.send(tenant, Request::get(path), Body::empty()).await
    }

    async fn post(&self, tenant: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::post(path).header("content-type", "application/json");
        self.send(tenant, request, Body::from(body.to_string())).await
    }

    async fn send(&self, tenant: &str, request: axum::http::request::Builder, body: Body) -> (StatusCode, Value) {
        let request = request.header("host", format!("{tenant}.flights.example")).body(body).unwrap();
        let response = self.service.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let media_type = response.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        if !status.is_success() {
            assert_eq!(media_type.as_deref(), Some("application/problem+json"));
        }
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().unwrap()
}

#[tokio::test]
async fn the_list_is_read_page_by_page_without_gap_or_repetition() {
    let world = World::start().await;
    let mut ids = Vec::new();
    let mut departures = Vec::new();
    let mut after = String::new();
    loop {
        let (status, page) = world.get("hawaiian", &format!("/flights?limit=7{after}")).await;
        assert_eq!(status, StatusCode::OK);
        for flight in items(&page) {
            ids.push(flight["id"].as_i64().unwrap());
            departures.push(flight["scheduled_departure"].as_str().unwrap().to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(ids.len(), 31);
    assert!(departures.is_sorted());
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 31);
}

#[tokio::test]
async fn the_list_is_restricted_by_day_and_both_ends() {
    let world = World::start().await;
    let (_, day) = world.get("jetblue", "/flights?date=2013-01-05&origin=jfk&destination=SJU&limit=200").await;
    assert!(!items(&day).is_empty());
    for flight in items(&day) {
        assert!(flight["scheduled_departure"].as_str().unwrap().starts_with("2013-01-05T"));
        assert_eq!((flight["origin"].as_str(), flight["destination"].as_str()), (Some("JFK"), Some("SJU")));
    }
    let expected = number(
        &world.jetblue.client().await,
        "SELECT count(*) FROM flights WHERE origin = 'JFK' AND destination = 'SJU' \
         AND (scheduled_departure AT TIME ZONE 'UTC')::date = '2013-01-05'",
    )
    .await;
    assert_eq!(i64::try_from(items(&day).len()).unwrap(), expected);
    let (status, empty) = world.get("jetblue", "/flights?date=2012-12-31").await;
    assert_eq!((status, empty), (StatusCode::OK, json!({"items": [], "next": null})));
}

#[tokio::test]
async fn flights_are_found_by_number_tail_destination_and_name() {
    let world = World::start().await;
    for (query, field, expected) in [
        ("51", "flight_number", json!(51)),
        ("n380ha", "tail_number", json!("N380HA")),
        ("hnl", "destination", json!("HNL")),
        ("honolulu", "destination", json!("HNL")),
    ] {
        let (status, page) = world.get("hawaiian", &format!("/flights/search?q={query}")).await;
        assert_eq!(status, StatusCode::OK);
        assert!(!items(&page).is_empty(), "{query}");
        assert!(items(&page).iter().all(|flight| flight[field] == expected), "{query}");
    }
    for nothing in ["%25", "_", "%27%20OR%20true--"] {
        let (status, page) = world.get("hawaiian", &format!("/flights/search?q={nothing}")).await;
        assert_eq!((status, items(&page).len()), (StatusCode::OK, 0), "{nothing}");
    }
}

#[tokio::test]
async fn a_recorded_delay_is_shown_summed_and_audited() {
    let world = World::start().await;
    let (_, page) = world.get("jetblue", "/flights?limit=1").await;
    let id = items(&page)[0]["id"].as_i64().unwrap();
    let report = json!({"cause": "late_aircraft", "minutes": 25, "note": "inbound from BOS"});
    let (status, delay) = world.post("jetblue", &format!("/flights/{id}/delays"), &report).await;
    assert_eq!((status, &delay["minutes"]), (StatusCode::CREATED, &json!(25)));
    let (status, flight) = world.get("jetblue", &format!("/flights/{id}")).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(flight["reported_delay_minutes"], 25);
    assert_eq!(flight["delays"][0]["note"], "inbound from BOS");
    let client = world.jetblue.client().await;
    assert_eq!(number(&client, "SELECT count(*) FROM audit_entries WHERE table_name = 'delays'").await, 1);
    let (_, other) = world.get("hawaiian", &format!("/flights/{id}")).await;
    assert_ne!(other["reported_delay_minutes"], 25, "another airline's flight of the same id is another flight");
}

#[tokio::test]
async fn statistics_count_what_the_source_has() {
    let world = World::start().await;
    let (status, all) = world.get("jetblue", "/statistics").await;
    assert_eq!((status, all["flights"].as_i64()), (StatusCode::OK, Some(4_427)));
    let sum: i64 = all["destinations"].as_array().unwrap().iter().map(|one| one["flights"].as_i64().unwrap()).sum();
    assert_eq!(sum, 4_427);
    let busiest = &all["destinations"][0];
    assert!(busiest["delay_minutes_p50"].as_f64().unwrap() <= busiest["delay_minutes_p90"].as_f64().unwrap());
    let (_, first) = world.get("jetblue", "/statistics?until=2013-01-15").await;
    let (_, second) = world.get("jetblue", "/statistics?since=2013-01-16").await;
    assert_eq!(first["flights"].as_i64().unwrap() + second["flights"].as_i64().unwrap(), 4_427);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_a_code() {
    let world = World::start().await;
    for path in [
        "/flights?limit=0",
        "/flights?limit=201",
        "/flights?after=1",
        "/flights?date=2013-02-30",
        "/flights?date=9999-12-31",
        "/flights?origin=JFKX",
        "/flights?color=red",
        "/flights/search",
        "/flights/search?q=",
        "/flights/one",
        "/statistics?since=yesterday",
    ] {
        let (status, problem) = world.get("jetblue", path).await;
        assert_eq!((status, problem["code"].as_str()), (StatusCode::BAD_REQUEST, Some("invalid_request")), "{path}");
    }
    for path in ["/flights/999999999", "/nowhere"] {
        let (status, problem) = world.get("jetblue", path).await;
        assert_eq!((status, problem["code"].as_str()), (StatusCode::NOT_FOUND, Some("not_found")), "{path}");
    }
    let (status, _) = world.post("jetblue", "/flights", &json!({})).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let (status, _) = world.get("delta", "/flights").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_delay_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let world = World::start().await;
    let client = world.jetblue.client().await;
    let cancelled = number(&client, "SELECT min(id) FROM flights WHERE cancelled").await;
    let flown = number(&client, "SELECT min(id) FROM flights WHERE NOT cancelled").await;
    let good = json!({"cause": "weather", "minutes": 5});
    for (flight, body, status) in [
        (flown, json!({"cause": "boredom", "minutes": 5}), StatusCode::UNPROCESSABLE_ENTITY),
        (flown, json!({"cause": "weather", "minutes": 0}), StatusCode::UNPROCESSABLE_ENTITY),
        (flown, json!({"cause": "weather", "minutes": 5, "who": "me"}), StatusCode::UNPROCESSABLE_ENTITY),
        (flown, json!({"cause": "weather", "minutes": 5, "note": "\0"}), StatusCode::UNPROCESSABLE_ENTITY),
        (flown, json!({"cause": "weather", "minutes": 5, "note": "x".repeat(17_000)}), StatusCode::PAYLOAD_TOO_LARGE),
        (cancelled, good.clone(), StatusCode::CONFLICT),
        (999_999_999, good.clone(), StatusCode::NOT_FOUND),
    ] {
        let (answered, _) = world.post("jetblue", &format!("/flights/{flight}/delays"), &body).await;
        assert_eq!(answered, status, "{body}");
    }
    assert_eq!(number(&client, "SELECT count(*) FROM delays").await, 0);
}

#[tokio::test]
async fn health_needs_no_tenant() {
    let world = World::start().await;
    let request = Request::get("/health").body(Body::empty()).unwrap();
    let response = world.service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
}
