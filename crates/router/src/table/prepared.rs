//! A route made ready for the table while nobody waits for it: checked, and its texts packed.

use tenantry_api::route::IncompleteRoute;
use tenantry_api::route_line::{CredentialLine, RouteLine, Text};
use tenantry_domain::{
    DatabaseName, FeedVersion, Generation, HostName, InvalidName, Pooling, RoleName, Route, RouteState, SchemaName,
    SchemaVersion, Slug, TenantId,
};

use super::packed::{Packed, Unpacked, UnpackedCredential, UnpackedTarget};
use super::slots::Kept;
use super::terms::Terms;

/// A route that [`Table::apply`](super::Table::apply) takes.
pub(crate) struct Prepared {
    pub(crate) tenant: TenantId,
    pub(crate) version: FeedVersion,
    pub(super) generation: Generation,
    pub(super) schema_version: SchemaVersion,
    pub(super) state: RouteState,
    pub(super) terms: Terms,
    pub(super) packed: Kept,
}

/// Why a line of the feed is no route.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableRoute {
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Incomplete(#[from] IncompleteRoute),
}

impl From<&Route> for Prepared {
    fn from(route: &Route) -> Self {
        let target = route.target.as_ref();
        let texts = Unpacked {
            slug: route.slug.as_str(),
            hosts: route.hosts.iter().map(HostName::as_str).collect(),
            target: target.map(UnpackedTarget::from),
        };
        let has_own_database = texts.target.as_ref().is_none_or(UnpackedTarget::has_own_database);
        Self {
            tenant: route.tenant,
            version: route.version,
            generation: route.generation,
            schema_version: route.schema_version,
            state: route.state,
            packed: Kept::new(Packed::of(&texts, has_own_database)),
            terms: Terms {
                cluster: target.map(|target| target.cluster),
                database: target.filter(|_| !has_own_database).map(|target| target.database.clone()),
                limits: route.limits,
            },
        }
    }
}

impl TryFrom<&RouteLine<'_>> for Prepared {
    type Error = UnusableRoute;

    fn try_from(line: &RouteLine<'_>) -> Result<Self, UnusableRoute> {
        let slug = checked(&line.slug, Slug::check)?;
        let hosts = line.hosts.iter().map(|host| checked(host, HostName::check)).collect::<Result<_, _>>()?;
        let target = target_of(line)?;
        let has_own_database = target.as_ref().is_none_or(UnpackedTarget::has_own_database);
        let shared_database = target.as_ref().filter(|_| !has_own_database);
        let database = shared_database.map(|target| DatabaseName::parse(target.database)).transpose()?;
        Ok(Self {
            tenant: line.tenant,
            version: line.version,
            generation: line.generation,
            schema_version: line.schema_version,
            state: line.state,
            terms: Terms { cluster: line.cluster, database, limits: line.limits },
            packed: Kept::new(Packed::of(&Unpacked { slug, hosts, target }, has_own_database)),
        })
    }
}

/// All of a target or nothing of it.
fn target_of<'l>(line: &'l RouteLine<'_>) -> Result<Option<UnpackedTarget<'l>>, UnusableRoute> {
    let incomplete = || UnusableRoute::Incomplete(IncompleteRoute { tenant: line.tenant });
    let shared = match (line.pooling, &line.shared_credential, &line.app_role) {
        (Pooling::Shared, Some(login), Some(app)) => Some((credential(login)?, checked(app, RoleName::check)?)),
        (Pooling::Own, None, None) => None,
        _ => return Err(incomplete()),
    };
    match (line.cluster, &line.database, &line.schema, &line.credential, &line.read_only_credential) {
        (Some(_), Some(database), Some(schema), Some(own), Some(read_only)) => Ok(Some(UnpackedTarget {
            database: checked(database, DatabaseName::check)?,
            schema: checked(schema, SchemaName::check)?,
            credential: credential(own)?,
            read_only_credential: credential(read_only)?,
            shared,
        })),
        (None, None, None, None, None) if shared.is_none() => Ok(None),
        _ => Err(incomplete()),
    }
}

fn credential<'l>(line: &'l CredentialLine<'_>) -> Result<UnpackedCredential<'l>, InvalidName> {
    let password = line.password.as_ref().map(Text::as_str);
    Ok(UnpackedCredential { role: checked(&line.role, RoleName::check)?, password })
}

fn checked<'l>(text: &'l Text<'_>, check: fn(&str) -> Result<(), InvalidName>) -> Result<&'l str, InvalidName> {
    check(text.as_str()).map(|()| text.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tenantry_domain::Limits;

    use super::*;

    fn route() -> Value {
        json!({
            "version": 7, "tenant": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506", "slug": "acme", "hosts": ["fly.example.com"],
            "state": "suspended", "generation": 3, "cluster": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f507",
            "database": "h_01923f4a5b6c7d8e9fa0b1c2d3e4f508", "schema": "public",
            "role": "h_01923f4a5b6c7d8e9fa0b1c2d3e4f508_a",
            "credential": {"role": "h_01923f4a5b6c7d8e9fa0b1c2d3e4f508_a", "password": "hunt\"er2"},
            "read_only_credential": {"role": "h_01923f4a5b6c7d8e9fa0b1c2d3e4f508_ro"},
            "limits": {"pool_size": 7}, "pooling": "own", "schema_version": 12,
        })
    }

    fn with(changes: &[(&str, Value)]) -> String {
        let mut route = route();
        for (field, value) in changes {
            route[*field] = value.clone();
        }
        route.to_string()
    }

    fn of_line(text: &str) -> Result<Prepared, UnusableRoute> {
        Prepared::try_from(&serde_json::from_str::<RouteLine<'_>>(text).expect("a line"))
    }

    #[test]
    fn a_line_and_the_route_that_it_says_become_the_same() {
        let shared = [
            ("database", json!("s_1")),
            ("pooling", json!("shared")),
            ("shared_credential", json!({"role": "s_1_pool", "password": "x"})),
            ("app_role", json!("h_1_app")),
        ];
        let nothing = ["cluster", "database", "schema", "role", "credential", "read_only_credential"];
        for text in [with(&[]), with(&shared), with(&nothing.map(|field| (field, Value::Null)))] {
            let whole: tenantry_api::Route = serde_json::from_str(&text).expect("a route");
            let whole = Prepared::from(&Route::try_from(whole).expect("whole"));
            let line = of_line(&text).expect("whole");
            assert_eq!(line.packed.bytes(), whole.packed.bytes(), "{text}");
            assert_eq!(line.terms, whole.terms, "{text}");
            assert_eq!((line.tenant, line.version, line.generation), (whole.tenant, whole.version, whole.generation));
            assert_eq!((line.state, line.schema_version), (RouteState::Suspended, SchemaVersion(12)));
            assert_eq!(line.terms.limits, Limits { pool_size: Some(7), ..Limits::default() });
        }
    }

    #[test]
    fn names_that_are_none_and_half_a_target_are_refused() {
        for (field, value) in [
            ("slug", json!("Acme")),
            ("hosts", json!(["no dot"])),
            ("database", json!("")),
            ("schema", json!("a\u{7}")),
            ("credential", json!({"role": ""})),
            ("read_only_credential", json!({"role": "x".repeat(64)})),
        ] {
            let refused = of_line(&with(&[(field, value)]));
            assert!(matches!(refused, Err(UnusableRoute::Name(_))), "{field}");
        }
        for field in ["cluster", "database", "schema", "credential", "read_only_credential"] {
            let refused = of_line(&with(&[(field, Value::Null)]));
            assert!(matches!(refused, Err(UnusableRoute::Incomplete(_))), "{field}");
        }
        let refused = of_line(&with(&[("pooling", json!("shared"))]));
        assert!(matches!(refused, Err(UnusableRoute::Incomplete(_))));
    }
}
