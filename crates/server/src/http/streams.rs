//! Answers without an end: counted, and ended when the door closes or the token is no longer good.

use std::pin::pin;
use std::time::Duration;

use async_stream::stream;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;
use tenantry_domain::TokenId;
use tokio::sync::OwnedSemaphorePermit;

use super::problem::Refusal;
use super::state::Shared;

/// Most lines that go out in one piece.
const ITEMS_MAX: usize = 64;
/// After so long a silence an empty line says that there is more to come.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A place for one stream.
pub(crate) fn place(shared: &Shared) -> Result<OwnedSemaphorePermit, Refusal> {
    let detail = "There are as many open streams as configured; try again.";
    shared.streams().clone().try_acquire_owned().map_err(|_| Refusal::busy(detail))
}

/// The stream, for as long as the caller may read it. It takes its place with it.
pub(crate) fn guarded<T: Send>(
    shared: Shared,
    token: Option<TokenId>,
    place: OwnedSemaphorePermit,
    items: impl Stream<Item = T> + Send,
) -> impl Stream<Item = T> + Send {
    let token = token.map(|token| shared.open_tokens().enter(token));
    stream! {
        let _place = place;
        let _open = Open::new();
        let mut items = pin!(items);
        let mut revoked = pin!(async {
            match &token {
                Some(token) => token.ended().await,
                None => std::future::pending().await,
            }
        });
        loop {
            let item = tokio::select! {
                biased;
                () = shared.closing().cancelled() => break,
                () = &mut revoked => break,
                item = items.next() => item,
            };
            match item {
                Some(item) => yield item,
                None => break,
            }
        }
    }
}

/// Each value as a line of JSON, as many at once as are ready, with an empty line now and then where nothing comes.
pub(crate) fn json_lines<T: Serialize + Send>(items: impl Stream<Item = T> + Send) -> impl Stream<Item = Bytes> + Send {
    stream! {
        let mut ready = pin!(items.ready_chunks(ITEMS_MAX));
        loop {
            match tokio::time::timeout(SILENCE_MAX, ready.next()).await {
                Ok(Some(items)) => {
                    let mut piece = Vec::new();
                    for item in items {
                        // Words, numbers and times into memory: neither serialising nor writing fails.
                        if serde_json::to_writer(&mut piece, &item).is_ok() {
                            piece.push(b'\n');
                        }
                    }
                    yield Bytes::from(piece);
                }
                Ok(None) => break,
                Err(_) => yield Bytes::from_static(b"\n"),
            }
        }
    }
}

/// Counts open streams.
struct Open;

impl Open {
    fn new() -> Self {
        metrics::gauge!("tenantry_http_streams").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("tenantry_http_streams").decrement(1.0);
    }
}
