//! Where a tenant is not as it should be: a pure comparison.

use tenantry_domain::{Generation, Isolation, Limits, Route, RouteState, Tenant, TenantStatus};
use tenantry_store::HomeRecord;

use super::{Observed, RouterStanding};

/// Everything that differs, a sentence each. What was not seen differs from nothing.
pub(super) fn between(
    tenant: &Tenant,
    route: Option<&Route>,
    home: Option<&HomeRecord>,
    observed: &Observed,
    routers: &[RouterStanding],
) -> Vec<String> {
    let mut differences = Vec::new();
    let status = tenant.state.status();
    of_route(tenant, route, &mut differences);
    if let Some(home) = home {
        of_home(tenant, home, observed, &mut differences);
    } else if matches!(status, TenantStatus::Active | TenantStatus::Suspended | TenantStatus::Moving) {
        differences.push(format!("the tenant is {status}, but has no home"));
    }
    for standing in routers.iter().filter(|standing| !standing.has_route) {
        differences.push(format!(
            "router `{}` is at feed version {} and has not seen the tenant's present route",
            standing.router.name, standing.router.applied_version
        ));
    }
    differences
}

/// A limit that nothing comes of where the tenant lives.
pub(super) fn of_pooling(tenant: &Tenant, limits: &Limits, home: Option<&HomeRecord>) -> Option<String> {
    if limits.shared_pooling != Some(true) || tenant.state.status() == TenantStatus::Deleted {
        return None;
    }
    let why = match tenant.isolation {
        Isolation::Schema if home.is_some_and(|home| home.home.is_adopted()) => {
            "the tenant's schema was adopted, and others of its database are not served by that login".to_owned()
        }
        Isolation::Schema => return None,
        Isolation::Row | Isolation::Database | Isolation::Cluster => {
            format!("the tenant's isolation is `{}`, and only tenants with `schema` share a database", tenant.isolation)
        }
    };
    Some(format!("the limit `shared_pooling=true` has no effect: {why}"))
}

fn of_route(tenant: &Tenant, route: Option<&Route>, differences: &mut Vec<String>) {
    let status = tenant.state.status();
    let wanted = match status {
        TenantStatus::Provisioning => Some(RouteState::Provisioning),
        TenantStatus::Active => Some(RouteState::Active),
        TenantStatus::Suspended => Some(RouteState::Suspended),
        TenantStatus::Moving => Some(RouteState::Moving),
        TenantStatus::Deleting | TenantStatus::Deleted | TenantStatus::Failed => None,
    };
    match (wanted, route) {
        (Some(wanted), Some(route)) if route.state != wanted => {
            differences.push(format!("the tenant is {status}, but its route says {}", route.state));
        }
        (Some(_), None) => differences.push(format!("the tenant is {status}, but routers are told of no route")),
        (Some(_), Some(route))
            if route.generation != tenant.generation && tenant.generation > Generation::default() =>
        {
            differences
                .push(format!("the tenant is at generation {}, its route at {}", tenant.generation, route.generation));
        }
        _ => {}
    }
}

fn of_home(tenant: &Tenant, home: &HomeRecord, observed: &Observed, differences: &mut Vec<String>) {
    let status = tenant.state.status();
    let is_settled = matches!(status, TenantStatus::Active | TenantStatus::Suspended);
    if let Some(seen) = &observed.home {
        if is_settled && !seen.database {
            differences.push(format!("database `{}` is not on the cluster", home.home.database));
        } else if is_settled && !seen.schema {
            differences.push(format!("schema `{}` is not in its database", home.home.schema));
        }
        if status == TenantStatus::Deleted && (!seen.roles.is_empty() || seen.database && !home.home.is_adopted()) {
            differences.push("the tenant is deleted, but something of its home is still there".to_owned());
        }
    }
    if !is_settled {
        return;
    }
    differences.extend(observed.role_drift.iter().flatten().cloned());
    let is_whole = observed.home.as_ref().is_some_and(|seen| seen.database && seen.schema);
    let stamp_was_read = is_whole && !observed.unseen.iter().any(|sentence| sentence.starts_with("its stamp"));
    match &observed.stamp {
        Some(stamp) if stamp.tenant != tenant.id => {
            differences.push(format!("the home's stamp names another tenant: {}", stamp.tenant));
        }
        Some(stamp) if stamp.generation != tenant.generation => differences.push(format!(
            "the home's stamp is of generation {}, the tenant of {}",
            stamp.generation, tenant.generation
        )),
        Some(stamp) if (stamp.state == RouteState::Active) != (status == TenantStatus::Active) => {
            differences.push(format!("the tenant is {status}, but the home's stamp says {}", stamp.state));
        }
        None if stamp_was_read => differences.push("the home bears no stamp".to_owned()),
        _ => {}
    }
    if let Some(version) = observed.schema_version
        && version != tenant.schema_version
    {
        differences.push(format!(
            "the home's own history is at version {version}, the catalog says {}",
            tenant.schema_version
        ));
    }
    if status == TenantStatus::Suspended
        && let Some(sessions) = observed.sessions.filter(|sessions| *sessions > 0)
    {
        differences.push(format!("the tenant is suspended, but {sessions} session(s) of it are open"));
    }
}
