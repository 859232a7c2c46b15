//! A route as it stands in a line of the feed. Its texts are looked at where they are: a snapshot has a million of these,
//! and copies of a dozen texts each would take most of the time.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use tenantry_domain::{
    ClusterId, FeedVersion, Generation, Limits, Pooling, RouteState, SchemaVersion, Secret, TenantId,
};

/// A text of a line; copied only where JSON escapes something in it. Prints nothing, because it may be a password.
pub struct Text<'l>(Place<'l>);

enum Place<'l> {
    InLine(&'l str),
    Copied(Secret),
}

impl Text<'_> {
    /// The text, not checked.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Place::InLine(text) => text,
            Place::Copied(text) => text.expose(),
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Text(…)")
    }
}

impl<'de: 'l, 'l> Deserialize<'de> for Text<'l> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Place::InLine(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Place::Copied(Secret::new(text.to_owned()))))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A [`RouteCredential`](crate::RouteCredential) in a line.
#[derive(Debug, Deserialize)]
pub struct CredentialLine<'l> {
    /// The role that logs in.
    #[serde(borrow)]
    pub role: Text<'l>,
    /// Its password.
    #[serde(borrow, default)]
    pub password: Option<Text<'l>>,
}

/// A [`Route`](crate::Route) in a line: the same fields, but for `role`, which `credential` says as well. Whether the texts
/// are what they should be is not checked yet.
#[derive(Debug, Deserialize)]
#[expect(missing_docs, reason = "each field is documented where it is written")]
pub struct RouteLine<'l> {
    pub version: FeedVersion,
    pub tenant: TenantId,
    #[serde(borrow)]
    pub slug: Text<'l>,
    #[serde(borrow)]
    pub hosts: Vec<Text<'l>>,
    pub state: RouteState,
    pub generation: Generation,
    pub cluster: Option<ClusterId>,
    #[serde(borrow)]
    pub database: Option<Text<'l>>,
    #[serde(borrow)]
    pub schema: Option<Text<'l>>,
    #[serde(borrow)]
    pub credential: Option<CredentialLine<'l>>,
    #[serde(borrow)]
    pub read_only_credential: Option<CredentialLine<'l>>,
    #[serde(borrow, default)]
    pub shared_credential: Option<CredentialLine<'l>>,
    #[serde(borrow, default)]
    pub app_role: Option<Text<'l>>,
    pub limits: Limits,
    pub pooling: Pooling,
    pub schema_version: SchemaVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_where_it_is_unless_something_in_it_is_escaped_and_is_not_printed() {
        let line = r#"{"role": "h_1_a", "password": "hunt\"er2"}"#;
        let credential: CredentialLine<'_> = serde_json::from_str(line).expect("valid");
        assert!(matches!(credential.role.0, Place::InLine("h_1_a")));
        assert_eq!(credential.password.as_ref().map(Text::as_str), Some("hunt\"er2"));
        assert!(!format!("{credential:?}").contains("hunt"), "{credential:?}");
        let without: CredentialLine<'_> = serde_json::from_str(r#"{"role": "h_1_ro"}"#).expect("valid");
        assert!(without.password.is_none());
        assert!(serde_json::from_str::<CredentialLine<'_>>(r#"{"role": 7}"#).is_err());
    }
}
