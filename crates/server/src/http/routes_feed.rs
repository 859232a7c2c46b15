//! `/v1/routes/feed`: newline-delimited JSON without an end.

use std::convert::Infallible;
use std::pin::pin;

use async_stream::stream;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tenantry_api::Route;
use tenantry_api::feed::{FEED_MEDIA_TYPE, FeedEvent, FeedQuery};
use tenantry_control::records::RouteChange;
use tenantry_control::routes::{self, FeedItem};
use tenantry_control::{Caller, ControlError};
use tracing::warn;

use super::auth::BearerToken;
use super::convert;
use super::extract::Query;
use super::problem::{Refusal, chain};
use super::state::Shared;
use super::streams;

/// Most events that go out in one piece: a snapshot is not one packet per line, and no piece grows large.
const EVENTS_MAX: usize = 128;

/// Follow the routes
///
/// Changes in commit order after the version that is named, one event a line (`FeedEvent`); a snapshot comes first
/// when none is named or it is too old. Endless: a heartbeat follows five seconds of silence. With passwords where the
/// token has `routes:secrets`. Whoever is cut off comes back with the last version that was applied.
#[utoipa::path(
    get,
    path = "/v1/routes/feed",
    operation_id = "follow_routes",
    tag = "routes",
    params(FeedQuery),
    responses((status = OK, description = "Events", body = FeedEvent, content_type = "application/x-ndjson")),
)]
pub(crate) async fn feed(
    State(shared): State<Shared>,
    Extension(caller): Extension<Caller>,
    Extension(token): Extension<BearerToken>,
    Query(query): Query<FeedQuery>,
) -> Result<impl IntoResponse, Refusal> {
    let items = routes::feed(shared.control(), &caller, query.after)?;
    let place = streams::place(&shared)?;
    let pieces = streams::guarded(shared, caller, token, place, pieces(items));
    Ok(([(CONTENT_TYPE, FEED_MEDIA_TYPE)], Body::from_stream(pieces.map(Ok::<_, Infallible>))))
}

/// Lines, as many at once as are ready. A failure ends the feed after what came before it.
fn pieces(items: impl Stream<Item = Result<FeedItem, ControlError>> + Send) -> impl Stream<Item = Bytes> + Send {
    stream! {
        let mut ready = pin!(items.ready_chunks(EVENTS_MAX));
        while let Some(items) = ready.next().await {
            let mut piece = Vec::new();
            let mut failure = None;
            for item in items {
                match item {
                    Ok(item) => write_line(&mut piece, item),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            if !piece.is_empty() {
                yield Bytes::from(piece);
            }
            if let Some(error) = failure {
                warn!(error = %chain(&error), "a route feed ends early; its reader resumes");
                return;
            }
        }
    }
}

fn write_line(piece: &mut Vec<u8>, item: FeedItem) {
    // Ids, words and numbers into memory: neither serialising nor writing can fail.
    if serde_json::to_writer(&mut *piece, &event(item)).is_ok() {
        piece.push(b'\n');
    }
}

fn event(item: FeedItem) -> FeedEvent {
    match item {
        FeedItem::SnapshotBegin(version) => FeedEvent::SnapshotBegin { version },
        FeedItem::SnapshotEnd(version) => FeedEvent::SnapshotEnd { version },
        FeedItem::Heartbeat(version) => FeedEvent::Heartbeat { version },
        FeedItem::Change(RouteChange::Route(route)) => FeedEvent::Route(Box::new(Route::from(*route))),
        FeedItem::Change(RouteChange::Removed { tenant, version }) => FeedEvent::Removed { tenant, version },
        FeedItem::Change(RouteChange::Cluster(cluster)) => FeedEvent::Cluster(convert::feed_cluster(cluster)),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tenantry_domain::FeedVersion;

    use super::*;

    #[tokio::test]
    async fn what_is_ready_goes_out_together_one_event_a_line() {
        let items = [
            Ok(FeedItem::SnapshotBegin(FeedVersion(41))),
            Ok(FeedItem::SnapshotEnd(FeedVersion(41))),
            Err(ControlError::PreconditionFailed),
            Ok(FeedItem::Heartbeat(FeedVersion(42))),
        ];
        let pieces: Vec<Bytes> = pieces(stream::iter(items)).collect().await;
        let text = pieces.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect::<String>();
        let lines = ["snapshot_begin", "snapshot_end"].map(|kind| format!("{{\"type\":\"{kind}\",\"version\":41}}\n"));
        assert_eq!((pieces.len(), text), (1, lines.concat()));
    }
}
