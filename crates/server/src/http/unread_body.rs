//! What a client sends although its request was answered without it.
//!
//! A connection on which bytes are left unread cannot be used again, and closing it resets it, which can take the answer
//! away from a client that is still sending. So the rest is read and thrown away, and where that would take too long, the
//! answer says that the connection ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Version};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use http_body::{Body as HttpBody, Frame, SizeHint};

/// Most of a body that is read for nothing, and for how long at most.
const REST_BYTES_MAX: usize = 8 * 1024 * 1024;
const REST_TIME_MAX: Duration = Duration::from_secs(2);

/// Middleware for every request. HTTP/2 ends a stream without its connection and needs none of this.
pub(crate) async fn drain(request: Request, next: Next) -> Response {
    if request.version() >= Version::HTTP_2 || request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Whoever waits to be told that it may send is not told so.
    let sends_at_once = !request.headers().contains_key(EXPECT);
    let rest = Rest::default();
    let mut response = next.run(request.map(|body| Body::new(Watched { body: Some(body), rest: rest.clone() }))).await;
    if let Some(body) = rest.take() {
        let is_read = sends_at_once && tokio::time::timeout(REST_TIME_MAX, read(body)).await.unwrap_or(false);
        if !is_read {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

/// Reads a body for nothing; says whether it came to its end.
async fn read(body: Body) -> bool {
    let (mut pieces, mut bytes) = (body.into_data_stream(), 0);
    while let Some(piece) = pieces.next().await {
        bytes += piece.map_or(REST_BYTES_MAX, |piece| piece.len());
        if bytes >= REST_BYTES_MAX {
            return false;
        }
    }
    true
}

/// What was not read of a body, once its reader has let it go.
#[derive(Clone, Default)]
struct Rest(Arc<Mutex<Option<Body>>>);

impl Rest {
    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, body: Body) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

/// A body that leaves its rest.
struct Watched {
    /// Gone at its end.
    body: Option<Body>,
    rest: Rest,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            self.rest.put(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use futures::stream;
    use tower::ServiceExt;

    use super::*;

    /// Whether the connection is to be closed after a request whose body comes in so many pieces of a kilobyte; a handler
    /// reads all of it or nothing.
    async fn closes(path: &str, pieces: usize, more: bool, expects: bool) -> bool {
        let sent = stream::iter((0..pieces).map(|_| Ok::<_, Infallible>(Bytes::from_static(&[7; 1024]))));
        let sent = if more { sent.chain(stream::pending()).boxed() } else { sent.boxed() };
        let mut request = Request::post(path);
        if expects {
            request = request.header(EXPECT, "100-continue");
        }
        let request = request.body(Body::from_stream(sent)).expect("a request");
        let app = Router::new()
            .route("/reads", post(|body: Bytes| async move { body.len().to_string() }))
            .route("/refuses", post(|| async {}))
            .layer(from_fn(drain));
        app.oneshot(request).await.expect("an answer").headers().get(CONNECTION).is_some_and(|value| value == "close")
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_stays_where_the_rest_comes_soon_and_is_not_large() {
        assert!(!closes("/reads", 100, false, false).await);
        assert!(!closes("/refuses", 0, false, false).await);
        assert!(!closes("/refuses", 2 * 1024, false, false).await);
        assert!(closes("/refuses", 8 * 1024, false, false).await, "too large");
        assert!(closes("/refuses", 10, true, false).await, "does not end");
        assert!(closes("/refuses", 10, false, true).await, "waits to be told");
    }
}
