//! The client against servers that misbehave as real ones do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tenantry_api::client::{Client, ClientConfig, ClientError};
use tenantry_api::{Code, CreateTenant, FeedEvent, Problem, RouteLine, UpdateTenant};
use tenantry_domain::{FeedVersion, Secret, Slug};

/// One request as a server saw it.
#[derive(Debug, Clone)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

type Answer = Arc<dyn Fn(usize) -> Response + Send + Sync>;

#[derive(Clone)]
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    answer: Answer,
}

impl Server {
    /// Listens on a free port; `answer` is given the number of the request, from 0.
    async fn start(answer: impl Fn(usize) -> Response + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Self { url, seen: Arc::default(), answer: Arc::new(answer) };
        let app = axum::Router::new().fallback(handle).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn client(&self) -> Client {
        let mut config = ClientConfig::new(&self.url, Some(Secret::new("t0ken".to_owned()))).expect("valid");
        config.idle_timeout = Duration::from_millis(200);
        config.retries = 2;
        Client::new(config).expect("loopback")
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn handle(State(server): State<Server>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let number = {
        let mut seen = server.seen.lock().expect("no panic");
        seen.push(Seen { method, uri, headers });
        seen.len() - 1
    };
    (server.answer)(number)
}

fn problem(code: Code) -> Response {
    let status = StatusCode::from_u16(code.status()).expect("a status");
    (status, axum::Json(Problem::new(code, "so it is"))).into_response()
}

/// An answer that is cut off before its end.
fn cut_off() -> Response {
    let chunks = vec![Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("cut"))];
    Body::from_stream(stream::iter(chunks)).into_response()
}

fn acme() -> Slug {
    Slug::parse("acme").expect("valid")
}

#[tokio::test]
async fn a_repeated_post_bears_the_same_idempotency_key() {
    let server = Server::start(|number| if number == 0 { cut_off() } else { problem(Code::SlugTaken) }).await;
    let error = server.client().create_tenant(&CreateTenant::new(acme()), None).await.expect_err("taken");
    assert_eq!(error.code(), Some(Code::SlugTaken));
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].headers["idempotency-key"], seen[1].headers["idempotency-key"]);
    assert_eq!(seen[0].headers["authorization"], "Bearer t0ken");

    let _ = server.client().create_tenant(&CreateTenant::new(acme()), None).await;
    assert_ne!(server.seen()[2].headers["idempotency-key"], seen[0].headers["idempotency-key"]);
}

#[tokio::test]
async fn what_is_unavailable_is_asked_for_again_but_not_for_ever() {
    let server = Server::start(|_| problem(Code::Unavailable)).await;
    let error = server.client().show_tenant(&acme().into()).await.expect_err("unavailable");
    assert!(error.is_retryable());
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_refusal_is_not_repeated_and_says_what_the_server_said() {
    let server = Server::start(|_| problem(Code::NotFound)).await;
    let error = server.client().show_tenant(&acme().into()).await.expect_err("not found");
    assert_eq!(error.to_string(), "so it is (not_found)");
    assert_eq!(server.seen().len(), 1);
    assert_eq!(server.seen()[0].uri.path(), "/v1/tenants/acme");
}

#[tokio::test]
async fn a_patch_whose_answer_is_lost_is_not_repeated() {
    let server = Server::start(|_| cut_off()).await;
    let error = server.client().update_tenant(&acme().into(), &UpdateTenant::default(), Some("\"7\"")).await;
    assert!(matches!(error, Err(ClientError::Unreachable { .. })));
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].method, &seen[0].headers["if-match"]), (&Method::PATCH, &"\"7\"".parse().expect("a value")));
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let elsewhere = Server::start(|_| problem(Code::NotFound)).await;
    let location = elsewhere.url.clone();
    let server = Server::start(move |_| (StatusCode::FOUND, [("location", location.clone())]).into_response()).await;
    let error = server.client().show_tenant(&acme().into()).await.expect_err("no answer of ours");
    assert!(matches!(error, ClientError::Unexpected { status: 302, .. }));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn something_else_that_listens_there_is_named_as_such() {
    let server = Server::start(|_| "<html>hello</html>".into_response()).await;
    let error = server.client().show_tenant(&acme().into()).await.expect_err("no answer of ours");
    assert!(matches!(error, ClientError::Unexpected { status: 200, .. }), "{error}");
}

#[tokio::test]
async fn feed_events_are_put_together_however_the_bytes_arrive() {
    let server = Server::start(|_| {
        let text = concat!(
            r#"{"type":"snapshot_begin","version":7}"#,
            "\r\n\n",
            r#"{"type":"snapshot_end","version":7}"#,
            "\n",
            r#"{"type":"from_the_future","version":"x"}"#,
            "\n",
            r#"{"type":"heartbeat","version":8}"#,
            "\n"
        );
        let bytes = text.bytes().map(|byte| Ok::<_, std::io::Error>(Bytes::from(vec![byte])));
        Body::from_stream(stream::iter(bytes.collect::<Vec<_>>())).into_response()
    })
    .await;
    let feed = server.client().feed(Some(FeedVersion(5))).await.expect("open");
    let events: Vec<_> = feed.map(|event| event.expect("an event")).collect().await;
    let versions: Vec<_> = events.iter().map(FeedEvent::version).collect();
    assert_eq!(versions, [None, Some(FeedVersion(7)), Some(FeedVersion(8))]);
    assert_eq!(server.seen()[0].uri.query(), Some("after=5"));
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("into memory");
    encoder.finish().expect("into memory")
}

fn in_pieces(bytes: &[u8], size: usize) -> Response {
    let pieces: Vec<_> = bytes.chunks(size).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    ([("content-encoding", "gzip")], Body::from_stream(stream::iter(pieces))).into_response()
}

#[tokio::test]
async fn a_packed_feed_is_told_as_far_as_it_arrived_however_it_is_cut() {
    let heartbeat = |version| format!("{{\"type\":\"heartbeat\",\"version\":{version}}}\n");
    let members: Vec<Vec<u8>> =
        (0..300).map(|number| packed(&(number * 10..number * 10 + 10).map(heartbeat).collect::<String>())).collect();
    for size in [1, 7, 1_024, 1_000_000] {
        let bytes = members.concat();
        let server = Server::start(move |_| in_pieces(&bytes, size)).await;
        let feed = server.client().feed(Some(FeedVersion(5))).await.expect("open");
        let versions: Vec<_> =
            feed.map(|event| event.expect("an event").version().expect("a version").0).collect().await;
        assert_eq!(versions, (0..3_000).collect::<Vec<_>>(), "in pieces of {size}");
        assert_eq!(server.seen()[0].headers["accept-encoding"], "gzip");
    }
    // The last member is whole though nothing follows it.
    let one = members[0].clone();
    let server = Server::start(move |_| {
        let endless = stream::iter([Ok::<_, std::io::Error>(one.clone())]).chain(stream::pending());
        ([("content-encoding", "gzip")], Body::from_stream(endless)).into_response()
    })
    .await;
    let mut feed = server.client().feed(None).await.expect("open");
    for version in 0..10 {
        let event = feed.next().await.expect("an event").expect("an event");
        assert_eq!(event, FeedEvent::Heartbeat { version: FeedVersion(version) });
    }
}

#[tokio::test]
async fn a_packed_feed_that_is_broken_endless_or_strange_is_an_error() {
    let mut broken = packed("{\"type\":\"heartbeat\",\"version\":1}\n");
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let endless = packed(&" ".repeat(64 * 1024 * 1024));
    for bytes in [broken, endless, b"no gzip at all".to_vec()] {
        let server = Server::start(move |_| in_pieces(&bytes, 4_096)).await;
        let mut feed = server.client().feed(None).await.expect("open");
        let error = feed.next().await.expect("an item").expect_err("no event");
        assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
    }
    let server = Server::start(|_| ([("content-encoding", "br")], "x").into_response()).await;
    let error = server.client().feed(None).await.err().expect("an unknown coding");
    assert!(matches!(error, ClientError::Unexpected { .. }), "{error}");
}

#[tokio::test]
async fn a_router_says_its_name() {
    let server = Server::start(|_| "".into_response()).await;
    let is_alive = |event: FeedEvent<RouteLine<'_>>| matches!(event, FeedEvent::Heartbeat { .. });
    drop(server.client().feed_as("flights 1", Some(FeedVersion(5)), is_alive).await.expect("open"));
    assert_eq!(server.seen()[0].uri.query(), Some("after=5&router=flights+1"));
    assert!(matches!(server.client().feed_as("", None, is_alive).await, Err(ClientError::Refused { .. })));
}

#[tokio::test]
async fn a_line_that_is_no_event_and_a_silent_feed_are_errors_that_tell_no_secret() {
    let server = Server::start(|_| "{\"password\": \"hunter2\" rubbish\n".into_response()).await;
    let mut feed = server.client().feed(None).await.expect("open");
    let error = feed.next().await.expect("an item").expect_err("rubbish");
    assert!(matches!(error, ClientError::Unexpected { .. }));
    assert!(!error.to_string().contains("hunter2"), "{error}");

    let server =
        Server::start(|_| Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>()).into_response()).await;
    let mut feed = server.client().feed(None).await.expect("open");
    assert!(matches!(feed.next().await, Some(Err(ClientError::Unreachable { .. }))));
}

#[tokio::test]
async fn operation_events_pass_over_keep_alives() {
    let server = Server::start(|_| {
        let event = r#"{"id":3,"at":"2026-01-01T00:00:00Z","kind":"step_done","step":"migrate","detail":{}}"#;
        (StatusCode::OK, format!(": hello\n\nid: 3\nevent: step_done\ndata: {event}\n\n: bye\n\n")).into_response()
    })
    .await;
    let id = tenantry_domain::OperationId::new(uuid::Uuid::from_u128(1));
    let events = server.client().operation_events(id, Some(2)).await.expect("open");
    let events: Vec<_> = events.map(|event| event.expect("an event")).collect().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].id, events[0].step.as_deref()), (3, Some("migrate")));
    assert_eq!(server.seen()[0].headers["last-event-id"], "2");
}

#[tokio::test]
async fn calls_can_be_awaited_in_spawned_tasks() {
    let server = Server::start(|_| problem(Code::NotFound)).await;
    let client = server.client();
    let call = tokio::spawn(async move { client.show_tenant(&acme().into()).await.map(|_| ()) });
    assert_eq!(call.await.expect("no panic").expect_err("not found").code(), Some(Code::NotFound));
}
