//! Secrets on the wire.

use std::fmt;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tenantry_domain::Secret;

/// A secret that travels in a message. It prints nothing, but unlike [`Secret`] it serialises, so it may stand only
/// where the contract sends a secret: the password that registers a cluster, a credential in a route for readers with
/// `routes:secrets`, and a new token. No answer about a cluster has such a field.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Secret);

impl SecretText {
    /// Wraps a secret that is about to be sent.
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    /// The secret that was received.
    pub fn into_secret(self) -> Secret {
        self.0
    }

    /// A look at the secret.
    pub fn as_secret(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<Secret> for SecretText {
    fn from(secret: Secret) -> Self {
        Self(secret)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for a string, serde_json itself refuses a number, and tells it.
        deserializer.deserialize_any(Text)
    }
}

/// Takes text. Of numbers, which a password may well look like, the usual refusal would tell which one it was.
struct Text;

impl Text {
    fn refuse<E: de::Error>(&self) -> E {
        E::invalid_type(Unexpected::Other("a number"), self)
    }
}

impl Visitor<'_> for Text {
    type Value = SecretText;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<SecretText, E> {
        Ok(SecretText(Secret::new(text)))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<SecretText, E> {
        Err(self.refuse())
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<SecretText, E> {
        Err(self.refuse())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<SecretText, E> {
        Err(self.refuse())
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<SecretText, E> {
        Err(self.refuse())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<SecretText, E> {
        Err(self.refuse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_sent_but_never_printed() {
        let secret = SecretText::new(Secret::new("hunter2".to_owned()));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(serde_json::to_string(&secret).expect("serialises"), "\"hunter2\"");
    }

    #[test]
    fn what_is_no_text_is_refused_without_telling_it() {
        for number in ["918273645", "-918273645", "918273645.5", "918273645918273645918273645"] {
            let error = serde_json::from_str::<SecretText>(number).expect_err("a number").to_string();
            assert!(error.contains("expected a string") && !error.contains("918273645"), "{error}");
        }
        for other in ["[\"hunter2\"]", "{\"hunter2\": 1}", "null", "true"] {
            let error = serde_json::from_str::<SecretText>(other).expect_err("no text").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let text = serde_json::from_str::<SecretText>("\"hunt\\u0065r2\"").expect("text");
        assert_eq!(text.as_secret().expose(), "hunter2");
    }
}
