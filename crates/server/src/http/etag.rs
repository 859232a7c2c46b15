//! Conditional updates, where an object's version is the time of its last change, and conditional reads.

use axum::extract::FromRequestParts;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
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

/// Whether the caller has this version already. Any number of tags may be sent, weak ones too (RFC 9110, 13.1.2).
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).map(str::trim).any(|known| {
        let known = known.strip_prefix("W/").unwrap_or(known);
        known == "*" || known == tag
    })
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
    fn a_version_is_known_by_any_of_the_tags_sent() {
        let tag = HeaderValue::from_static("\"41-secrets\"");
        let known = |sent: &[&'static str]| {
            let sent = sent.iter().map(|value| (IF_NONE_MATCH, HeaderValue::from_static(value)));
            is_known(&sent.collect(), &tag)
        };
        for sent in [&["\"41-secrets\""][..], &["W/\"41-secrets\""], &["\"40\", \"41-secrets\""], &["\"1\"", "*"]] {
            assert!(known(sent), "{sent:?}");
        }
        for sent in [&[][..], &["\"41\""], &["41-secrets"], &["\"40\", \"42\""]] {
            assert!(!known(sent), "{sent:?}");
        }
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
