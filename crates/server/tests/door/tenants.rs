//! A tenant's life over HTTP, and the traces that it leaves.

use reqwest::Method;
use serde_json::json;
use tenantry_domain::{Access, Scope};

use crate::house::{Answer, House};

#[tokio::test]
async fn whoever_may_create_may_wait_for_it_and_the_request_is_found_again() {
    let house = House::open().await;
    house.register_cluster().await;
    // No `operations:read`: the wait is part of creating.
    let creator = house.token([Scope::Tenants(Access::Write)]).await;
    let id = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
    let create = house.stranger(Method::POST, "/v1/tenants?wait=60").bearer_auth(&creator);
    let created = Answer::of(create.json(&json!({"slug": "acme"})).header("x-request-id", id)).await;
    assert_eq!((created.status, created.header("x-request-id")), (201, id), "{created:?}");
    let tenant = &created.body["tenant"];
    assert_eq!(
        (&tenant["status"], &tenant["plan"], &tenant["name"]),
        (&json!("active"), &json!("developer"), &json!("acme"))
    );
    assert_eq!(created.header("location"), format!("/v1/tenants/{}", tenant["id"].as_str().unwrap()));
    let audit = Answer::of(house.get("/v1/audit-log?tenant=acme&action=tenant.create")).await;
    let entry = &audit.body["items"][0];
    assert_eq!(
        (&entry["request_id"], &entry["operation"]),
        (&json!(id), &created.body["operation"]["id"]),
        "{audit:?}"
    );
    assert_eq!(entry["hash"].as_str().unwrap().len(), 64);

    for (status, name) in [(200, "acme"), (404, "beta")] {
        assert_eq!(Answer::of(house.get(&format!("/v1/tenants/{name}"))).await.status, status);
    }
    let operations = Answer::of(house.get("/v1/tenants/acme/operations?state=succeeded,failed")).await;
    assert_eq!(operations.body["items"][0]["kind"], "provision");
    let none = Answer::of(house.get("/v1/tenants/acme/operations?state=parked")).await;
    assert_eq!(none.body["items"], json!([]));
    house.end().await;
}

#[tokio::test]
async fn a_deleted_tenant_keeps_its_slug_until_it_is_purged() {
    let house = House::open().await;
    house.register_cluster().await;
    let create = || Answer::of(house.post("/v1/tenants?wait=60", &json!({"slug": "acme"})));
    assert_eq!(create().await.status, 201);
    let early = Answer::of(house.request(Method::POST, "/v1/tenants/acme/purge")).await;
    assert_eq!((early.status, early.code()), (409, "invalid_state"));
    let deleted = Answer::of(house.request(Method::DELETE, "/v1/tenants/acme?grace=0&wait=60")).await;
    assert_eq!((deleted.status, &deleted.body["tenant"]["status"]), (200, &json!("deleted")), "{deleted:?}");
    let taken = create().await;
    assert_eq!((taken.status, taken.code(), &taken.body["errors"][0]["pointer"]), (409, "slug_taken", &json!("/slug")));
    assert_eq!(Answer::of(house.request(Method::POST, "/v1/tenants/acme/purge")).await.status, 204);
    assert_eq!(Answer::of(house.get("/v1/tenants/acme")).await.status, 404);
    assert_eq!(create().await.status, 201);
    house.end().await;
}

#[tokio::test]
async fn lists_come_in_pages() {
    let house = House::open().await;
    let mut path = "/v1/plans?limit=2".to_owned();
    let mut names = Vec::new();
    loop {
        let page = Answer::of(house.get(&path)).await;
        let items = page.body["items"].as_array().unwrap().clone();
        assert!(items.len() <= 2);
        names.extend(items.into_iter().map(|plan| plan["name"].as_str().unwrap().to_owned()));
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/plans?limit=2&cursor={next}");
    }
    assert_eq!(names, ["developer", "enterprise", "team"]);
    let forged = Answer::of(house.get("/v1/tenants?cursor=forged")).await;
    assert_eq!((forged.status, forged.code()), (400, "invalid_request"));
    house.end().await;
}

#[tokio::test]
async fn a_router_reports_and_is_listed() {
    let house = House::open().await;
    let router = house.token([Scope::RoutesRead]).await;
    let report = |body| house.stranger(Method::POST, "/v1/routers/eu-1/report").bearer_auth(&router).json(&body);
    let body = json!({"applied_version": 0, "routes": 3, "pools": 1});
    assert_eq!(Answer::of(report(body.clone()).header("idempotency-key", "one")).await.status, 204);
    assert_eq!(Answer::of(report(body)).await.status, 204);
    let wrong = Answer::of(report(json!({"applied_version": 0, "routes": -1, "pools": 1}))).await;
    assert_eq!((wrong.status, &wrong.body["errors"][0]["pointer"]), (400, &json!("/routes")));
    let listed = Answer::of(house.get("/v1/routers")).await;
    assert_eq!(
        (&listed.body["items"][0]["router"], &listed.body["items"][0]["detail"]["routes"]),
        (&json!("eu-1"), &json!(3))
    );
    house.end().await;
}
