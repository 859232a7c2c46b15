//! Ceilings that a plan gives and a tenant's overrides change.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The most that PostgreSQL takes as a time in milliseconds.
const MILLISECONDS_MAX: u32 = i32::MAX.unsigned_abs();

/// One limit's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// A ceiling.
    Number(u32),
    /// A permission.
    Switch(bool),
}

impl From<u32> for LimitValue {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for LimitValue {
    fn from(is_on: bool) -> Self {
        Self::Switch(is_on)
    }
}

/// A limit that no plan and no tenant may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is {value}; use {least} to {most}, or leave it out for no ceiling")]
pub struct LimitOutOfRange {
    /// Which limit.
    pub name: &'static str,
    /// What was given.
    pub value: u32,
    /// The least that is accepted.
    pub least: u32,
    /// The most that is accepted.
    pub most: u32,
}

/// From the one list of limits: the type of a plan's limits and the wire form of a tenant's overrides, which has the same
/// fields and more.
macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty $(, $least:literal to $most:expr)?;)+) => {
        /// Each absent value means "no ceiling of ours".
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $(
                $(#[doc = $doc])+
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )+
        }

        impl Limits {
            /// The names of all limits.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// These limits with every value that `overrides` gives in its place.
            #[must_use]
            pub fn overridden_by(self, overrides: Self) -> Self {
                Self { $($name: overrides.$name.or(self.$name),)+ }
            }

            /// Every limit with its value, absent ones too.
            pub fn values(&self) -> Vec<(&'static str, Option<LimitValue>)> {
                vec![$((stringify!($name), self.$name.map(LimitValue::from)),)+]
            }

            /// Whether every ceiling can be one. Zero can only be a queue's: to let nothing through is what suspending is
            /// for.
            ///
            /// # Errors
            ///
            /// The first limit that is out of its range.
            pub fn check(&self) -> Result<(), LimitOutOfRange> {
                $($(
                    if let Some(value) = self.$name
                        && !($least..=$most).contains(&value)
                    {
                        return Err(LimitOutOfRange { name: stringify!($name), value, least: $least, most: $most });
                    }
                )?)+
                Ok(())
            }
        }

        /// Overrides as JSON has them: limits beside quotas and features, so that an error points at the field.
        #[derive(Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        struct OverridesJson {
            $(
                #[serde(default, skip_serializing_if = "Option::is_none")]
                $name: Option<$type>,
            )+
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            quotas: BTreeMap<String, i64>,
            #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
            features: BTreeMap<String, bool>,
        }

        impl From<OverridesJson> for Overrides {
            fn from(json: OverridesJson) -> Self {
                Self { limits: Limits { $($name: json.$name,)+ }, quotas: json.quotas, features: json.features }
            }
        }

        impl From<Overrides> for OverridesJson {
            fn from(overrides: Overrides) -> Self {
                Self { $($name: overrides.limits.$name,)+ quotas: overrides.quotas, features: overrides.features }
            }
        }
    };
}

limits! {
    /// Connections that the tenant may hold on its cluster, over all routers: the sum of the `CONNECTION LIMIT`s of its
    /// login roles (see [`Limits::connection_shares`]).
    connections: u32, 1 to 10_000;
    /// Connections that one router keeps for the tenant.
    pool_size: u32, 1 to 1_000;
    /// Connections that one router opens for the tenant in a second; callers wait in order for later ones.
    connections_per_second: u32, 1 to 100_000;
    /// Requests that one router lets through in a second.
    requests_per_second: u32, 1 to 1_000_000;
    /// Requests that one router lets through in a minute.
    requests_per_minute: u32, 1 to 60_000_000;
    /// Requests that one router lets run at the same time; later ones wait in order.
    concurrent_requests: u32, 1 to 100_000;
    /// Requests that wait in one router for others to end; zero means that none waits.
    queued_requests: u32, 0 to 100_000;
    /// The longest that a statement may take, in milliseconds.
    statement_timeout_ms: u32, 1 to MILLISECONDS_MAX;
    /// The longest that a transaction may sit idle, in milliseconds.
    idle_in_transaction_timeout_ms: u32, 1 to MILLISECONDS_MAX;
    /// The longest that a transaction may take, in milliseconds.
    transaction_timeout_ms: u32, 1 to MILLISECONDS_MAX;
    /// Whether the tenant may create temporary tables; absent means no.
    temporary_tables: bool;
    /// Whether routers may pool the tenant's connections with those of others in its database; absent means no. It says
    /// something for tenants with isolation `schema` only, and is no boundary against SQL that a tenant writes itself.
    shared_pooling: bool;
}

/// What a tenant has in place of its plan's values. In JSON the limits stand beside `quotas` and `features`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OverridesJson", into = "OverridesJson")]
pub struct Overrides {
    /// Its own limits.
    pub limits: Limits,
    /// Its own quotas, by name.
    pub quotas: BTreeMap<String, i64>,
    /// Features switched on or off for it, by name.
    pub features: BTreeMap<String, bool>,
}

impl From<Limits> for Overrides {
    fn from(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}

/// How a tenant's connections are divided between its roles; `None` means no ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionShares {
    /// For reading and writing, over both login roles.
    pub login: Option<u32>,
    /// For the read-only role.
    pub read_only: Option<u32>,
}

impl Limits {
    /// The shares of the login roles and of the read-only role. They add up to `connections`, so that the ceiling holds
    /// inside PostgreSQL, which limits each role by itself. A quarter is for reading only, at least one where there are
    /// two; a single connection is for writing.
    pub const fn connection_shares(&self) -> ConnectionShares {
        let Some(all) = self.connections else { return ConnectionShares { login: None, read_only: None } };
        let read_only = match all {
            0 | 1 => 0,
            2..=7 => 1,
            _ => all / 4,
        };
        ConnectionShares { login: Some(all - read_only), read_only: Some(read_only) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_override_replaces_only_what_it_names() {
        let plan = Limits { connections: Some(10), pool_size: Some(4), ..Limits::default() };
        let effective = plan.overridden_by(Limits { connections: Some(50), ..Limits::default() });
        assert_eq!(effective.connections, Some(50));
        assert_eq!(effective.pool_size, Some(4));
    }

    #[test]
    fn overrides_keep_limits_beside_quotas_and_features() {
        let text = r#"{"connections":50,"quotas":{"seats":7},"features":{"sso":false}}"#;
        let overrides: Overrides = serde_json::from_str(text).expect("valid");
        assert_eq!(overrides.limits.connections, Some(50));
        assert_eq!((overrides.quotas["seats"], overrides.features["sso"]), (7, false));
        assert_eq!(serde_json::to_string(&overrides).expect("serialises"), text);
        assert_eq!(serde_json::to_string(&Overrides::default()).expect("serialises"), "{}");
        assert!(serde_json::from_str::<Overrides>(r#"{"conections": 5}"#).is_err());
    }

    #[test]
    fn shares_never_add_up_past_the_ceiling() {
        for connections in 1..200 {
            let shares = Limits { connections: Some(connections), ..Limits::default() }.connection_shares();
            assert_eq!(shares.login.expect("a ceiling") + shares.read_only.expect("a ceiling"), connections);
            assert!(shares.login >= Some(1));
        }
        assert_eq!(Limits::default().connection_shares(), ConnectionShares { login: None, read_only: None });
    }

    #[test]
    fn a_ceiling_of_zero_or_past_what_postgresql_takes_is_refused_by_name() {
        for (limits, name) in [
            (Limits { connections: Some(0), ..Limits::default() }, "connections"),
            (Limits { pool_size: Some(5_000), ..Limits::default() }, "pool_size"),
            (Limits { concurrent_requests: Some(0), ..Limits::default() }, "concurrent_requests"),
            (Limits { queued_requests: Some(100_001), ..Limits::default() }, "queued_requests"),
            (Limits { statement_timeout_ms: Some(u32::MAX), ..Limits::default() }, "statement_timeout_ms"),
        ] {
            assert_eq!(limits.check().expect_err("out of range").name, name);
        }
        assert_eq!(Limits { queued_requests: Some(0), ..Limits::default() }.check(), Ok(()));
        assert_eq!(Limits { connections: Some(1), temporary_tables: Some(false), ..Limits::default() }.check(), Ok(()));
    }
}
