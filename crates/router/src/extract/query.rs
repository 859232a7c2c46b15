//! Parameters of the query: for development only.

use std::borrow::Cow;
use std::str::FromStr;

use axum::http::request::Parts;
use serde::Deserialize;
use url::form_urlencoded;

use super::answer::TenantRejection;
use crate::error::RouterError;

/// The sentence that a configuration for development has, and no other.
const SENTENCE: &str = "any request may name any tenant";

/// That a program is being developed and holds nobody's data. It cannot be made but from the sentence `any request may
/// name any tenant`, which is what it means: by [`str::parse`], or as a value of a configuration file.
///
/// ```
/// use tenantry_router::{Development, TenantSources};
///
/// # fn sources(configured: Option<&str>) -> Result<TenantSources, tenantry_router::RouterError> {
/// let mut sources = TenantSources::new().sub_domain();
/// if let Some(sentence) = configured {
///     sources = sources.query("tenant", sentence.parse::<Development>()?);
/// }
/// # Ok(sources)
/// # }
/// # assert!(sources(Some("any request may name any tenant")).is_ok());
/// # assert!(sources(Some("true")).is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Development(());

impl FromStr for Development {
    type Err = RouterError;

    fn from_str(text: &str) -> Result<Self, RouterError> {
        if text == SENTENCE {
            Ok(Self(()))
        } else {
            let reason = format!("`development` is only ever the sentence `{SENTENCE}`, where that may be so");
            Err(RouterError::Refused { reason, source: None })
        }
    }
}

impl TryFrom<String> for Development {
    type Error = RouterError;

    fn try_from(text: String) -> Result<Self, RouterError> {
        text.parse()
    }
}

/// The value of a parameter; an error where it stands twice.
pub(super) fn value<'p>(parts: &'p Parts, wanted: &str) -> Result<Option<Cow<'p, str>>, TenantRejection> {
    let query = parts.uri.query().unwrap_or_default();
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == wanted);
    match (values.next(), values.next()) {
        (value, None) => Ok(value.map(|(_, value)| value)),
        (_, Some(_)) => Err(TenantRejection::Disagreement),
    }
}
