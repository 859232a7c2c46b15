//! Every request has an id: the caller's, if it is one, else a new one.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tenantry_domain::RequestId;
use uuid::Uuid;

/// Where the id travels, in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id that the caller or a proxy gave, if it is a UUID. Anything else is replaced, not refused: the id lands in the
/// log and the audit log, which take no free text from strangers, and no request should fail over it.
pub(crate) fn of(headers: &HeaderMap) -> RequestId {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    given.unwrap_or_else(|| RequestId::new(Uuid::now_v7()))
}

/// The id as a header.
pub(crate) fn header(id: RequestId) -> Option<HeaderValue> {
    HeaderValue::from_str(&id.to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> RequestId {
        of(&HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_str(text).expect("a header"))]))
    }

    #[test]
    fn a_uuid_is_kept_and_anything_else_replaced() {
        let uuid = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
        assert_eq!(given(uuid).to_string(), uuid);
        // nginx writes 32 digits without hyphens.
        assert_eq!(given(&uuid.replace('-', "")).to_string(), uuid);
        for other in ["", "1", "x\"} injected", &"a".repeat(4000)] {
            assert_ne!(given(other).to_string(), other);
        }
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}
