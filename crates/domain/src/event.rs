//! What others may want to be told of.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;
use crate::word::words;

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident => $text:literal),+ $(,)?) => {
        /// What happened: a subject and a verb, as webhooks name it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum EventKind {
            $($(#[$doc])* $variant,)+
        }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in JSON, SQL and on the command line.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

events! {
    /// A tenant was asked for; its home is being made.
    TenantCreated => "tenant.created",
    /// A tenant is served for the first time.
    TenantActivated => "tenant.activated",
    /// A tenant's home could not be made, or its operation was given up.
    TenantFailed => "tenant.failed",
    /// Name, plan, labels or limits of a tenant changed.
    TenantUpdated => "tenant.updated",
    /// A tenant was shut out on purpose.
    TenantSuspended => "tenant.suspended",
    /// A suspended tenant is served again.
    TenantResumed => "tenant.resumed",
    /// A tenant lives in another home now.
    TenantMoved => "tenant.moved",
    /// A rollout has raised a tenant's schema version.
    TenantMigrated => "tenant.migrated",
    /// A tenant's schema is not what its migrations make.
    TenantDrifted => "tenant.drifted",
    /// A tenant's schema is what its migrations make again.
    TenantDriftEnded => "tenant.drift_ended",
    /// A tenant's passwords changed.
    TenantCredentialsRotated => "tenant.credentials_rotated",
    /// An existing database or schema became a tenant.
    TenantAdopted => "tenant.adopted",
    /// A tenant's deletion was asked for.
    TenantDeleting => "tenant.deleting",
    /// A tenant's deletion was taken back in time.
    TenantRestored => "tenant.restored",
    /// A tenant is gone; its tombstone stays.
    TenantDeleted => "tenant.deleted",
    /// An operation waits for a person.
    OperationParked => "operation.parked",
    /// A cluster stopped answering as it should.
    ClusterUnhealthy => "cluster.unhealthy",
    /// A cluster answers as it should again.
    ClusterRecovered => "cluster.recovered",
    /// Somebody tries a webhook out.
    WebhookTest => "webhook.test",
}

impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or_else(|| {
            InvalidName::new("event", "use a subject and a verb, like tenant.activated or operation.parked", text)
        })
    }
}

impl TryFrom<String> for EventKind {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<EventKind> for &'static str {
    fn from(kind: EventKind) -> Self {
        kind.as_str()
    }
}

words! {
    /// Where a delivery of an event stands.
    DeliveryState, "delivery state", "use pending, delivered or failed", {
        /// To be sent, for the first time or again.
        Pending => "pending",
        /// Taken by its receiver.
        Delivered => "delivered",
        /// Given up; it can be sent again by hand.
        Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_a_subject_and_a_verb_and_survives_text() {
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
            assert_eq!(kind.as_str().split('.').count(), 2, "{kind}");
        }
        assert!("tenant.exploded".parse::<EventKind>().is_err());
    }
}
