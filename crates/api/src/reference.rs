//! Naming a tenant or a cluster: by id or by the name that people use.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, ClusterName, InvalidName, Slug, TenantId};

macro_rules! reference {
    ($(#[$doc:meta])* $name:ident, $id:ty, $variant:ident($text:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum $name {
            /// By id.
            Id($id),
            /// By name.
            $variant($text),
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match text.parse() {
                    Ok(id) => Ok(Self::Id(id)),
                    Err(_) => <$text>::parse(text).map(Self::$variant),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Id(id) => id.fmt(formatter),
                    Self::$variant(name) => name.fmt(formatter),
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(reference: $name) -> String {
                reference.to_string()
            }
        }

        impl From<$id> for $name {
            fn from(id: $id) -> Self {
                Self::Id(id)
            }
        }

        impl From<$text> for $name {
            fn from(name: $text) -> Self {
                Self::$variant(name)
            }
        }
    };
}

reference! {
    /// A tenant, by UUID or slug. No slug has the shape of a UUID, so the text is never ambiguous.
    TenantRef, TenantId, Slug(Slug)
}
reference! {
    /// A cluster, by UUID or name. Text in the shape of a UUID is always an id.
    ClusterRef, ClusterId, Name(ClusterName)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_an_id_and_anything_else_a_name() {
        let uuid = "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506";
        assert!(matches!(uuid.parse(), Ok(TenantRef::Id(id)) if id.to_string() == uuid));
        assert!(matches!("acme".parse(), Ok(TenantRef::Slug(_))));
        assert!(matches!("main".parse(), Ok(ClusterRef::Name(_))));
        assert!("Not A Slug".parse::<TenantRef>().is_err());
    }
}
