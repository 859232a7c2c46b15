//! The outermost layer: one id, one span, one log line and one count per request; failures become problem documents.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use tenantry_domain::RequestId;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::problem::Refusal;
use super::request_id::{self, REQUEST_ID};

/// What the layer remembers of a request whose parts the handler consumes.
struct Seen {
    request_id: RequestId,
    method: &'static str,
    /// The template, such as `/v1/tenants/{tenant}`: bounded in number, unlike paths.
    route: String,
    path: String,
    begun: Instant,
}

/// Middleware for every request, known URL or not.
pub(crate) async fn observe(mut request: Request, next: Next) -> Response {
    let seen = Seen {
        request_id: request_id::of(request.headers()),
        method: method_label(request.method()),
        route: request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned(),
        path: request.uri().path().chars().take(200).collect(),
        begun: Instant::now(),
    };
    request.extensions_mut().insert(seen.request_id);
    let span = tracing::info_span!(
        "request",
        request_id = %seen.request_id,
        method = seen.method,
        route = seen.route,
        status = Empty,
        token_id = Empty,
        tenant_id = Empty,
        operation_id = Empty,
    );
    async {
        let outcome = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = outcome.unwrap_or_else(|panic| panicked(panic.as_ref()).into_response());
        seen.finish(response)
    }
    .instrument(span)
    .await
}

impl Seen {
    fn finish(&self, response: Response) -> Response {
        let mut response = self.with_problem(response);
        if let Some(id) = request_id::header(self.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let status = response.status();
        let elapsed = self.begun.elapsed();
        Span::current().record("status", status.as_u16());
        self.count(status, elapsed);
        self.log(status, elapsed);
        response
    }

    /// Renders a refusal; an error answer that bears none (an unknown URL, a wrong method) gets one by its status.
    fn with_problem(&self, mut response: Response) -> Response {
        let refusal = match response.extensions_mut().remove::<Refusal>() {
            Some(refusal) => refusal,
            None if response.status().is_client_error() || response.status().is_server_error() => {
                Refusal::of_status(response.status(), self.method, &self.path)
            }
            None => return response,
        };
        refusal.log();
        refusal.render(response, self.request_id)
    }

    fn count(&self, status: StatusCode, elapsed: Duration) {
        let labels = [("method", self.method.to_owned()), ("route", self.route.clone())];
        metrics::histogram!("tenantry_http_request_seconds", &labels).record(elapsed.as_secs_f64());
        let status = ("status", status.as_str().to_owned());
        let [method, route] = labels;
        metrics::counter!("tenantry_http_requests_total", &[method, route, status]).increment(1);
    }

    fn log(&self, status: StatusCode, elapsed: Duration) {
        let (method, path, status, elapsed_ms) = (self.method, &self.path, status.as_u16(), elapsed.as_millis());
        // Probes and scrapes come every few seconds for ever.
        if self.route.starts_with("/v1/") || status >= 400 {
            tracing::info!(elapsed_ms, "{method} {path} answered {status}");
        } else {
            tracing::debug!(elapsed_ms, "{method} {path} answered {status}");
        }
    }
}

/// Methods are free text on the wire; the metrics know only those that somebody may mean.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::PUT => "PUT",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Refusal {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Refusal::internal(format!("a handler panicked: {message}"))
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::middleware::from_fn;
    use axum::routing::get;
    use serde_json::Value;
    use tenantry_api::Code;
    use tower::ServiceExt;

    use super::*;

    fn app() -> Router {
        async fn fine() -> &'static str {
            "fine"
        }
        async fn broken() -> &'static str {
            panic!("a detail for the log")
        }
        async fn refused() -> Refusal {
            Refusal::new(Code::NoCapacity, "No room.")
        }
        Router::new()
            .route("/fine", get(fine))
            .route("/broken", get(broken))
            .route("/refused", get(refused))
            .layer(from_fn(observe))
    }

    async fn answer(method: &str, path: &str) -> (axum::http::response::Parts, Vec<u8>) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let (parts, body) = app().oneshot(request).await.expect("an answer").into_parts();
        (parts, to_bytes(body, 65_536).await.expect("a small body").to_vec())
    }

    async fn problem(method: &str, path: &str) -> (axum::http::response::Parts, Value) {
        let (parts, body) = answer(method, path).await;
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(problem["request_id"], parts.headers["x-request-id"].to_str().expect("text"));
        // The length of the bare answer must not outlive its body.
        let length = parts.headers.get("content-length").map(|length| length.to_str().expect("text").to_owned());
        assert!(length.is_none_or(|length| length == body.len().to_string()));
        (parts, problem)
    }

    #[tokio::test]
    async fn an_answer_bears_its_request_id() {
        let (parts, body) = answer("GET", "/fine").await;
        assert_eq!((parts.status, body.as_slice()), (StatusCode::OK, b"fine".as_slice()));
        assert!(parts.headers.contains_key("x-request-id"));
    }

    #[tokio::test]
    async fn a_panic_is_a_500_without_its_message() {
        let (parts, problem) = problem("GET", "/broken").await;
        assert_eq!(parts.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(problem["code"], "internal");
        assert!(!problem.to_string().contains("a detail for the log"), "{problem}");
    }

    #[tokio::test]
    async fn an_unknown_url_is_a_404_problem() {
        let (parts, problem) = problem("GET", "/nowhere").await;
        assert_eq!((parts.status, &problem["code"]), (StatusCode::NOT_FOUND, &Value::from("not_found")));
    }

    #[tokio::test]
    async fn a_wrong_method_is_a_405_problem_that_says_what_is_allowed() {
        let (parts, problem) = problem("PUT", "/fine").await;
        assert_eq!((parts.status, &problem["status"]), (StatusCode::METHOD_NOT_ALLOWED, &Value::from(405)));
        assert_eq!(parts.headers["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn a_refusal_is_rendered() {
        let (parts, problem) = problem("GET", "/refused").await;
        assert_eq!((parts.status, &problem["detail"]), (StatusCode::CONFLICT, &Value::from("No room.")));
    }
}
