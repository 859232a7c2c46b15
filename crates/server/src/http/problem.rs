//! Which status and code a failure gets, and what of it a stranger may read.
//!
//! A [`Refusal`] travels inside the response until [`super::observe`] renders it, because only that layer knows the
//! request's id and logs each failure once.

use std::error::Error;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tenantry_api::problem::PROBLEM_MEDIA_TYPE;
use tenantry_api::{Code, Problem, ProblemDetail};
use tenantry_control::ControlError;
use tenantry_domain::RequestId;

/// A request that is not answered with what it asked for.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    /// Boxed, because every handler's result has room for it.
    problem: Box<Problem>,
    retry_after: Option<Duration>,
    challenge: Option<&'static str>,
    /// For the log only.
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { problem: Box::new(Problem::new(code, detail)), retry_after: None, challenge: None, source: None }
    }

    /// One place in the request is wrong. `pointer` as in [`ProblemDetail::pointer`].
    pub(crate) fn invalid(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        let (pointer, message) = (pointer.into(), message.into());
        let mut refusal = Self::new(Code::InvalidRequest, format!("`{pointer}`: {message}"));
        refusal.problem.errors.push(ProblemDetail::new(pointer, message));
        refusal
    }

    /// A status that the contract's codes do not tell apart, such as 405 or 415.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.problem.status = status.as_u16();
        self
    }

    pub(crate) fn with_errors(mut self, errors: Vec<ProblemDetail>) -> Self {
        self.problem.errors = errors;
        self
    }

    pub(crate) fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    pub(crate) fn with_challenge(mut self, challenge: &'static str) -> Self {
        self.challenge = Some(challenge);
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What the caller may read, for an answer that is no failure as a whole.
    pub(crate) fn into_problem(self) -> Problem {
        *self.problem
    }

    /// A defect. What happened goes to the log.
    pub(crate) fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "Something failed inside; the log has the details under this request's id.";
        Self::new(Code::Internal, detail).with_source(source)
    }

    /// No room at the moment.
    pub(crate) fn busy(detail: &str) -> Self {
        Self::new(Code::Unavailable, detail).with_retry_after(Duration::from_secs(1))
    }

    /// What the code and status of a bare error answer say, for answers that other crates made.
    pub(crate) fn of_status(status: StatusCode, method: &str, path: &str) -> Self {
        let refusal = match status {
            StatusCode::NOT_FOUND => {
                Self::new(Code::NotFound, format!("There is nothing at `{path}`; /openapi.json lists what there is."))
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(Code::InvalidRequest, format!("`{path}` does not take {method}; the header Allow says what."))
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(Code::PayloadTooLarge, "The body is too large."),
            status if status.is_server_error() => Self::new(Code::Internal, "Something failed inside."),
            _ => Self::new(Code::InvalidRequest, "The request is not understood."),
        };
        refusal.with_status(status)
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Writes what only the operator may know to the log.
    pub(crate) fn log(&self) {
        let Some(source) = &self.source else { return };
        let chain = chain(source.as_ref());
        if self.problem.code == Code::Internal {
            tracing::error!(error = %chain, "a request failed inside");
        } else {
            tracing::warn!(error = %chain, "a request could not be served: {}", self.problem.detail);
        }
    }

    /// The answer, in place of the response that bore the refusal. Headers that it has already are kept.
    pub(crate) fn render(&self, bearer: Response, request_id: RequestId) -> Response {
        let (mut parts, _) = bearer.into_parts();
        let rendered = Json(Problem::clone(&self.problem).with_request_id(request_id)).into_response();
        parts.status = self.status();
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        if let Some(retry_after) = self.retry_after {
            // Rounded up: whoever comes back early is refused again.
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                parts.headers.insert(RETRY_AFTER, value);
            }
        }
        if let Some(challenge) = self.challenge {
            parts.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Response::from_parts(parts, rendered.into_body())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let detail = sentence(&error.to_string());
        match error {
            ControlError::InvalidRequest { reason, pointer } => {
                let errors = pointer.map(|pointer| ProblemDetail::new(pointer, reason));
                Self::new(Code::InvalidRequest, detail).with_errors(errors.into_iter().collect())
            }
            ControlError::NotFound { .. } => Self::new(Code::NotFound, detail),
            ControlError::SlugTaken { .. } => {
                let errors = vec![ProblemDetail::new("/slug", "the slug is taken")];
                Self::new(Code::SlugTaken, detail).with_errors(errors)
            }
            ControlError::Conflict { .. } => Self::new(Code::Conflict, detail),
            ControlError::InvalidState { .. } => Self::new(Code::InvalidState, detail),
            ControlError::PreconditionFailed => Self::new(Code::PreconditionFailed, detail),
            ControlError::NoCapacity { .. } => Self::new(Code::NoCapacity, detail),
            ControlError::Outrun { .. } => {
                Self::new(Code::Unavailable, detail).with_retry_after(Duration::from_millis(100))
            }
            ControlError::AdoptionRefused { findings } => {
                let errors = findings
                    .into_iter()
                    .map(|it| ProblemDetail::new("/database", format!("{}: {}; {}", it.code, it.message, it.advice)));
                Self::new(Code::Conflict, detail).with_errors(errors.collect())
            }
            ControlError::ResidencyViolation { .. } => Self::new(Code::ResidencyViolation, detail),
            ControlError::Forbidden { .. } => Self::new(Code::Forbidden, detail),
            ControlError::LimitExceeded { .. } => Self::new(Code::LimitExceeded, detail),
            ControlError::MigrationRefused { findings, .. } => {
                let errors = findings.into_iter().map(|finding| ProblemDetail {
                    pointer: finding.file,
                    message: finding.message,
                    line: Some(finding.line),
                    column: Some(finding.column),
                });
                Self::new(Code::MigrationRefused, detail).with_errors(errors.collect())
            }
            ControlError::IdempotencyMismatch => Self::new(Code::IdempotencyMismatch, detail),
            ControlError::Unavailable { retry_after, source, .. } => {
                let refusal = Self::new(Code::Unavailable, detail).with_retry_after(retry_after);
                match source {
                    Some(source) => refusal.with_source(source),
                    None => refusal,
                }
            }
            ControlError::Internal(source) => Self::internal(source),
        }
    }
}

/// Errors begin in lower case, because they may stand inside a sentence; a problem's detail is one of its own.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let mut sentence: String = characters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    sentence.push_str(characters.as_str());
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::to_bytes;
    use uuid::Uuid;

    use super::*;

    fn request_id() -> RequestId {
        RequestId::new(Uuid::from_u128(7))
    }

    async fn rendered(refusal: Refusal) -> (axum::http::response::Parts, serde_json::Value) {
        let (parts, body) = refusal.render(Response::default(), request_id()).into_parts();
        let body = to_bytes(body, 65_536).await.expect("a small body");
        (parts, serde_json::from_slice(&body).expect("a problem"))
    }

    #[tokio::test]
    async fn every_failure_of_a_use_case_has_the_status_of_its_code() {
        let reason = || "it is so".to_owned();
        let internal = || Box::new(io::Error::other("secret detail"));
        let retry_after = Duration::from_millis(1200);
        let failures: Vec<(ControlError, Code, u16)> = vec![
            (ControlError::InvalidRequest { reason: reason(), pointer: Some("/plan") }, Code::InvalidRequest, 400),
            (ControlError::NotFound { what: "tenant", name: "acme".to_owned() }, Code::NotFound, 404),
            (ControlError::SlugTaken { slug: "acme".to_owned() }, Code::SlugTaken, 409),
            (ControlError::Conflict { reason: reason() }, Code::Conflict, 409),
            (ControlError::InvalidState { reason: reason() }, Code::InvalidState, 409),
            (ControlError::PreconditionFailed, Code::PreconditionFailed, 412),
            (ControlError::NoCapacity { reason: reason() }, Code::NoCapacity, 409),
            (ControlError::Outrun { limit: "tenants" }, Code::Unavailable, 503),
            (ControlError::ResidencyViolation { reason: reason() }, Code::ResidencyViolation, 422),
            (ControlError::Forbidden { scope: "admin".to_owned() }, Code::Forbidden, 403),
            (ControlError::LimitExceeded { reason: reason() }, Code::LimitExceeded, 429),
            (ControlError::MigrationRefused { name: "x".to_owned(), findings: vec![] }, Code::MigrationRefused, 422),
            (ControlError::IdempotencyMismatch, Code::IdempotencyMismatch, 422),
            (
                ControlError::Unavailable { reason: reason(), retry_after, source: Some(internal()) },
                Code::Unavailable,
                503,
            ),
            (ControlError::Internal(internal()), Code::Internal, 500),
        ];
        for (failure, code, status) in failures {
            let (parts, problem) = rendered(failure.into()).await;
            assert_eq!((parts.status.as_u16(), &problem["code"]), (status, &serde_json::json!(code)));
            assert_eq!(problem["status"], status);
            assert_eq!(problem["request_id"], request_id().to_string());
            assert_eq!(parts.headers[CONTENT_TYPE], PROBLEM_MEDIA_TYPE);
            assert!(!problem.to_string().contains("secret detail"), "{problem}");
            assert_eq!(parts.headers.get(RETRY_AFTER).is_some(), code == Code::Unavailable, "{problem}");
        }
    }

    #[tokio::test]
    async fn waiting_times_are_rounded_up_to_seconds() {
        let refusal = Refusal::busy("No room.").with_retry_after(Duration::from_millis(1200));
        let (parts, _) = rendered(refusal).await;
        assert_eq!(parts.headers[RETRY_AFTER], "2");
    }

    #[tokio::test]
    async fn a_wrong_place_is_pointed_at() {
        let failure =
            ControlError::InvalidRequest { reason: "there is no plan `x`".to_owned(), pointer: Some("/plan") };
        let (_, problem) = rendered(failure.into()).await;
        assert_eq!(problem["errors"][0]["pointer"], "/plan");
        assert_eq!(problem["detail"], "There is no plan `x`.");
    }

    #[tokio::test]
    async fn headers_of_the_refused_response_stay() {
        let mut bearer = Response::default();
        bearer.headers_mut().insert("allow", HeaderValue::from_static("GET"));
        let refusal = Refusal::of_status(StatusCode::METHOD_NOT_ALLOWED, "PUT", "/v1/tenants");
        let response = refusal.render(bearer, request_id());
        assert_eq!((response.status().as_u16(), &response.headers()["allow"]), (405, &HeaderValue::from_static("GET")));
    }

    #[test]
    fn the_log_gets_the_whole_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("the outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(chain(&Outer(io::Error::other("the inner"))), "the outer: the inner");
    }
}
