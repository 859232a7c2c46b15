//! Homes: the physical places where tenants live, and the names of what is in them.
//!
//! Physical names derive from the home's id, never from a slug, and are never reused. "Already exists" can therefore
//! only mean that we were here before.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ClusterId, HomeId, TenantId};
use crate::isolation::Isolation;
use crate::name::InvalidName;

/// Rises with every change of a tenant's placement. Zero means never placed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl Generation {
    /// The first placement of a tenant.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

macro_rules! physical_name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts any PostgreSQL identifier of 1 to 63 bytes without control characters. Quoting is the duty of
            /// whoever writes SQL.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                Self::check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// Whether the text is such a name, without a copy of it.
            pub fn check(text: &str) -> Result<(), InvalidName> {
                if (1..=63).contains(&text.len()) && !text.chars().any(char::is_control) {
                    Ok(())
                } else {
                    Err(InvalidName::new($kind, "use 1 to 63 bytes and no control characters", text))
                }
            }

            /// The bare name, not quoted.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

physical_name! {
    /// The name of a database on a cluster.
    DatabaseName, "database name"
}
physical_name! {
    /// The name of a schema in a database.
    SchemaName, "schema name"
}
physical_name! {
    /// The name of a role on a cluster.
    RoleName, "role name"
}

impl DatabaseName {
    /// The database of a home with isolation `database` or `cluster`.
    pub fn of_home(home: HomeId) -> Self {
        Self(format!("h_{}", home.simple()))
    }

    /// A database that `schema` homes share. The caller draws the UUID.
    pub fn shared(uuid: Uuid) -> Self {
        Self(format!("s_{}", uuid.simple()))
    }

    /// A golden template. The caller draws the UUID.
    pub fn template(uuid: Uuid) -> Self {
        Self(format!("t_{}", uuid.simple()))
    }
}

impl SchemaName {
    /// The schema of a home with isolation `schema`.
    pub fn of_home(home: HomeId) -> Self {
        Self(format!("h_{}", home.simple()))
    }

    /// `public`, where the objects of `database` and `cluster` homes live.
    pub fn public() -> Self {
        Self("public".to_owned())
    }
}

impl RoleName {
    /// The role that owns a template's objects until a clone hands them to its home's owner. It never owns a database.
    pub fn template_owner(template: &DatabaseName) -> Self {
        Self(format!("{}_owner", template.as_str()))
    }

    /// The role that logs in to bring a template to its migration set.
    pub fn template_migrator(template: &DatabaseName) -> Self {
        Self(format!("{}_m", template.as_str()))
    }

    /// The group that every home in a shared database joins.
    pub fn shared_homes(database: &DatabaseName) -> Self {
        Self(format!("{}_homes", database.as_str()))
    }

    /// The role that logs in to migrate many homes of a shared database over one connection.
    pub fn shared_migrator(database: &DatabaseName) -> Self {
        Self(format!("{}_m", database.as_str()))
    }

    /// The role that routers log in as for tenants of a shared database whose connections are pooled together.
    pub fn shared_pool(database: &DatabaseName) -> Self {
        Self(format!("{}_pool", database.as_str()))
    }

    /// The group that homes with temporary tables join in a shared database.
    pub fn shared_temporary(database: &DatabaseName) -> Self {
        Self(format!("{}_temp", database.as_str()))
    }
}

/// Which of the two alternating login roles is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginSlot {
    /// `h_…_a`
    A,
    /// `h_…_b`
    B,
}

impl LoginSlot {
    /// The one that a rotation turns to.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Every role of one home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeNames {
    /// `NOLOGIN`, owns the objects.
    pub owner: RoleName,
    /// `NOLOGIN`, holds the grants on data.
    pub app: RoleName,
    /// The first of the alternating login roles.
    pub login_a: RoleName,
    /// The second of the alternating login roles.
    pub login_b: RoleName,
    /// Logs in and only reads.
    pub read_only: RoleName,
    /// Logs in for migrations; member of this home's owner and of nothing else.
    pub migrator: RoleName,
}

impl HomeNames {
    /// The names that derive from the home's id.
    pub fn of(home: HomeId) -> Self {
        let role = |suffix: &str| RoleName(format!("h_{}_{suffix}", home.simple()));
        Self {
            owner: role("owner"),
            app: role("app"),
            login_a: role("a"),
            login_b: role("b"),
            read_only: role("ro"),
            migrator: role("m"),
        }
    }

    /// The login role of a slot.
    pub fn login(&self, slot: LoginSlot) -> &RoleName {
        match slot {
            LoginSlot::A => &self.login_a,
            LoginSlot::B => &self.login_b,
        }
    }

    /// All of them, in the order in which they can be created; drop them in reverse.
    pub fn all(&self) -> [&RoleName; 6] {
        [&self.owner, &self.app, &self.login_a, &self.login_b, &self.read_only, &self.migrator]
    }
}

/// One physical place on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Its id; physical names derive from it.
    pub id: HomeId,
    /// The cluster that it is on.
    pub cluster: ClusterId,
    /// What the tenant has to itself in it.
    pub isolation: Isolation,
    /// The database that it is, or is in.
    pub database: DatabaseName,
    /// Where its objects live.
    pub schema: SchemaName,
}

impl Home {
    /// Its role names.
    pub fn names(&self) -> HomeNames {
        HomeNames::of(self.id)
    }

    /// Whether it was made elsewhere and taken over: then its database or schema bears a name that is not the home's.
    pub fn is_adopted(&self) -> bool {
        match self.isolation {
            Isolation::Schema => self.schema != SchemaName::of_home(self.id),
            Isolation::Database => self.database != DatabaseName::of_home(self.id),
            Isolation::Row | Isolation::Cluster => false,
        }
    }
}

/// The fact that a tenant lives in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Who lives there.
    pub tenant: TenantId,
    /// Where.
    pub home: Home,
    /// Since which generation.
    pub since: Generation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_with_a_name_that_is_not_its_own_is_adopted() {
        let id = HomeId::new(Uuid::from_u128(7));
        let cluster = ClusterId::new(Uuid::from_u128(8));
        let legacy = DatabaseName::parse("legacy").expect("valid");
        let home = |isolation, database: DatabaseName, schema| Home { id, cluster, isolation, database, schema };
        assert!(!home(Isolation::Database, DatabaseName::of_home(id), SchemaName::public()).is_adopted());
        assert!(home(Isolation::Database, legacy.clone(), SchemaName::public()).is_adopted());
        assert!(!home(Isolation::Schema, DatabaseName::shared(Uuid::nil()), SchemaName::of_home(id)).is_adopted());
        assert!(home(Isolation::Schema, legacy, SchemaName::parse("sales").expect("valid")).is_adopted());
    }

    #[test]
    fn physical_names_derive_from_the_home_and_fit_postgresql() {
        let home = HomeId::new(Uuid::from_u128(7));
        assert_eq!(DatabaseName::of_home(home).as_str(), "h_00000000000000000000000000000007");
        for role in HomeNames::of(home).all() {
            assert!(role.as_str().starts_with("h_00000000000000000000000000000007_"));
            assert!(role.as_str().len() <= 63);
        }
        let template = DatabaseName::template(Uuid::from_u128(7));
        assert!(RoleName::template_owner(&template).as_str().len() <= 63);
    }
}
