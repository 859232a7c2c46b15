//! Who is let in, and what those are told who are not.

use reqwest::Method;
use serde_json::json;
use tenantry_domain::{Access, Scope};

use crate::house::{Answer, House};

#[tokio::test]
async fn without_a_good_token_nothing_of_the_api_is_seen() {
    let house = House::open().await;
    let none = Answer::of(house.stranger(Method::GET, "/v1/tenants")).await;
    assert_eq!((none.status, none.code()), (401, "unauthenticated"));
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"tenantry\"");
    for token in ["wrong", "tenantry_0000", &"x".repeat(4000)] {
        let wrong = Answer::of(house.stranger(Method::GET, "/v1/tenants").bearer_auth(token)).await;
        assert_eq!((wrong.status, wrong.code()), (401, "unauthenticated"));
        assert!(wrong.header("www-authenticate").contains("invalid_token"));
    }
    // Nor does a stranger learn which objects or fields there are.
    let body = json!({"nonsense": true});
    let post = Answer::of(house.stranger(Method::POST, "/v1/tenants").json(&body)).await;
    assert_eq!(post.status, 401);
    house.end().await;
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_a_deleted_one_nothing() {
    let house = House::open().await;
    let reader = house.token([Scope::Tenants(Access::Read)]).await;
    let list = Answer::of(house.stranger(Method::GET, "/v1/tenants").bearer_auth(&reader)).await;
    assert_eq!((list.status, &list.body), (200, &json!({"items": [], "next": null})));
    let create = house.stranger(Method::POST, "/v1/tenants").bearer_auth(&reader).json(&json!({"slug": "acme"}));
    let create = Answer::of(create).await;
    assert_eq!((create.status, create.code()), (403, "forbidden"));
    assert!(create.body["detail"].as_str().unwrap().contains("tenants:write"), "{create:?}");
    let feed = Answer::of(house.stranger(Method::GET, "/v1/routes/feed").bearer_auth(&reader)).await;
    assert_eq!((feed.status, feed.code()), (403, "forbidden"));

    let made = Answer::of(house.post("/v1/tokens", &json!({"name": "ci", "scopes": ["tenants:read"]}))).await;
    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"));
    let (secret, location) = (made.body["secret"].as_str().unwrap(), made.header("location"));
    let with = |secret: &str| house.stranger(Method::GET, "/v1/tenants").bearer_auth(secret);
    assert_eq!(Answer::of(with(secret)).await.status, 200);
    let listed = Answer::of(house.get("/v1/tokens")).await;
    assert!(!listed.body.to_string().contains(secret), "a list shows no secret");
    assert_eq!(Answer::of(house.request(Method::DELETE, location)).await.status, 204);
    assert_eq!(Answer::of(with(secret)).await.status, 401);
    house.end().await;
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let house = House::open().await;
    let nowhere = Answer::of(house.get("/v1/nowhere")).await;
    assert_eq!((nowhere.status, nowhere.code()), (404, "not_found"));
    let put = Answer::of(house.request(Method::PUT, "/v1/tenants")).await;
    assert_eq!((put.status, put.code()), (405, "invalid_request"));
    let mut allowed: Vec<&str> = put.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    let nobody = Answer::of(house.get("/v1/tenants/nobody")).await;
    assert_eq!((nobody.status, nobody.code()), (404, "not_found"));
    let filter = Answer::of(house.get("/v1/operations?tenant=nobody")).await;
    assert_eq!((filter.status, &filter.body["errors"][0]["pointer"]), (400, &json!("?tenant")));
    let both = Answer::of(house.get("/v1/routes/resolve?slug=a&host=a.b")).await;
    assert_eq!((both.status, both.code()), (400, "invalid_request"));
    house.end().await;
}

#[tokio::test]
async fn the_service_itself_is_open_and_needs_nothing_from_elsewhere() {
    let house = House::open().await;
    assert_eq!(Answer::of(house.stranger(Method::GET, "/healthz")).await.status, 204);
    let ready = Answer::of(house.stranger(Method::GET, "/readyz")).await;
    assert_eq!((ready.status, ready.body), (200, json!({ "parked_operations": 0 })));
    let docs = Answer::of(house.stranger(Method::GET, "/docs/")).await;
    assert!(docs.status == 200 && docs.header("content-security-policy").contains("script-src 'self'"), "{docs:?}");
    let document = Answer::of(house.stranger(Method::GET, "/openapi.json")).await;
    assert_eq!(document.body["openapi"], "3.1.0");
    // Counted under its template, so that names of tenants are not in the metrics.
    Answer::of(house.get("/v1/tenants/a-name-that-stays-out")).await;
    let metrics = Answer::of(house.stranger(Method::GET, "/metrics")).await;
    let metrics = metrics.body.as_str().unwrap();
    assert!(metrics.contains(r#"route="/v1/tenants/{tenant}",status="404""#), "{metrics}");
    assert!(!metrics.contains("a-name-that-stays-out"), "{metrics}");
    assert!(metrics.contains(r#"tenantry_operations_parked{kind="provision"} 0"#), "{metrics}");

    house.postgres.cluster().pause().await.unwrap();
    let away = Answer::of(house.stranger(Method::GET, "/readyz")).await;
    assert_eq!(Answer::of(house.stranger(Method::GET, "/healthz")).await.status, 204);
    house.postgres.cluster().resume().await.unwrap();
    assert_eq!((away.status, away.code()), (503, "unavailable"));
    assert!(!away.header("retry-after").is_empty());
    house.end().await;
}
