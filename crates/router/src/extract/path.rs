//! Parameters of the path.

use axum::extract::RawPathParams;

/// The value of a parameter, decoded.
pub(super) fn value<'p>(parameters: Option<&'p RawPathParams>, wanted: &str) -> Option<&'p str> {
    parameters?.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value)
}
