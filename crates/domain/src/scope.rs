//! What a token may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::InvalidName;

/// Reading or writing; writing includes reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Look, change nothing.
    Read,
    /// Change.
    Write,
}

/// One thing that a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// `tenants:…`
    Tenants(Access),
    /// `clusters:…`
    Clusters(Access),
    /// `plans:…`
    Plans(Access),
    /// `operations:…`
    Operations(Access),
    /// `migrations:…`: migration sets and rollouts.
    Migrations(Access),
    /// `tokens:…`
    Tokens(Access),
    /// `audit:…`
    Audit(Access),
    /// `webhooks:…`: who is told of what happens.
    Webhooks(Access),
    /// `routes:read`: the feed and resolving, without passwords; also a router's own report.
    RoutesRead,
    /// `routes:secrets`: routes with the passwords in them; includes `routes:read`.
    RoutesSecrets,
    /// `admin`: everything.
    Admin,
}

impl Scope {
    /// All of them.
    pub fn all() -> Vec<Self> {
        let mut scopes = Vec::new();
        for access in [Access::Read, Access::Write] {
            scopes.extend([
                Self::Tenants(access),
                Self::Clusters(access),
                Self::Plans(access),
                Self::Operations(access),
                Self::Migrations(access),
                Self::Tokens(access),
                Self::Audit(access),
                Self::Webhooks(access),
            ]);
        }
        scopes.extend([Self::RoutesRead, Self::RoutesSecrets, Self::Admin]);
        scopes
    }

    /// Whether holding `self` is enough where `required` is asked for.
    pub fn includes(self, required: Self) -> bool {
        self == required
            || self == Self::Admin
            || matches!(
                (self, required),
                (Self::Tenants(Access::Write), Self::Tenants(Access::Read))
                    | (Self::Clusters(Access::Write), Self::Clusters(Access::Read))
                    | (Self::Plans(Access::Write), Self::Plans(Access::Read))
                    | (Self::Operations(Access::Write), Self::Operations(Access::Read))
                    | (Self::Migrations(Access::Write), Self::Migrations(Access::Read))
                    | (Self::Tokens(Access::Write), Self::Tokens(Access::Read))
                    | (Self::Audit(Access::Write), Self::Audit(Access::Read))
                    | (Self::Webhooks(Access::Write), Self::Webhooks(Access::Read))
                    | (Self::RoutesSecrets, Self::RoutesRead)
            )
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (resource, access) = match self {
            Self::Tenants(access) => ("tenants", access),
            Self::Clusters(access) => ("clusters", access),
            Self::Plans(access) => ("plans", access),
            Self::Operations(access) => ("operations", access),
            Self::Migrations(access) => ("migrations", access),
            Self::Tokens(access) => ("tokens", access),
            Self::Audit(access) => ("audit", access),
            Self::Webhooks(access) => ("webhooks", access),
            Self::RoutesRead => return formatter.write_str("routes:read"),
            Self::RoutesSecrets => return formatter.write_str("routes:secrets"),
            Self::Admin => return formatter.write_str("admin"),
        };
        let access = match access {
            Access::Read => "read",
            Access::Write => "write",
        };
        write!(formatter, "{resource}:{access}")
    }
}

impl FromStr for Scope {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::all().into_iter().find(|scope| scope.to_string() == text).ok_or_else(|| {
            InvalidName::new(
                "scope",
                "use tenants, clusters, plans, operations, migrations, tokens, audit or webhooks with :read or :write, \
                 routes:read, routes:secrets, or admin",
                text,
            )
        })
    }
}

impl TryFrom<String> for Scope {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> String {
        scope.to_string()
    }
}

/// Everything that a token may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScopeSet(BTreeSet<Scope>);

impl ScopeSet {
    /// A set of scopes.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().collect())
    }

    /// Whether one of them includes what is required.
    pub fn allows(&self, required: Scope) -> bool {
        self.0.iter().any(|scope| scope.includes(required))
    }

    /// Whether a holder of this set may hand out `other`: nobody grants more than they hold.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|scope| self.allows(*scope))
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = Scope> + '_ {
        self.0.iter().copied()
    }

    /// Whether it allows nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_includes_reading_and_nothing_crosses_resources() {
        let all = Scope::all();
        for held in &all {
            for required in &all {
                let same_resource = held.to_string().split(':').next() == required.to_string().split(':').next();
                if *held != Scope::Admin && !same_resource {
                    assert!(!held.includes(*required), "{held} must not include {required}");
                }
            }
            assert!(Scope::Admin.includes(*held));
            assert_eq!(held.to_string().parse(), Ok(*held));
        }
        assert!(Scope::Tenants(Access::Write).includes(Scope::Tenants(Access::Read)));
        assert!(!Scope::Tenants(Access::Read).includes(Scope::Tenants(Access::Write)));
        assert!(!Scope::RoutesRead.includes(Scope::RoutesSecrets));
    }

    #[test]
    fn nobody_grants_more_than_they_hold() {
        let holder = ScopeSet::new([Scope::Tenants(Access::Write), Scope::RoutesRead]);
        assert!(holder.covers(&ScopeSet::new([Scope::Tenants(Access::Read)])));
        assert!(!holder.covers(&ScopeSet::new([Scope::RoutesSecrets])));
    }
}
