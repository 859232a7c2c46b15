//! `/v1/routes/feed`: newline-delimited JSON without an end.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tenantry_api::Route;
use tenantry_api::feed::{ConnectionLease, FEED_MEDIA_TYPE, FeedEvent, FeedQuery};
use tenantry_control::records::RouteChange;
use tenantry_control::routes::{FeedItem, Follow, Packing};
use tenantry_control::{Caller, ControlError};
use tracing::warn;

use super::convert;
use super::extract::Query;
use super::problem::{Refusal, chain};
use super::state::Shared;
use super::streams;

/// Follow the routes
///
/// Changes in commit order after the version that is named, one event a line (`FeedEvent`); a snapshot comes first
/// when none is named or it is too old. Endless: a heartbeat every five seconds says that everything up to its version
/// has been told. Whoever comes hears the first one as soon as it has everything that was committed before it came, and
/// before that none, after a snapshot too: the end of a snapshot says nothing of what is newer. A router that gives its
/// name and reports is told what it may hold of clusters' connections, too. With passwords where the token has
/// `routes:secrets`. Whoever is cut off, as a reader that is too slow is, comes back with the last version that was
/// applied.
///
/// With `Accept-Encoding: gzip` the answer is a gzip stream that whole lines can be read of as they come.
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
    headers: HeaderMap,
    Query(query): Query<FeedQuery>,
) -> Result<Response, Refusal> {
    let place = streams::place(&shared)?;
    let packing = if accepts_gzip(&headers) { Packing::Gzip } else { Packing::Plain };
    let patience = shared.config().write_timeout;
    let follow = Follow { after: query.after, router: query.router, packing, patience };
    let pieces = pieces(shared.feed().follow(&caller, follow).await?);
    let pieces = streams::guarded(shared, caller.token, place, pieces);
    let body = Body::from_stream(pieces.map(Ok::<_, Infallible>));
    let mut response = ([(CONTENT_TYPE, FEED_MEDIA_TYPE), (VARY, "accept-encoding")], body).into_response();
    if packing == Packing::Gzip {
        // Also keeps the door's own compression away, which has an encoder for each reader.
        response.headers_mut().insert(CONTENT_ENCODING, axum::http::HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// A failure ends the feed after what came before it.
fn pieces(items: impl Stream<Item = Result<Bytes, ControlError>> + Send) -> impl Stream<Item = Bytes> + Send {
    items.filter_map(async |piece| {
        piece.inspect_err(|error| warn!(error = %chain(error), "a route feed ends early; its reader resumes")).ok()
    })
}

/// Whether the reader takes gzip; a weight of nothing is a refusal.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let mut codings = values.flat_map(|value| value.split(',')).map(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            (name.trim(), parameters.trim().strip_prefix("q=").map_or(Some(1.0), |weight| weight.trim().parse().ok()))
        });
        codings.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, weight)| weight.unwrap_or(0.0_f32))
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

/// Appends an item as one line.
pub(crate) fn write_line(text: &mut Vec<u8>, item: FeedItem) {
    // Ids, words and numbers into memory: neither serialising nor writing can fail.
    if serde_json::to_writer(&mut *text, &event(item)).is_ok() {
        text.push(b'\n');
    }
}

fn event(item: FeedItem) -> FeedEvent {
    match item {
        FeedItem::SnapshotBegin { version, routes } => FeedEvent::SnapshotBegin { version, routes: Some(routes) },
        FeedItem::SnapshotEnd(version) => FeedEvent::SnapshotEnd { version },
        FeedItem::Lease(lease) => FeedEvent::Lease(ConnectionLease {
            cluster: lease.cluster,
            connections: lease.connections,
            serial: lease.serial,
        }),
        FeedItem::Heartbeat(version) => FeedEvent::Heartbeat { version },
        FeedItem::Change(RouteChange::Route(route)) => FeedEvent::Route(Box::new(Route::from(*route))),
        FeedItem::Change(RouteChange::Removed { tenant, version }) => FeedEvent::Removed { tenant, version },
        FeedItem::Change(RouteChange::Cluster(cluster)) => FeedEvent::Cluster(convert::feed_cluster(cluster)),
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::FeedVersion;

    use super::*;

    #[test]
    fn an_item_is_a_line() {
        let mut text = Vec::new();
        write_line(&mut text, FeedItem::SnapshotBegin { version: FeedVersion(41), routes: 2 });
        write_line(&mut text, FeedItem::SnapshotEnd(FeedVersion(41)));
        let lines =
            "{\"type\":\"snapshot_begin\",\"version\":41,\"routes\":2}\n{\"type\":\"snapshot_end\",\"version\":41}\n";
        assert_eq!(String::from_utf8(text).expect("text"), lines);
    }

    #[test]
    fn only_who_takes_gzip_gets_it() {
        for (value, accepts) in [
            ("gzip", true),
            ("GZIP", true),
            ("br, gzip;q=0.5", true),
            ("*", true),
            ("deflate, *;q=0.1", true),
            ("gzip;q=0, *", false),
            ("gzip; q=0.000", false),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, value.parse().expect("a value"))]);
            assert_eq!(accepts_gzip(&headers), accepts, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
