//! How the service says no: RFC 9457 problem documents with a stable code.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tenantry_router::RouterError;
use tokio_postgres::error::SqlState;

/// Why a request was refused.
#[derive(Debug)]
pub(crate) enum Problem {
    /// By the product itself. The detail is for the caller; what PostgreSQL says stays in the log.
    Refused { status: StatusCode, code: &'static str, detail: String },
    /// By the router, which has its own words for it.
    Unreachable(RouterError),
}

#[derive(Serialize)]
struct Document {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { status, code, detail: detail.into() }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(crate) fn invalid_state(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "invalid_state", detail)
    }

    fn invalid_request(status: StatusCode, detail: String) -> Self {
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "payload_too_large" } else { "invalid_request" };
        Self::new(status, code, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, detail) = match self {
            Self::Refused { status, code, detail } => (status, code, detail),
            Self::Unreachable(error) => return error.into_response(),
        };
        let title = status.canonical_reason().unwrap_or("Error");
        let document = Document { r#type: "about:blank", title, status: status.as_u16(), code, detail };
        let mut response = (status, Json(document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<RouterError> for Problem {
    fn from(error: RouterError) -> Self {
        Self::Unreachable(error)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid_request(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::invalid_request(rejection.status(), rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::invalid_request(rejection.status(), rejection.body_text())
    }
}

/// The tenant's database went away or was too slow: worth another try. Anything else is our fault.
impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        let passing = [
            SqlState::QUERY_CANCELED,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
        ];
        let is_passing = error.is_closed() || error.code().is_some_and(|code| passing.contains(code));
        tracing::error!(error = &error as &dyn std::error::Error, is_passing, "a query failed");
        if is_passing {
            let detail = "the airline's database did not answer: try again in a moment";
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
        } else {
            let detail = "the request could not be answered: it is not your fault, and it was logged";
            Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        }
    }
}
