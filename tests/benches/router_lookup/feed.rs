//! A feed that brings the whole crowd, as a control plane would.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use futures::StreamExt;
use tenantry_api::feed::FEED_MEDIA_TYPE;
use tenantry_api::{FeedEvent, Route};
use tenantry_domain::{FeedVersion, Secret};
use tenantry_router::Router;
use tokio::net::TcpListener;

use crate::crowd::{BASE_DOMAIN, Crowd};

const VERSION: FeedVersion = FeedVersion(1);
/// Routes of one piece.
const TOGETHER: usize = 500;

/// Serves the snapshot to the first who asks, says that it is everything, and nothing more to anybody.
pub(crate) async fn serve(crowd: &Crowd) -> SocketAddr {
    let pieces = Arc::new(Mutex::new(snapshot(crowd)));
    let feed = move || {
        // Each piece is freed when it was sent.
        let pieces = std::mem::take(&mut *pieces.lock().expect("not poisoned"));
        let sent = futures::stream::iter(pieces).chain(futures::stream::pending());
        async { ([(CONTENT_TYPE, FEED_MEDIA_TYPE)], Body::from_stream(sent.map(Ok::<_, Infallible>))) }
    };
    let routes = axum::Router::new().route("/v1/routes/feed", get(feed));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await.expect("served") });
    address
}

/// A router that has applied the snapshot.
pub(crate) async fn router(address: SocketAddr) -> Router {
    let token = Secret::new("no token is looked at".to_owned());
    let builder = Router::builder().control_plane(format!("http://{address}"), token);
    builder.base_domain(BASE_DOMAIN).build().await.expect("a router")
}

fn snapshot(crowd: &Crowd) -> Vec<Bytes> {
    let begin = FeedEvent::SnapshotBegin { version: VERSION, routes: Some(crowd.len() as u64) };
    let mut pieces = vec![line(&begin)];
    for first in (0..crowd.len()).step_by(TOGETHER) {
        let numbers = first..(first + TOGETHER).min(crowd.len());
        let lines = numbers.map(|number| line(&FeedEvent::Route(Box::new(Route::from(crowd.route(number))))));
        pieces.push(lines.collect::<Vec<_>>().concat().into());
    }
    pieces.push(line(&FeedEvent::SnapshotEnd { version: VERSION }));
    pieces.push(line(&FeedEvent::Heartbeat { version: VERSION }));
    pieces
}

fn line(event: &FeedEvent) -> Bytes {
    let mut text = serde_json::to_vec(event).expect("serialises");
    text.push(b'\n');
    text.into()
}
