//! Conditional updates: an object's version is the time of its last change.

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::problem::Refusal;
use tenantry_api::Code;

/// The version as a header. PostgreSQL keeps microseconds, so nothing is lost.
pub(crate) fn etag(updated_at: Timestamp) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{}\"", updated_at.as_microsecond()));
    [(ETAG, value.unwrap_or_else(|_| HeaderValue::from_static("\"\"")))]
}

/// The version that the caller has read; absent if any will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<Timestamp>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut given = parts.headers.get_all(IF_MATCH).iter();
        match (given.next(), given.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => value.to_str().map_err(|_| unknown()).and_then(parse),
            (Some(_), Some(_)) => Err(Refusal::invalid("If-Match", "send one entity tag")),
        }
    }
}

fn parse(text: &str) -> Result<IfMatch, Refusal> {
    let text = text.trim();
    if text == "*" {
        return Ok(IfMatch(None));
    }
    if text.contains(',') {
        return Err(Refusal::invalid("If-Match", "send one entity tag"));
    }
    // Proxies that compress make tags weak. Ours name a version and not bytes, so that loses nothing.
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
    let version = number.and_then(|number| Timestamp::from_microsecond(number).ok());
    version.map(|version| IfMatch(Some(version))).ok_or_else(unknown)
}

/// A tag that is none of ours cannot be the current one.
fn unknown() -> Refusal {
    let detail = "`If-Match` names no version of this object; read it again and send its `ETag`.";
    Refusal::new(Code::PreconditionFailed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_leads_back_to_its_version() {
        let version: Timestamp = "2026-11-21T05:00:00.123456Z".parse().expect("a time");
        let [(_, tag)] = etag(version);
        let tag = tag.to_str().expect("text");
        assert_eq!(parse(tag).expect("ours"), IfMatch(Some(version)));
        assert_eq!(parse(&format!("W/{tag}")).expect("ours"), IfMatch(Some(version)));
    }

    #[test]
    fn a_star_matches_anything_and_a_foreign_tag_nothing() {
        assert_eq!(parse("*").expect("anything"), IfMatch(None));
        for foreign in ["", "\"", "abc", "\"abc\"", "12", "\"999999999999999999\""] {
            assert_eq!(parse(foreign).expect_err(foreign).status().as_u16(), 412);
        }
        assert_eq!(parse("\"1\", \"2\"").expect_err("two").status().as_u16(), 400);
    }
}
