//! A control plane that serves the feed, and misbehaves on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::Stream;
use tenantry_api::feed::FeedQuery;
use tenantry_api::{Code, FeedCluster, FeedEvent, Problem, RouterReport};
use tenantry_domain::{FeedVersion, Route, Secret, TenantId};
use tenantry_router::{Router, RouterBuilder};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What the router must send.
pub(crate) const TOKEN: &str = "r0uter";

type Line = Result<Bytes, std::io::Error>;

#[derive(Default)]
struct Plane {
    version: i64,
    clusters: Vec<FeedCluster>,
    routes: BTreeMap<TenantId, Route>,
    /// Every change as it was sent, for readers that resume.
    log: Vec<(i64, Bytes)>,
    connections: Vec<UnboundedSender<Line>>,
    /// What each connection asked for.
    asked: Vec<Option<i64>>,
    reports: Vec<(String, RouterReport)>,
    refuse: Option<Code>,
    snapshot_only: bool,
    is_silent: bool,
    is_unsure: bool,
}

/// A feed over HTTP on a port of its own.
#[derive(Clone)]
pub(crate) struct FeedServer {
    pub(crate) url: String,
    plane: Arc<Mutex<Plane>>,
}

fn line(event: &FeedEvent) -> Bytes {
    let mut text = serde_json::to_string(event).expect("an event is JSON");
    text.push('\n');
    Bytes::from(text)
}

impl FeedServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = Self { url, plane: Arc::default() };
        let app = axum::Router::new()
            .route("/v1/routes/feed", get(feed))
            .route("/v1/routers/{router}/report", post(report))
            .with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    fn plane(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().expect("no panic")
    }

    /// A router that follows this feed.
    pub(crate) fn router(&self) -> RouterBuilder {
        Router::builder().control_plane(&self.url, Secret::new(TOKEN.to_owned()))
    }

    pub(crate) fn version(&self) -> FeedVersion {
        FeedVersion(self.plane().version)
    }

    pub(crate) fn add_cluster(&self, mut cluster: FeedCluster) {
        let mut plane = self.plane();
        plane.version += 1;
        cluster.version = FeedVersion(plane.version);
        plane.clusters.push(cluster.clone());
        plane.send(&FeedEvent::Cluster(cluster));
    }

    /// Commits a route under the next version.
    pub(crate) fn publish(&self, mut route: Route) -> FeedVersion {
        let mut plane = self.plane();
        plane.version += 1;
        route.version = FeedVersion(plane.version);
        plane.routes.insert(route.tenant, route.clone());
        plane.send(&FeedEvent::Route(Box::new(route.into())));
        FeedVersion(plane.version)
    }

    pub(crate) fn remove(&self, tenant: TenantId) -> FeedVersion {
        let mut plane = self.plane();
        plane.version += 1;
        plane.routes.remove(&tenant);
        let version = FeedVersion(plane.version);
        plane.send(&FeedEvent::Removed { tenant, version });
        version
    }

    /// Sends an event to those who are connected, without remembering it.
    pub(crate) fn say(&self, event: &FeedEvent) {
        self.raw(line(event));
    }

    pub(crate) fn raw(&self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.plane().connections.retain(|connection| connection.send(Ok(bytes.clone())).is_ok());
    }

    /// Cuts every connection in the middle of a line.
    pub(crate) fn cut(&self) {
        self.raw("{\"type\":\"rou");
        for connection in self.plane().connections.drain(..) {
            let _ = connection.send(Err(std::io::Error::other("cut")));
        }
    }

    /// Answers every new connection with a problem, until told otherwise.
    pub(crate) fn refuse(&self, code: Option<Code>) {
        self.plane().refuse = code;
    }

    /// Forgets its log, so that a reader that resumes gets a snapshot.
    pub(crate) fn compact(&self) {
        self.plane().snapshot_only = true;
    }

    /// Takes connections and says nothing on them, until told otherwise.
    pub(crate) fn fall_silent(&self, is_silent: bool) {
        self.plane().is_silent = is_silent;
    }

    /// Does not say after a snapshot that it was everything.
    pub(crate) fn be_unsure(&self) {
        self.plane().is_unsure = true;
    }

    /// What each connection asked to resume after.
    pub(crate) fn asked(&self) -> Vec<Option<i64>> {
        self.plane().asked.clone()
    }

    pub(crate) fn reports(&self) -> Vec<(String, RouterReport)> {
        self.plane().reports.clone()
    }
}

impl Plane {
    fn send(&mut self, event: &FeedEvent) {
        let bytes = line(event);
        self.log.push((self.version, bytes.clone()));
        self.connections.retain(|connection| connection.send(Ok(bytes.clone())).is_ok());
    }

    fn heartbeat(&self) -> Bytes {
        line(&FeedEvent::Heartbeat { version: FeedVersion(self.version) })
    }

    fn snapshot(&self) -> Vec<Bytes> {
        let version = FeedVersion(self.version);
        let mut lines = vec![line(&FeedEvent::SnapshotBegin { version, routes: None })];
        lines.extend(self.clusters.iter().map(|cluster| line(&FeedEvent::Cluster(cluster.clone()))));
        lines.extend(self.routes.values().map(|route| line(&FeedEvent::Route(Box::new(route.clone().into())))));
        lines.push(line(&FeedEvent::SnapshotEnd { version }));
        lines
    }
}

fn refusal(code: Code) -> Response {
    let status = StatusCode::from_u16(code.status()).expect("a status");
    (status, axum::Json(Problem::new(code, "so it is"))).into_response()
}

async fn feed(State(server): State<FeedServer>, Query(query): Query<FeedQuery>, headers: HeaderMap) -> Response {
    let mut plane = server.plane();
    plane.asked.push(query.after.map(|after| after.0));
    if let Some(code) = plane.refuse {
        return refusal(code);
    }
    if headers.get("authorization").is_none_or(|token| token != &format!("Bearer {TOKEN}")) {
        return refusal(Code::Unauthenticated);
    }
    let (sender, receiver) = unbounded_channel();
    let first = match query.after {
        _ if plane.is_silent => Vec::new(),
        Some(after) if !plane.snapshot_only => {
            let missed = plane.log.iter().filter(|(version, _)| *version > after.0).map(|(_, bytes)| bytes.clone());
            missed.chain([plane.heartbeat()]).collect()
        }
        _ => plane.snapshot().into_iter().chain((!plane.is_unsure).then(|| plane.heartbeat())).collect(),
    };
    for bytes in first {
        sender.send(Ok(bytes)).expect("the receiver is here");
    }
    plane.connections.push(sender);
    Body::from_stream(stream_of(receiver)).into_response()
}

async fn report(
    State(server): State<FeedServer>,
    Path(router): Path<String>,
    axum::Json(report): axum::Json<RouterReport>,
) -> StatusCode {
    server.plane().reports.push((router, report));
    StatusCode::NO_CONTENT
}

/// A channel's items as a stream.
fn stream_of<T>(receiver: UnboundedReceiver<T>) -> impl Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|item| (item, receiver)) })
}
