//! What handlers take apart: JSON bodies, queries and names in paths. What does not fit is a problem document that
//! points at the place.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query as AxumQuery, RawPathParams, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, value};
use tenantry_api::problem::parse_body;
use tenantry_api::{Code, Problem};

use super::problem::Refusal;

/// A JSON body, read or written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(not_json());
        }
        parse(&body(request, state).await?).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// A JSON body that may be left out; then it is the default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let is_json = is_json(request.headers());
        let body = body(request, state).await?;
        match (body.is_empty(), is_json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&body).map(Self),
            (false, false) => Err(not_json()),
        }
    }
}

fn not_json() -> Refusal {
    let detail = "Send JSON with the header `Content-Type: application/json`.";
    Refusal::new(Code::InvalidRequest, detail).with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    parse_body(body).map_err(|invalid| {
        let problem = Problem::from(invalid);
        Refusal::new(problem.code, problem.detail).with_errors(problem.errors)
    })
}

/// The whole body, within the limit of its route.
pub(crate) async fn body<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(failure) if failure.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Refusal::new(Code::PayloadTooLarge, "The body is larger than this call accepts; send less at once.")
        }
        _ => Refusal::new(Code::InvalidRequest, "The body could not be read to its end; send it again."),
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = given.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// For calls that take no body: nothing, or an empty object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = body(request, state).await?;
        let is_empty = body.is_empty() || parse_body::<serde_json::Map<_, _>>(&body).is_ok_and(|map| map.is_empty());
        if is_empty { Ok(Self) } else { Err(Refusal::new(Code::InvalidRequest, "This call takes no body; send none.")) }
    }
}

/// The query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        match AxumQuery::try_from_uri(&parts.uri) {
            Ok(AxumQuery(query)) => Ok(Self(query)),
            Err(rejection) => Err(invalid_query(&rejection)),
        }
    }
}

/// Finds the parameter that is to blame in what axum reports.
fn invalid_query(rejection: &QueryRejection) -> Refusal {
    let mut cause: Option<&(dyn Error + 'static)> = Some(rejection);
    while let Some(error) = cause {
        if let Some(located) = error.downcast_ref::<serde_path_to_error::Error<value::Error>>() {
            let name = located.path().iter().next().map(ToString::to_string).unwrap_or_default();
            return Refusal::invalid(format!("?{name}"), located.inner().to_string());
        }
        cause = error.source();
    }
    Refusal::new(Code::InvalidRequest, "The query is not valid.")
}

/// The last name in the path, parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: FromStr<Err: fmt::Display>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Refusal::new(Code::InvalidRequest, "The path is no UTF-8."))?;
        let Some((name, text)) = params.iter().last() else {
            return Err(Refusal::internal("a route without a parameter takes one"));
        };
        parsed(name, text).map(Self)
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(name: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal::invalid(format!("{{{name}}}"), error.to_string()))
}

/// Both names in a path that has two, parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paths<A, B>(pub(crate) A, pub(crate) B);

impl<A, B, S> FromRequestParts<S> for Paths<A, B>
where
    A: FromStr<Err: fmt::Display>,
    B: FromStr<Err: fmt::Display>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Refusal::new(Code::InvalidRequest, "The path is no UTF-8."))?;
        let mut params = params.iter();
        match (params.next(), params.next()) {
            (Some((first, one)), Some((second, other))) => Ok(Self(parsed(first, one)?, parsed(second, other)?)),
            _ => Err(Refusal::internal("a route without two parameters takes two")),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::extract::DefaultBodyLimit;
    use axum::middleware::from_fn;
    use axum::routing::{get, post};
    use serde_json::Value;
    use tenantry_api::{CreateTenant, ListTenants, TenantRef};
    use tower::ServiceExt;

    use super::super::observe::observe;
    use super::*;

    fn app() -> Router {
        async fn create(Json(create): Json<CreateTenant>) -> String {
            create.slug.to_string()
        }
        async fn list(Query(_): Query<ListTenants>) {}
        async fn show(Path(tenant): Path<TenantRef>) -> String {
            tenant.to_string()
        }
        async fn act(Path(_): Path<TenantRef>, _: NoBody) {}
        Router::new()
            .route("/tenants", post(create).get(list))
            .route("/tenants/{tenant}", get(show))
            .route("/tenants/{tenant}/act", post(act))
            .layer(DefaultBodyLimit::max(256))
            .layer(from_fn(observe))
    }

    async fn send(request: axum::http::request::Builder, body: impl Into<Body>) -> (u16, Value) {
        let request = request.body(body.into()).expect("a request");
        let response = app().oneshot(request).await.expect("an answer");
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 65_536).await.expect("a small body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn create(body: impl Into<Body>) -> (u16, Value) {
        send(Request::post("/tenants").header("content-type", "application/json; charset=utf-8"), body).await
    }

    #[tokio::test]
    async fn a_valid_body_arrives() {
        assert_eq!(create(r#"{"slug": "acme"}"#).await, (200, Value::from("acme")));
    }

    #[tokio::test]
    async fn a_wrong_body_is_pointed_at() {
        for (body, pointer) in [
            (r#"{"slug": 7}"#, "/slug"),
            (r#"{"slug": "Not A Slug"}"#, "/slug"),
            (r#"{"slug": "acme", "colour": "red"}"#, "/colour"),
            (r#"{"slug": "acme", "overrides": {"pool_size": "x"}}"#, "/overrides/pool_size"),
            ("{}", ""),
            ("", ""),
            ("{", ""),
            (r#"{"slug": "acme"}, {}"#, ""),
        ] {
            let (status, problem) = create(body).await;
            assert_eq!((status, &problem["code"]), (400, &Value::from("invalid_request")), "{body}");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_413_and_another_media_type_415() {
        let (status, problem) = create(format!(r#"{{"slug": "acme", "name": "{}"}}"#, "x".repeat(300))).await;
        assert_eq!((status, &problem["code"]), (413, &Value::from("payload_too_large")));
        for request in [Request::post("/tenants"), Request::post("/tenants").header("content-type", "text/plain")] {
            let (status, problem) = send(request, r#"{"slug": "acme"}"#).await;
            assert_eq!((status, &problem["status"]), (415, &Value::from(415)));
        }
    }

    #[tokio::test]
    async fn a_wrong_query_is_pointed_at() {
        for (query, pointer) in [
            ("limit=0", "?limit"),
            ("limit=many", "?limit"),
            ("status=asleep", "?status"),
            ("colour=red", "?colour"),
            ("region=EU%201", "?region"),
        ] {
            let (status, problem) = send(Request::get(format!("/tenants?{query}")), Body::empty()).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &Value::from(pointer)), "{query}: {problem}");
        }
        let (status, _) =
            send(Request::get("/tenants?limit=500&status=active,failed&labels=a%3Db"), Body::empty()).await;
        assert_eq!(status, 200);
    }

    #[tokio::test]
    async fn a_wrong_name_in_the_path_is_pointed_at() {
        assert_eq!(send(Request::get("/tenants/acme"), Body::empty()).await, (200, Value::from("acme")));
        for path in ["/tenants/Not%20A%20Slug", "/tenants/-"] {
            let (status, problem) = send(Request::get(path), Body::empty()).await;
            assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &Value::from("{tenant}")), "{problem}");
        }
        assert_eq!(send(Request::get("/tenants/%ff"), Body::empty()).await.0, 400);
    }

    #[tokio::test]
    async fn a_call_without_a_body_refuses_one() {
        for (body, status) in [("", 200), ("{}", 200), (r#"{"force": true}"#, 400), ("x", 400)] {
            assert_eq!(send(Request::post("/tenants/acme/act"), body).await.0, status, "{body}");
        }
    }
}
