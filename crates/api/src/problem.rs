//! What every failure looks like: `application/problem+json` (RFC 9457) with a stable `code`.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, as a word that programs may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request breaks a rule of the contract; `errors` says where.
    InvalidRequest,
    /// No token, or one that is wrong, expired or revoked.
    Unauthenticated,
    /// The token's scopes or tenant do not cover this.
    Forbidden,
    /// There is no such object.
    NotFound,
    /// It disagrees with something that exists.
    Conflict,
    /// Another tenant has this slug, or had it.
    SlugTaken,
    /// The object is not in a state that allows this.
    InvalidState,
    /// `If-Match` names a version that is no longer current.
    PreconditionFailed,
    /// The `Idempotency-Key` was used with another request.
    IdempotencyMismatch,
    /// No cluster has room for this tenant.
    NoCapacity,
    /// The data would leave the region that it must stay in.
    ResidencyViolation,
    /// Too many requests, connections or objects.
    LimitExceeded,
    /// The body is larger than the server accepts.
    PayloadTooLarge,
    /// A migration set was refused; `errors` names file and line.
    MigrationRefused,
    /// Something needed is away at the moment; try again after `Retry-After`.
    Unavailable,
    /// A defect or an unforeseen failure; the request id finds it in the log.
    Internal,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::InvalidRequest,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::SlugTaken,
        Self::InvalidState,
        Self::PreconditionFailed,
        Self::IdempotencyMismatch,
        Self::NoCapacity,
        Self::ResidencyViolation,
        Self::LimitExceeded,
        Self::PayloadTooLarge,
        Self::MigrationRefused,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::SlugTaken => "slug_taken",
            Self::InvalidState => "invalid_state",
            Self::PreconditionFailed => "precondition_failed",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::NoCapacity => "no_capacity",
            Self::ResidencyViolation => "residency_violation",
            Self::LimitExceeded => "limit_exceeded",
            Self::PayloadTooLarge => "payload_too_large",
            Self::MigrationRefused => "migration_refused",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that goes with it. `no_capacity` is a conflict with the fleet as it is: repeating the request
    /// does not help until an operator adds a cluster, so it is not 503.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::SlugTaken | Self::InvalidState | Self::NoCapacity => 409,
            Self::PreconditionFailed => 412,
            Self::PayloadTooLarge => 413,
            Self::IdempotencyMismatch | Self::ResidencyViolation | Self::MigrationRefused => 422,
            Self::LimitExceeded => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// A short sentence, the same for every problem with this code.
    pub const fn title(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is not valid",
            Self::Unauthenticated => "A valid token is needed",
            Self::Forbidden => "The token does not allow this",
            Self::NotFound => "Not found",
            Self::Conflict => "The request conflicts with what exists",
            Self::SlugTaken => "The slug is taken",
            Self::InvalidState => "The object's state does not allow this",
            Self::PreconditionFailed => "The object has changed",
            Self::IdempotencyMismatch => "The idempotency key belongs to another request",
            Self::NoCapacity => "No cluster has room",
            Self::ResidencyViolation => "The data must stay in its region",
            Self::LimitExceeded => "A limit is reached",
            Self::PayloadTooLarge => "The body is too large",
            Self::MigrationRefused => "The migration set is refused",
            Self::Unavailable => "Not available at the moment",
            Self::Internal => "An unforeseen failure",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One place in a request that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetail {
    /// Where: a JSON pointer (RFC 6901) into the body, `?name` for a query parameter, or a header's name.
    #[schema(example = "/slug")]
    pub pointer: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The line in a file that the pointer names, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl ProblemDetail {
    /// A detail without a place in a file.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), line: None, column: None }
    }
}

/// The media type of [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// A problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:tenantry:problem:<code>`.
    #[serde(rename = "type")]
    #[schema(example = "urn:tenantry:problem:slug_taken")]
    pub kind: String,
    /// A short sentence, the same for every problem with this code.
    pub title: String,
    /// The HTTP status.
    #[schema(example = 409)]
    pub status: u16,
    /// What went wrong this time and what to do next.
    pub detail: String,
    /// The word that programs may rely on.
    pub code: Code,
    /// The request, as in the log and the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The places in the request that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemDetail>,
}

impl Problem {
    /// A problem with the status and title of its code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:tenantry:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: None,
            errors: Vec::new(),
        }
    }

    /// With the request's id.
    #[must_use]
    pub fn with_request_id(mut self, request_id: impl fmt::Display) -> Self {
        self.request_id = Some(request_id.to_string());
        self
    }

    /// With the places that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<ProblemDetail>) -> Self {
        self.errors = errors;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.detail, self.code)?;
        for error in &self.errors {
            write!(formatter, "\n  {}", error.pointer)?;
            if let Some(line) = error.line {
                write!(formatter, ":{line}")?;
            }
            write!(formatter, ": {}", error.message)?;
        }
        Ok(())
    }
}

/// A body that is no valid request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at `{pointer}`)")]
pub struct InvalidBody {
    /// A JSON pointer to the value that is wrong; empty for the whole body.
    pub pointer: String,
    /// What is wrong, without position noise.
    pub message: String,
}

impl From<InvalidBody> for Problem {
    fn from(invalid: InvalidBody) -> Self {
        let detail = if invalid.pointer.is_empty() {
            format!("The body is not valid: {}.", invalid.message)
        } else {
            format!("The field `{}` is not valid: {}.", invalid.pointer, invalid.message)
        };
        Self::new(Code::InvalidRequest, detail).with_errors(vec![ProblemDetail::new(invalid.pointer, invalid.message)])
    }
}

/// Reads a JSON body into a request; the error points at the field that is wrong.
pub fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, InvalidBody> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        InvalidBody { pointer, message: message(error.inner()) }
    })?;
    deserializer.end().map_err(|error| InvalidBody { pointer: String::new(), message: message(&error) })?;
    Ok(value)
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { .. } | Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

/// serde_json ends its message with a position, which says nothing beside a pointer unless the text is no JSON at all.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if error.is_syntax() || error.is_eof() {
        return text;
    }
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CreateTenant;

    #[test]
    fn the_word_on_the_wire_is_the_word_in_code() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).expect("serialises"), code.as_str());
            assert!((400..=599).contains(&code.status()), "{code}");
        }
    }

    #[test]
    fn a_bad_field_is_pointed_at() {
        let invalid = parse_body::<CreateTenant>(br#"{"slug": "Not A Slug"}"#).expect_err("no slug");
        assert_eq!(invalid.pointer, "/slug");
        assert!(invalid.message.starts_with("`Not A Slug` is not a slug"), "{}", invalid.message);
        assert!(!invalid.message.contains("line"), "{}", invalid.message);

        let invalid = parse_body::<CreateTenant>(br#"{"slug": "acme", "overrides": {"pool_size": "x"}}"#);
        assert_eq!(invalid.expect_err("no number").pointer, "/overrides/pool_size");

        let invalid = parse_body::<CreateTenant>(br#"{"slug": "acme", "colour": 1}"#).expect_err("unknown field");
        assert_eq!(invalid.pointer, "/colour");
        assert!(invalid.message.contains("unknown field"), "{}", invalid.message);

        let invalid = parse_body::<CreateTenant>(br#"{"slug": "acme"} {}"#).expect_err("two documents");
        assert_eq!(invalid.pointer, "");
        assert!(parse_body::<CreateTenant>(b"").expect_err("nothing").message.contains("EOF"));
    }

    #[test]
    fn a_problem_reads_as_sentences() {
        let problem = Problem::from(InvalidBody { pointer: "/slug".to_owned(), message: "too long".to_owned() });
        assert_eq!(problem.status, 400);
        assert!(problem.to_string().contains("`/slug`"), "{problem}");
        let json = serde_json::to_value(&problem).expect("serialises");
        assert_eq!(json["type"], "urn:tenantry:problem:invalid_request");
    }
}
