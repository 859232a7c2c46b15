//! Taking a server in: what is checked, and what is recorded.

use tenantry_domain::{
    Access, Check, Cluster, ClusterId, ClusterLimits, ClusterName, ClusterObservation, DatabaseName, Endpoint,
    ProviderKind, Region, Scope, Secret, Tenancy, TenantId, TlsMode, Verdict,
};
use tenantry_fleet::{ClusterTarget, FleetError, Inspection, tls_check};
use tenantry_store::{ClusterLook, ClusterRef, NewCluster, StoreError};

use super::{audit, check_tls, summary};
use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::warm_pool;

/// The check that a server is not registered yet.
const NOT_REGISTERED: &str = "not_registered";

/// The wish to take a server in.
#[derive(Debug, Clone)]
pub struct RegisterCluster {
    /// Its name.
    pub name: ClusterName,
    /// Where its data is.
    pub region: Region,
    /// Whether several tenants may share it.
    pub tenancy: Tenancy,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// The admin's role: a superuser, or one with `CREATEDB` and `CREATEROLE`.
    pub user: String,
    /// The admin's password.
    pub password: Secret,
    /// Where the admin logs in; absent means `postgres`.
    pub database: Option<DatabaseName>,
    /// How connections are protected; absent means `disable` for a server on this machine, else `verify_full`.
    pub tls_mode: Option<TlsMode>,
    /// PEM of the authority.
    pub tls_ca: Option<String>,
    /// How much it takes.
    pub limits: ClusterLimits,
}

/// A cluster to be looked at and recorded, with everything decided.
#[derive(Debug, Clone)]
pub(crate) struct ClusterToRegister {
    pub(crate) id: ClusterId,
    pub(crate) name: ClusterName,
    pub(crate) region: Region,
    pub(crate) tenancy: Tenancy,
    pub(crate) provider: ProviderKind,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls_mode: TlsMode,
    pub(crate) tls_ca: Option<String>,
    pub(crate) user: String,
    pub(crate) password: Secret,
    pub(crate) database: DatabaseName,
    pub(crate) limits: ClusterLimits,
    pub(crate) claimed_by: Option<TenantId>,
}

/// What registering a server would come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationPreview {
    /// Whether it would be taken in.
    pub is_accepted: bool,
    /// `server_version_num`; absent where it was not reached.
    pub server_version: Option<i32>,
    /// `max_connections`; absent where it was not reached.
    pub connections_max: Option<u32>,
    /// Every check, in the order in which they were made.
    pub checks: Vec<Check>,
}

/// Looks at a server, closes `PUBLIC`'s access to its databases, and records it. What its provider forbids to close is
/// told in the cluster's health, as is everything that was checked.
pub async fn register(control: &Control, caller: &Caller, wish: RegisterCluster) -> Result<Cluster, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let cluster = decided(wish)?;
    let mut target = target_of(&cluster);
    let inspection = control.fleet().inspect(&target).await?;
    let checks = checks(control, &cluster, &inspection).await?;
    refuse_failed(&checks)?;
    let findings = prepare(control, &mut target, &inspection).await?;
    let mut tx = control.store().begin().await?;
    let id = cluster.id;
    let look = looked_at(&inspection, checks);
    tx.insert_cluster(&new_cluster(cluster, inspection, findings)).await?;
    tx.poke_reconciler(warm_pool::NAME).await?;
    let recorded = tx.cluster(&ClusterRef::Id(id)).await?;
    audit(&mut tx, caller, "cluster.register", id, None, Some(summary(&recorded))).await?;
    tx.commit().await?;
    control.store().record_cluster_look(id, &look).await?;
    Ok(control.store().cluster(&ClusterRef::Id(id)).await?)
}

/// What [`register`] would come to, with every check and not only the first that fails. Nothing is changed, on the server
/// or in the catalog.
pub async fn preview(
    control: &Control,
    caller: &Caller,
    wish: RegisterCluster,
) -> Result<RegistrationPreview, ControlError> {
    caller.require_fleet_wide(Scope::Clusters(Access::Write))?;
    let cluster = decided(wish)?;
    match control.fleet().inspect(&target_of(&cluster)).await {
        Ok(inspection) => {
            let checks = checks(control, &cluster, &inspection).await?;
            Ok(RegistrationPreview {
                is_accepted: checks.iter().all(|check| check.verdict != Verdict::Failed),
                server_version: Some(inspection.server_version),
                connections_max: Some(inspection.connections_max),
                checks,
            })
        }
        Err(error) => Ok(RegistrationPreview {
            is_accepted: false,
            server_version: None,
            connections_max: None,
            checks: vec![not_reached(error)?],
        }),
    }
}

/// Records a cluster that a provider started, unless it is recorded already; its doors are closed either way.
pub(crate) async fn ensure_started_cluster(
    control: &Control,
    cluster: ClusterToRegister,
) -> Result<ClusterId, ControlError> {
    let id = cluster.id;
    let mut target = target_of(&cluster);
    let inspection = control.fleet().inspect(&target).await?;
    refuse_failed(&inspection.checks())?;
    let findings = prepare(control, &mut target, &inspection).await?;
    match control.store().cluster(&ClusterRef::Id(id)).await {
        Ok(_) => return Ok(id),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let look = looked_at(&inspection, inspection.checks());
    let mut tx = control.store().begin().await?;
    tx.insert_cluster(&new_cluster(cluster, inspection, findings)).await?;
    tx.commit().await?;
    control.store().record_cluster_look(id, &look).await?;
    Ok(id)
}

/// The wish with everything filled in that it leaves open.
fn decided(wish: RegisterCluster) -> Result<ClusterToRegister, ControlError> {
    let is_local = wish.endpoint.is_local();
    let tls_mode = wish.tls_mode.unwrap_or(if is_local { TlsMode::Disable } else { TlsMode::VerifyFull });
    check_tls(tls_mode, &wish.endpoint)?;
    let database = match wish.database {
        Some(database) => database,
        None => DatabaseName::parse("postgres")?,
    };
    Ok(ClusterToRegister {
        id: ClusterId::new(new_id()),
        name: wish.name,
        region: wish.region,
        tenancy: wish.tenancy,
        provider: ProviderKind::Registered,
        endpoint: wish.endpoint,
        tls_mode,
        tls_ca: wish.tls_ca,
        user: wish.user,
        password: wish.password,
        database,
        limits: wish.limits,
        claimed_by: None,
    })
}

/// Everything that is checked on a server that answered.
async fn checks(
    control: &Control,
    cluster: &ClusterToRegister,
    inspection: &Inspection,
) -> Result<Vec<Check>, ControlError> {
    let store = control.store();
    let mut checks = vec![
        Check::passed("connection", format!("{} answers", cluster.endpoint)),
        tls_check(&cluster.endpoint, cluster.tls_mode, cluster.tls_ca.is_some()),
    ];
    checks.extend(inspection.checks());
    checks.push(match store.cluster_by_system_identifier(&inspection.system_identifier).await? {
        None => Check::passed(NOT_REGISTERED, "the server is not registered yet"),
        Some(name) => Check::failed(
            NOT_REGISTERED,
            format!("the server is registered already, as cluster `{name}`"),
            format!("use that one, or give the address of another server; `tenantry cluster show {name}` shows it"),
        ),
    });
    checks.push(match store.cluster(&ClusterRef::Name(cluster.name.clone())).await {
        Ok(_) => Check::failed("name", format!("the cluster name `{}` is taken", cluster.name), "choose another name"),
        Err(StoreError::NotFound { .. }) => Check::passed("name", format!("the name `{}` is free", cluster.name)),
        Err(error) => return Err(error.into()),
    });
    checks.push(match store.region_group(&cluster.region).await {
        Ok(group) => {
            let regions: Vec<&str> = group.regions.as_set().iter().map(Region::as_str).collect();
            let found = format!("`{}` is a group of regions, and a server is in one of them", cluster.region);
            Check::failed("region", found, format!("name one of {}", regions.join(", ")))
        }
        Err(StoreError::NotFound { .. }) => Check::passed("region", format!("region `{}`", cluster.region)),
        Err(error) => return Err(error.into()),
    });
    let is_catalog = store.system_identifier().await? == inspection.system_identifier;
    checks.push(match (is_catalog, control.config().place_on_catalog_server) {
        (false, _) => Check::passed("catalog", "the catalog is on another server"),
        (true, true) => Check::warning(
            "catalog",
            "the server holds the catalog too",
            "in production give the catalog a server of its own: tenants share its connections, disk and fate",
        ),
        (true, false) => Check::warning(
            "catalog",
            "the server holds the catalog, so no tenants are placed on it",
            "register a server that does not",
        ),
    });
    let is_crowded = cluster.tenancy == Tenancy::Dedicated && !inspection.existing_user_databases.is_empty();
    checks.push(if is_crowded && !control.config().place_on_catalog_server {
        Check::failed(
            "tenancy",
            format!(
                "a dedicated cluster must be empty, but the server has the databases {}",
                inspection.existing_user_databases.join(", ")
            ),
            "drop them or register it as shared",
        )
    } else {
        Check::passed("tenancy", format!("{} databases of others", inspection.existing_user_databases.len()))
    });
    Ok(checks)
}

/// A server that cannot be looked at fails one check; what may pass by itself is an error.
fn not_reached(error: FleetError) -> Result<Check, ControlError> {
    let advice = "mend it and try again; without --dry-run, nothing would be registered";
    match ControlError::from(error) {
        ControlError::InvalidRequest { reason, .. } | ControlError::Unavailable { reason, .. } => {
            Ok(Check::failed("connection", reason, advice))
        }
        error => Err(error),
    }
}

fn refuse_failed(checks: &[Check]) -> Result<(), ControlError> {
    let failed: Vec<&Check> = checks.iter().filter(|check| check.verdict == Verdict::Failed).collect();
    if failed.is_empty() {
        return Ok(());
    }
    if let Some(known) = failed.iter().find(|check| [NOT_REGISTERED, "name"].contains(&check.name.as_str())) {
        return Err(ControlError::Conflict { reason: known.sentence() });
    }
    let pointer = match failed[..] {
        [only] if only.name == "tenancy" => Some("/tenancy"),
        [only] if only.name == "region" => Some("/region"),
        _ => None,
    };
    let reasons: Vec<String> = failed.iter().map(|check| check.sentence()).collect();
    let reason = format!("the server cannot be used: {}", reasons.join("; "));
    Err(ControlError::InvalidRequest { reason, pointer })
}

/// Makes the fence and closes the server's doors; returns what could not be closed.
async fn prepare(
    control: &Control,
    target: &mut ClusterTarget,
    inspection: &Inspection,
) -> Result<Vec<String>, ControlError> {
    target.server_version = inspection.server_version;
    target.locale = inspection.locale.clone();
    Ok(control.fleet().prepare_cluster(target).await?)
}

fn target_of(cluster: &ClusterToRegister) -> ClusterTarget {
    ClusterTarget::unseen(
        cluster.id,
        cluster.endpoint.clone(),
        cluster.tls_mode,
        cluster.tls_ca.clone(),
        cluster.user.clone(),
        cluster.password.clone(),
        cluster.database.clone(),
    )
}

/// The first look at a server, before anything is on it.
fn looked_at(inspection: &Inspection, checks: Vec<Check>) -> ClusterLook {
    ClusterLook::Answered { observed: observation(inspection, 0, None), checks }
}

/// Figures of a server from a look at it, with its disk as it was last measured.
pub(crate) fn observation(
    inspection: &Inspection,
    disk_bytes: u64,
    disk_measured_at: Option<jiff::Timestamp>,
) -> ClusterObservation {
    ClusterObservation {
        server_version: inspection.server_version,
        in_recovery: inspection.in_recovery,
        connections_max: inspection.connections_max,
        connections_reserved: inspection.connections_reserved,
        connections_open: inspection.connections_open,
        databases: inspection.databases,
        disk_bytes,
        disk_measured_at,
        clock_ahead_ms: inspection.clock_ahead_ms,
    }
}

fn new_cluster(cluster: ClusterToRegister, inspection: Inspection, findings: Vec<String>) -> NewCluster {
    NewCluster {
        id: cluster.id,
        name: cluster.name,
        region: cluster.region,
        tenancy: cluster.tenancy,
        provider: cluster.provider,
        endpoint: cluster.endpoint,
        tls_mode: cluster.tls_mode,
        tls_ca: cluster.tls_ca,
        admin_user: cluster.user,
        admin_password: cluster.password,
        admin_database: cluster.database,
        system_identifier: inspection.system_identifier,
        server_version: inspection.server_version,
        locale: inspection.locale,
        limits: cluster.limits,
        findings,
        claimed_by: cluster.claimed_by,
    }
}
