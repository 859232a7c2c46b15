//! Headers that tell browsers and caches to be careful.

use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

/// Nothing that the door answers is a page, but for the documentation.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";
/// The documentation runs its own scripts, and nobody else's; it sets styles from scripts.
const DOCUMENTATION: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                             connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; \
                             frame-ancestors 'none'";

/// Middleware for every answer.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let (is_documentation, is_api) = (path == "/docs" || path.starts_with("/docs/"), path.starts_with("/v1/"));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    set(headers, CONTENT_SECURITY_POLICY, if is_documentation { DOCUMENTATION } else { NOTHING });
    set(headers, X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(headers, REFERRER_POLICY, "no-referrer");
    if is_api && !headers.contains_key(CACHE_CONTROL) {
        // Answers depend on the token and may bear secrets: no cache may keep one, unless the answer says otherwise.
        set(headers, CACHE_CONTROL, "no-store");
    }
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn;
    use tower::ServiceExt;

    use super::*;

    async fn headers(path: &str) -> HeaderMap {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let app: Router = Router::new().layer(from_fn(guard));
        app.oneshot(request).await.expect("an answer").headers().clone()
    }

    #[tokio::test]
    async fn answers_of_the_api_are_never_kept_and_never_guessed_at() {
        let headers = headers("/v1/tokens").await;
        assert_eq!(headers[CACHE_CONTROL], "no-store");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CONTENT_SECURITY_POLICY], NOTHING);
    }

    #[tokio::test]
    async fn only_the_documentation_may_run_scripts() {
        assert_eq!(headers("/docs/index.html").await[CONTENT_SECURITY_POLICY], DOCUMENTATION);
        assert_eq!(headers("/docsx").await[CONTENT_SECURITY_POLICY], NOTHING);
    }
}
