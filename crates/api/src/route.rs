//! Routes: what a router, or a service with pools of its own, needs to reach a placement.

use serde::{Deserialize, Serialize};
use tenantry_domain::{
    ClusterId, Credential, DatabaseName, FeedVersion, Generation, HostName, Limits, Pooling, RoleName, RouteState,
    RouteTarget, SchemaName, SchemaVersion, SharedAccess, Slug, TenantId,
};
use utoipa::{IntoParams, ToSchema};

use crate::schema;
use crate::secret::SecretText;

/// A login role, and its password for readers with the scope `routes:secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteCredential {
    /// The role that logs in.
    #[schema(value_type = String)]
    pub role: RoleName,
    /// Its password; absent without `routes:secrets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Password)]
    pub password: Option<SecretText>,
}

impl From<Credential> for RouteCredential {
    fn from(credential: Credential) -> Self {
        Self { role: credential.role, password: credential.password.map(SecretText::new) }
    }
}

impl From<RouteCredential> for Credential {
    fn from(credential: RouteCredential) -> Self {
        Self { role: credential.role, password: credential.password.map(SecretText::into_secret) }
    }
}

/// What is needed to reach one tenant. Cluster, database, schema, role and credentials are null together, until the
/// first placement is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Route {
    /// The change that made it what it is.
    #[schema(value_type = i64)]
    pub version: FeedVersion,
    /// Whose it is.
    #[schema(value_type = Uuid)]
    pub tenant: TenantId,
    /// Its slug.
    #[schema(value_type = String, example = "acme")]
    pub slug: Slug,
    /// Hosts that lead to it, besides its sub-domain.
    #[schema(value_type = Vec<String>)]
    pub hosts: Vec<HostName>,
    /// Whether it can be reached.
    #[schema(schema_with = schema::route_state)]
    pub state: RouteState,
    /// Of the placement.
    #[schema(value_type = i64)]
    pub generation: Generation,
    /// The cluster.
    #[schema(value_type = Option<Uuid>)]
    pub cluster: Option<ClusterId>,
    /// The database.
    #[schema(value_type = Option<String>)]
    pub database: Option<DatabaseName>,
    /// Where its objects are.
    #[schema(value_type = Option<String>)]
    pub schema: Option<SchemaName>,
    /// The role that logs in; the same as in `credential`.
    #[schema(value_type = Option<String>)]
    pub role: Option<RoleName>,
    /// For reading and writing.
    pub credential: Option<RouteCredential>,
    /// For reading only.
    pub read_only_credential: Option<RouteCredential>,
    /// The login that tenants of the database share; absent unless `pooling` is `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_credential: Option<RouteCredential>,
    /// What `shared_credential` becomes for this tenant, to read and write; absent where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub app_role: Option<RoleName>,
    /// Effective limits.
    #[schema(schema_with = schema::limits)]
    pub limits: Limits,
    /// How connections are pooled.
    #[schema(schema_with = schema::pooling)]
    pub pooling: Pooling,
    /// The version of its schema.
    #[schema(value_type = i64)]
    pub schema_version: SchemaVersion,
}

impl From<tenantry_domain::Route> for Route {
    fn from(route: tenantry_domain::Route) -> Self {
        let pooling = route.pooling();
        let (cluster, database, schema, credential, read_only_credential, shared) = match route.target {
            Some(target) => (
                Some(target.cluster),
                Some(target.database),
                Some(target.schema),
                Some(target.credential),
                Some(target.read_only_credential),
                target.shared,
            ),
            None => (None, None, None, None, None, None),
        };
        let (shared_credential, app_role) = shared.map(|shared| (shared.credential, shared.app)).unzip();
        Self {
            version: route.version,
            tenant: route.tenant,
            slug: route.slug,
            hosts: route.hosts,
            state: route.state,
            generation: route.generation,
            cluster,
            database,
            schema,
            role: credential.as_ref().map(|credential| credential.role.clone()),
            credential: credential.map(RouteCredential::from),
            read_only_credential: read_only_credential.map(RouteCredential::from),
            shared_credential: shared_credential.map(RouteCredential::from),
            app_role,
            limits: route.limits,
            pooling,
            schema_version: route.schema_version,
        }
    }
}

/// A route that names only part of a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the route of tenant {tenant} names only part of a target; cluster, database, schema and credentials go together, and \
     `shared_credential` and `app_role` with `pooling`"
)]
pub struct IncompleteRoute {
    /// Whose route.
    pub tenant: TenantId,
}

impl TryFrom<Route> for tenantry_domain::Route {
    type Error = IncompleteRoute;

    fn try_from(route: Route) -> Result<Self, IncompleteRoute> {
        let shared = match (route.pooling, route.shared_credential, route.app_role) {
            (Pooling::Shared, Some(credential), Some(app)) => Some(SharedAccess { credential: credential.into(), app }),
            (Pooling::Own, None, None) => None,
            _ => return Err(IncompleteRoute { tenant: route.tenant }),
        };
        let parts = (route.cluster, route.database, route.schema, route.credential, route.read_only_credential);
        let target = match parts {
            (Some(cluster), Some(database), Some(schema), Some(credential), Some(read_only_credential)) => {
                Some(RouteTarget {
                    cluster,
                    database,
                    schema,
                    credential: credential.into(),
                    read_only_credential: read_only_credential.into(),
                    shared,
                })
            }
            (None, None, None, None, None) if shared.is_none() => None,
            _ => return Err(IncompleteRoute { tenant: route.tenant }),
        };
        Ok(Self {
            version: route.version,
            tenant: route.tenant,
            slug: route.slug,
            hosts: route.hosts,
            state: route.state,
            generation: route.generation,
            target,
            limits: route.limits,
            schema_version: route.schema_version,
        })
    }
}

/// Which tenant to resolve: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ResolveQuery {
    /// By one of its hosts, in lower case and without a port: cut the port off a `Host` header, and lower its case.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>, example = "app.acme.com")]
    pub host: Option<HostName>,
    /// By its slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub slug: Option<Slug>,
    /// By its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<Uuid>)]
    pub id: Option<TenantId>,
}

/// What to resolve by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolveBy {
    /// By one of its hosts.
    Host(HostName),
    /// By its slug.
    Slug(Slug),
    /// By its id.
    Id(TenantId),
}

/// Not exactly one of `host`, `slug` and `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give exactly one of `host`, `slug` and `id`")]
pub struct AmbiguousResolve;

impl ResolveQuery {
    /// The one that was given.
    pub fn by(self) -> Result<ResolveBy, AmbiguousResolve> {
        match (self.host, self.slug, self.id) {
            (Some(host), None, None) => Ok(ResolveBy::Host(host)),
            (None, Some(slug), None) => Ok(ResolveBy::Slug(slug)),
            (None, None, Some(id)) => Ok(ResolveBy::Id(id)),
            _ => Err(AmbiguousResolve),
        }
    }
}

impl From<ResolveBy> for ResolveQuery {
    fn from(by: ResolveBy) -> Self {
        match by {
            ResolveBy::Host(host) => Self { host: Some(host), ..Self::default() },
            ResolveBy::Slug(slug) => Self { slug: Some(slug), ..Self::default() },
            ResolveBy::Id(id) => Self { id: Some(id), ..Self::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> serde_json::Value {
        serde_json::json!({
            "version": 7, "tenant": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506", "slug": "acme", "hosts": [],
            "state": "active", "generation": 1, "cluster": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f507",
            "database": "h_1", "schema": "public", "role": "h_1_a",
            "credential": {"role": "h_1_a", "password": "hunter2"}, "read_only_credential": {"role": "h_1_ro"},
            "limits": {}, "pooling": "own", "schema_version": 12,
        })
    }

    #[test]
    fn a_route_survives_the_wire() {
        let wire: Route = serde_json::from_value(route()).expect("valid");
        assert!(!format!("{wire:?}").contains("hunter2"));
        let domain = tenantry_domain::Route::try_from(wire).expect("complete");
        assert_eq!(serde_json::to_value(Route::from(domain)).expect("serialises"), route());
    }

    #[test]
    fn half_a_target_is_refused() {
        let mut half = route();
        half["database"] = serde_json::Value::Null;
        let wire: Route = serde_json::from_value(half).expect("valid JSON");
        assert!(tenantry_domain::Route::try_from(wire).is_err());
    }

    #[test]
    fn resolving_takes_exactly_one_name() {
        assert!(ResolveQuery::default().by().is_err());
        let slug = Slug::parse("acme").expect("valid");
        assert!(ResolveQuery::from(ResolveBy::Slug(slug.clone())).by().is_ok());
        let both = ResolveQuery { slug: Some(slug), host: HostName::parse("a.b").ok(), id: None };
        assert!(both.by().is_err());
    }
}
