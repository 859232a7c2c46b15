//! Secrets on the wire.

use std::fmt;

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
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
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
}
