//! The extractor finds the tenant where it is told to look, and nowhere else.

use axum::Router as Routes;
use axum::body::Body;
use axum::extract::FromRef;
use axum::http::{HeaderName, Request, StatusCode};
use axum::response::Response;
use axum::routing::get;
use tenantry_api::{Code, Problem};
use tenantry_domain::{FeedVersion, Generation, Limits, Route, RouteState, SchemaVersion, Slug, TenantId};
use tenantry_router::{Development, Router, Tenant, TenantSources};
use tenantry_testkit::Server;
use tower::ServiceExt;
use uuid::Uuid;

use crate::home::{Home, impatient};

#[derive(Clone, FromRef)]
struct App {
    router: Router,
    sources: TenantSources,
}

async fn who(tenant: Tenant) -> String {
    tenant.slug().to_string()
}

fn in_state(slug: &str, state: RouteState, number: u128) -> Route {
    Route {
        version: FeedVersion(1),
        tenant: TenantId::new(Uuid::from_u128(number)),
        slug: Slug::parse(slug).expect("a slug"),
        hosts: Vec::new(),
        state,
        generation: Generation(1),
        target: None,
        limits: Limits::default(),
        schema_version: SchemaVersion(0),
    }
}

pub(crate) struct World<'a> {
    pub(crate) home: Home<'a>,
    pub(crate) router: Router,
}

impl World<'_> {
    /// `acme` and `zenith` can be served, the others stand as they are called.
    pub(crate) async fn start() -> Self {
        let home = Home::on(Server::shared().await, "acme").await;
        let mut acme = home.route();
        acme.hosts = vec!["fly.acme.com".parse().expect("a host")];
        let mut zenith = home.route();
        zenith.tenant = TenantId::new(Uuid::from_u128(9));
        zenith.slug = Slug::parse("zenith").expect("a slug");
        let known = vec![
            acme,
            zenith,
            in_state("asleep", RouteState::Suspended, 1),
            in_state("newborn", RouteState::Provisioning, 2),
            in_state("nomad", RouteState::Moving, 3),
        ];
        let builder = Router::builder().fixed(known, vec![home.feed_cluster()]).config(impatient());
        let router = builder.base_domain("Example.com").build().await.expect("a router");
        Self { home, router }
    }

    pub(crate) async fn ask(&self, sources: TenantSources, request: axum::http::request::Builder) -> Response {
        let app = App { router: self.router.clone(), sources };
        let routes = Routes::new().route("/", get(who)).route("/of/{airline}", get(who)).with_state(app);
        routes.oneshot(request.body(Body::empty()).expect("a request")).await.expect("an answer")
    }
}

pub(crate) async fn text(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 65_536).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("text")
}

pub(crate) async fn problem(response: Response) -> Problem {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    serde_json::from_str(&text(response).await).expect("a problem document")
}

fn header() -> TenantSources {
    TenantSources::new().header(HeaderName::from_static("x-tenant"))
}

#[tokio::test]
async fn the_tenant_is_found_by_sub_domain_own_host_header_and_path() {
    let world = World::start().await;
    let id = world.home.tenant.to_string();
    for (sources, request) in [
        (TenantSources::new().sub_domain(), Request::get("/").header("host", "ACME.example.com:8080")),
        (TenantSources::new().sub_domain(), Request::get("https://acme.example.com/")),
        (TenantSources::new().custom_host(), Request::get("/").header("host", "fly.acme.com")),
        (header(), Request::get("/").header("x-tenant", "acme")),
        (header(), Request::get("/").header("x-tenant", id.as_str())),
        (TenantSources::new().path("airline"), Request::get("/of/acme")),
        (header().path("airline").sub_domain(), Request::get("/of/acme").header("host", "acme.example.com")),
    ] {
        let answer = world.ask(sources, request).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(text(answer).await, "acme");
    }
}

#[tokio::test]
async fn places_that_are_not_trusted_are_not_looked_at() {
    let world = World::start().await;
    for request in [
        Request::get("/").header("x-tenant", "acme"),
        Request::get("/").header("x-forwarded-host", "acme.example.com"),
        Request::get("/of/acme"),
        Request::get("/").header("host", "example.com"),
        Request::get("/").header("host", "127.0.0.1:80"),
        Request::get("/?tenant=acme"),
    ] {
        let answer = world.ask(TenantSources::new().sub_domain(), request).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem(answer).await.code, Code::InvalidRequest);
    }
}

#[tokio::test]
async fn disagreement_is_an_error_whatever_the_order() {
    let world = World::start().await;
    let two = || Request::get("/of/zenith").header("x-tenant", "acme");
    for sources in
        [header().path("airline"), TenantSources::new().path("airline").header(HeaderName::from_static("x-tenant"))]
    {
        assert_eq!(world.ask(sources, two()).await.status(), StatusCode::BAD_REQUEST);
    }
    let twice = Request::get("/").header("x-tenant", "acme").header("x-tenant", "zenith");
    assert_eq!(world.ask(header(), twice).await.status(), StatusCode::BAD_REQUEST);
    // One that exists and one that does not disagree as well, and the second is not passed over.
    let unknown = Request::get("/of/nobody").header("x-tenant", "acme");
    assert_eq!(world.ask(header().path("airline"), unknown).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_query_names_the_tenant_in_development_alone() {
    let world = World::start().await;
    let development = || "any request may name any tenant".parse::<Development>().expect("the sentence");
    let query = || TenantSources::new().query("tenant", development());
    let answer = world.ask(query(), Request::get("/?page=2&tenant=ac%6de")).await;
    assert_eq!(text(answer).await, "acme");
    for (asked, status) in [
        ("/?tenant=acme&tenant=zenith", StatusCode::BAD_REQUEST),
        ("/?tenants=acme", StatusCode::BAD_REQUEST),
        ("/?tenant=nobody", StatusCode::NOT_FOUND),
        ("/?tenant=", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(world.ask(query(), Request::get(asked)).await.status(), status, "{asked}");
    }
    let two = Request::get("/?tenant=acme").header("x-tenant", "zenith");
    assert_eq!(world.ask(header().query("tenant", development()), two).await.status(), StatusCode::BAD_REQUEST);
    for sentence in ["", "true", "development"] {
        assert!(sentence.parse::<Development>().is_err());
    }
}

#[tokio::test]
async fn a_tenant_that_cannot_be_served_is_answered_with_why() {
    let world = World::start().await;
    for (slug, status, code) in [
        ("nobody", StatusCode::NOT_FOUND, Code::NotFound),
        ("fly.acme.com", StatusCode::NOT_FOUND, Code::NotFound),
        ("asleep", StatusCode::FORBIDDEN, Code::Forbidden),
        ("newborn", StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        ("nomad", StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
    ] {
        let answer = world.ask(header(), Request::get("/").header("x-tenant", slug)).await;
        assert_eq!(answer.status(), status, "{slug}");
        assert_eq!(answer.headers().contains_key("retry-after"), status == StatusCode::SERVICE_UNAVAILABLE, "{slug}");
        assert_eq!(problem(answer).await.code, code, "{slug}");
    }
    let elsewhere = Request::get("/").header("host", "unknown.org");
    assert_eq!(world.ask(TenantSources::new().custom_host(), elsewhere).await.status(), StatusCode::NOT_FOUND);
}
