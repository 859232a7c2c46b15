//! Limits over real HTTP: answers, and how long a request counts as running.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRef, State};
use axum::routing::get;
use tenantry_domain::{Limits, Route, RouteState};
use tenantry_router::{Router, Tenant, TenantId, TenantLimitLayer, TenantSources};
use tenantry_testkit::{Server, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::home::{Home, patient};
use crate::limits::{at_once, limited};

#[derive(Clone, FromRef)]
struct App {
    router: Router,
    sources: TenantSources,
    /// What the slow handlers wait for.
    go_on: Arc<Semaphore>,
}

/// Asks over a connection of its own and answers with all that came.
async fn exchange(address: SocketAddr, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn slow(_: Tenant, State(app): State<App>) -> &'static str {
    app.go_on.acquire().await.expect("open").forget();
    "slow"
}

/// Answers at once, with a body that takes its time.
async fn streamed(_: Tenant, State(app): State<App>) -> Body {
    Body::from_stream(futures::stream::once(async move {
        app.go_on.acquire().await.expect("open").forget();
        Ok::<_, std::io::Error>(Bytes::from_static(b"streamed"))
    }))
}

async fn serve(limits: Limits) -> (SocketAddr, Arc<Semaphore>) {
    let home = Home::on(Server::shared().await, "acme").await;
    let asleep = Route {
        tenant: TenantId::new(Uuid::from_u128(9)),
        slug: "asleep".parse().expect("a slug"),
        state: RouteState::Suspended,
        ..home.route()
    };
    let routes = vec![limited(&home, limits), asleep];
    let builder = Router::builder().fixed(routes, vec![home.feed_cluster()]).base_domain("example.com");
    let router = builder.config(patient()).build().await.expect("a router");
    let sources = TenantSources::new().sub_domain();
    let go_on = Arc::new(Semaphore::new(0));
    let service = axum::Router::new()
        .route("/health", get(|| async { "well" }))
        .route("/fast", get(|tenant: Tenant| async move { tenant.slug().to_string() }))
        .route("/slow", get(slow))
        .route("/streamed", get(streamed))
        .layer(TenantLimitLayer::new(router.clone(), sources.clone()))
        .with_state(App { router, sources, go_on: Arc::clone(&go_on) });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, service).await });
    (address, go_on)
}

#[tokio::test]
async fn requests_past_a_rate_are_answered_429_and_the_rest_is_left_alone() {
    let (address, _) = serve(Limits { requests_per_minute: Some(2), ..Limits::default() }).await;
    for _ in 0..2 {
        let answer = exchange(address, "/fast", "acme.example.com").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("acme"), "{answer}");
    }
    let answer = exchange(address, "/fast", "acme.example.com").await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let (_, after) = answer.split_once("retry-after: ").expect("a time");
    let seconds: u64 = after.split_once('\r').expect("a line").0.parse().expect("seconds");
    assert!((1..=30).contains(&seconds), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("\"limit_exceeded\""), "{answer}");
    for (path, host, status) in [
        ("/health", "example.com", 200),
        ("/fast", "example.com", 400),
        ("/fast", "nobody.example.com", 404),
        ("/health", "asleep.example.com", 403),
    ] {
        let answer = exchange(address, path, host).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path} {host}: {answer}");
    }
}

#[tokio::test]
async fn a_request_runs_until_its_body_is_sent_or_given_up() {
    for path in ["/slow", "/streamed"] {
        let (address, go_on) = serve(at_once(1, 0)).await;
        let is_refused = async || exchange(address, "/fast", "acme.example.com").await.starts_with("HTTP/1.1 429");
        // Whoever asks whether it runs may have been in its way.
        let begin = async || loop {
            let running = tokio::spawn(exchange(address, path, "acme.example.com"));
            while !running.is_finished() {
                if is_refused().await && !running.is_finished() {
                    return running;
                }
            }
        };
        let running = begin().await;
        go_on.add_permits(1);
        let answer = running.await.expect("no panic");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        eventually("its place is free", async || !is_refused().await).await;
        // A client that goes away gives its place back.
        begin().await.abort();
        eventually("its place is free", async || !is_refused().await).await;
    }
}

#[tokio::test]
async fn requests_queue_behind_those_that_run() {
    let (address, go_on) = serve(at_once(1, 10)).await;
    let running = (0..5).map(|_| exchange(address, "/slow", "acme.example.com"));
    go_on.add_permits(5);
    for answer in futures::future::join_all(running).await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
