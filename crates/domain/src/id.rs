//! Identifiers. Each is a UUID of a type of its own, so that a cluster can never stand where a tenant is meant.
//!
//! Callers draw version 7 (time-ordered, never reused) and wrap it with `new`; parsing accepts any UUID, because
//! identifiers arrive from URLs and the catalog decides whether they exist.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a UUID; write it as 8-4-4-4-12 hexadecimal digits")]
pub struct InvalidId {
    /// What was given.
    pub text: String,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that the caller drew or read.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// 32 hexadecimal digits without hyphens, as physical names use them.
            pub fn simple(self) -> String {
                self.0.simple().to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Uuid::try_parse(text).map(Self).map_err(|_| InvalidId { text: text.chars().take(64).collect() })
            }
        }
    };
}

identifier! {
    /// One customer organisation.
    TenantId
}
identifier! {
    /// One PostgreSQL server.
    ClusterId
}
identifier! {
    /// One physical standby of a cluster.
    ClusterReplicaId
}
identifier! {
    /// One physical place on a cluster. Physical names derive from it.
    HomeId
}
identifier! {
    /// One piece of durable work.
    OperationId
}
identifier! {
    /// One physical object on a cluster, recorded before it is created.
    ResourceId
}
identifier! {
    /// One run that brings the fleet to a migration set.
    RolloutId
}
identifier! {
    /// One API token (not the token itself).
    TokenId
}
identifier! {
    /// One sealed secret in the catalog.
    SecretId
}
identifier! {
    /// One disagreement between the catalog and a cluster.
    OrphanId
}
identifier! {
    /// One HTTP request, as named in answers, logs and the audit log.
    RequestId
}
identifier! {
    /// One party that wants to be told of events.
    WebhookId
}
identifier! {
    /// One thing that happened.
    EventId
}
identifier! {
    /// One event for one webhook, however often it is sent.
    DeliveryId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_survives_text_and_names_itself_when_it_does_not_parse() {
        let id = TenantId::new(Uuid::from_u128(0x0192_3f4a_5b6c_7d8e_9fa0_b1c2_d3e4_f506));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.simple().len(), 32);
        let error = "acme".parse::<TenantId>().expect_err("not a UUID");
        assert!(error.to_string().contains("acme"));
    }
}
