//! Headers that may stand only once.

use axum::http::{HeaderMap, HeaderName};

use super::answer::TenantRejection;
use crate::error::RouterError;

/// The value of a header; an error where it stands twice.
pub(super) fn only_value<'p>(headers: &'p HeaderMap, name: &HeaderName) -> Result<Option<&'p str>, TenantRejection> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let unknown = |_| RouterError::unknown(String::from_utf8_lossy(value.as_bytes()));
            Ok(Some(value.to_str().map_err(unknown)?))
        }
        (Some(_), Some(_)) => Err(TenantRejection::Disagreement),
    }
}
