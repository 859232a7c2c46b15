//! What a request gets whose tenant cannot be served.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tenantry_api::problem::PROBLEM_MEDIA_TYPE;
use tenantry_api::{Code, Problem};

use crate::error::{RouterError, whole_seconds};

/// Why a request has no tenant that can be served. Answers as a problem document.
#[derive(Debug, thiserror::Error)]
pub enum TenantRejection {
    /// None of the trusted places names one.
    #[error("the request names no tenant")]
    Missing,
    /// Two places name different tenants, or one place names several.
    #[error("the request names more than one tenant")]
    Disagreement,
    /// Its token is missing or not valid.
    #[cfg(feature = "jwt")]
    #[error(transparent)]
    Token(#[from] super::TokenError),
    /// Its token is for no tenant at all.
    #[error("the token is for no tenant")]
    TenantlessToken,
    /// Its token is for another tenant than the rest of the request.
    #[error("the token is for another tenant than the one that is asked for")]
    ForeignToken,
    /// The one that is named cannot be served.
    #[error(transparent)]
    Router(#[from] RouterError),
}

impl From<&RouterError> for Problem {
    fn from(error: &RouterError) -> Self {
        let code = match error {
            RouterError::Unknown { .. } => Code::NotFound,
            RouterError::Suspended { .. } => Code::Forbidden,
            RouterError::LimitExceeded { .. } => Code::LimitExceeded,
            RouterError::Provisioning { .. }
            | RouterError::Moving { .. }
            | RouterError::Stale { .. }
            | RouterError::SchemaVersion { .. }
            | RouterError::Unavailable { .. }
            | RouterError::NoReplica { .. }
            | RouterError::Timeout { .. }
            | RouterError::TooStale { .. }
            | RouterError::NotStarted { .. } => Code::Unavailable,
            // What is set up wrongly concerns those who read the log.
            RouterError::Refused { .. } | RouterError::Closed => {
                return Self::new(Code::Internal, "The service is not able to reach the tenant.");
            }
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for RouterError {
    fn into_response(self) -> Response {
        if matches!(self, Self::Refused { .. }) {
            tracing::error!(error = %self, "a request failed because the router is set up wrongly");
        }
        let mut response = respond(&Problem::from(&self));
        if let Some(retry_after) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, whole_seconds(retry_after).into());
        }
        response
    }
}

impl IntoResponse for TenantRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Missing | Self::Disagreement => respond(&Problem::new(Code::InvalidRequest, self.to_string())),
            Self::TenantlessToken | Self::ForeignToken => respond(&Problem::new(Code::Forbidden, self.to_string())),
            #[cfg(feature = "jwt")]
            Self::Token(error) => {
                let mut response = respond(&Problem::new(Code::Unauthenticated, error.to_string()));
                response.headers_mut().insert(axum::http::header::WWW_AUTHENTICATE, error.challenge());
                response
            }
            Self::Router(error) => error.into_response(),
        }
    }
}

fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match serde_json::to_vec(problem) {
        Ok(body) => (status, [(CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response(),
        Err(_) => status.into_response(),
    }
}
