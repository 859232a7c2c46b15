//! `/openapi.json` and `/docs`. Nothing is loaded from elsewhere.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use bytes::Bytes;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::{Config, SwaggerUi};

const DOCUMENT: &str = "/openapi.json";

/// The pages. The document is written out once.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(document: &OpenApi) -> Router<S> {
    // Strings and maps with string keys: nothing here fails to serialise.
    let document = Bytes::from(serde_json::to_vec(document).unwrap_or_default());
    let pages = SwaggerUi::new("/docs").config(Config::new([DOCUMENT]).validator_url("none"));
    Router::<S>::from(pages)
        .route(DOCUMENT, get(move || async move { ([(CONTENT_TYPE, "application/json")], document) }))
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str) -> (u16, String) {
        let app: Router = router(&super::super::openapi_document());
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = app.oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 16 * 1024 * 1024).await.expect("a page");
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    #[tokio::test]
    async fn the_pages_and_their_document_are_served_from_here() {
        let (status, page) = get("/docs/").await;
        assert_eq!(status, 200);
        assert!(!page.contains("http://") && !page.contains("https://"), "{page}");
        let (status, initializer) = get("/docs/swagger-initializer.js").await;
        assert_eq!(status, 200);
        assert!(initializer.contains(DOCUMENT), "{initializer}");
        let (status, document) = get(DOCUMENT).await;
        assert_eq!(status, 200);
        let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
    }

    #[tokio::test]
    async fn the_page_runs_no_script_of_its_own() {
        let (_, page) = get("/docs/").await;
        let inline = page.split("<script").skip(1).filter(|script| !script.starts_with(" src=")).count();
        assert_eq!(inline, 0, "{page}");
    }
}
