//! Adopting databases and schemas that were made elsewhere, as admins ask for it.
//!
//! An adoption copies nothing. Once its operation is through, the tenant is served over roles of its own, and everybody
//! who had rights before still has them: the application moves over at its own pace. Then a person decides: confirming
//! takes the old rights for good, cancelling puts everything back and leaves no tenant. Until that is decided nothing of
//! the tenant can be deleted, because it may be somebody else's again.

mod preflight;

use serde_json::{Value, json};
use tenantry_domain::{
    Access, Affinity, Cluster, ClusterState, DatabaseName, DisplayName, EventKind, Generation, Home, HomeId, HomeNames,
    Isolation, Labels, LoginSlot, OperationId, OperationKind, Overrides, PlanName, ResourceId, RouteState, SchemaName,
    SchemaVersion, Scope, Slug, Tenancy, Tenant, TenantId, TenantState, TenantStatus,
};
use tenantry_migration_set::MigrationSet;
use tenantry_store::{
    Adoption, AdoptionState, AuditEntry, ClusterRef, HomeSecrets, NewEvent, NewHome, NewOperation, NewResource,
    NewTenant, Operation, ResourceKind, TenantRef, Tx,
};

use crate::caller::Caller;
use crate::control::{Control, new_id};
use crate::engine::Kind;
use crate::error::ControlError;
use crate::migration_sets;
use crate::operations::adopt::{Adopt, AdoptProgress};
use crate::operations::adopt_cancel::AdoptCancel;
use crate::operations::adopt_confirm::AdoptConfirm;
use crate::operations::cluster_target::target_of;
use crate::tenants;
use preflight::Candidate;

pub use preflight::{AdoptionFinding, Severity};

/// The wish to make something that is there a tenant's.
#[derive(Debug, Clone)]
pub struct AdoptTenant {
    /// The tenant's name in URLs and hosts.
    pub slug: Slug,
    /// Its name for people; absent means the slug.
    pub name: Option<DisplayName>,
    /// Its plan; absent means the default one.
    pub plan: Option<PlanName>,
    /// The tenant above it.
    pub parent: Option<TenantRef>,
    /// Marks for selecting.
    pub labels: Labels,
    /// The cluster that the database is on.
    pub cluster: ClusterRef,
    /// The database.
    pub database: DatabaseName,
    /// The schema, if only that becomes the tenant's.
    pub schema: Option<SchemaName>,
    /// The version of the promoted set that the schema is at. Needless where a history is there.
    pub baseline_version: Option<SchemaVersion>,
}

/// What an adoption would find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptionReport {
    /// Everything worth knowing, blockers first.
    pub findings: Vec<AdoptionFinding>,
    /// What the tenant would have to itself.
    pub isolation: Isolation,
    /// Objects that would change their owner.
    pub objects: i64,
    /// Bytes on disk, of the whole database.
    pub size_bytes: i64,
    /// The version that the history would begin at.
    pub schema_version: SchemaVersion,
    /// The version of the promoted set, to which a rollout would bring it.
    pub latest_version: Option<SchemaVersion>,
}

impl AdoptionReport {
    /// Whether nothing stands in the way.
    pub fn is_possible(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity != Severity::Blocker)
    }

    /// What stands in the way, if anything does.
    pub(crate) fn refuse(&self) -> Result<(), ControlError> {
        let findings: Vec<AdoptionFinding> =
            self.findings.iter().filter(|it| it.severity == Severity::Blocker).cloned().collect();
        if findings.is_empty() { Ok(()) } else { Err(ControlError::AdoptionRefused { findings }) }
    }
}

/// What would be adopted, and where.
pub(crate) struct Subject<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) database: &'a DatabaseName,
    pub(crate) schema: Option<&'a SchemaName>,
    pub(crate) baseline: Option<SchemaVersion>,
    /// The home that was recorded for it already, which does not stand in its own way.
    pub(crate) is_recorded: bool,
}

/// Looks at what an adoption would take over. Changes nothing.
pub async fn preview(control: &Control, caller: &Caller, wish: &AdoptTenant) -> Result<AdoptionReport, ControlError> {
    require(caller)?;
    tenants::check_slug(&wish.slug)?;
    let cluster = cluster_of(control, &wish.cluster).await?;
    inspect(control, &subject(&cluster, wish)).await
}

/// Records the tenant, and begins to hand the database or schema to roles of its own. Everything that stands in the way
/// is told at once.
pub async fn begin(control: &Control, caller: &Caller, wish: AdoptTenant) -> Result<(Tenant, Operation), ControlError> {
    require(caller)?;
    tenants::check_slug(&wish.slug)?;
    let cluster = cluster_of(control, &wish.cluster).await?;
    inspect(control, &subject(&cluster, &wish)).await?.refuse()?;
    let mut tx = control.store().begin().await?;
    let plan = tenants::named_plan(&tx, wish.plan.clone()).await?;
    let parent = match &wish.parent {
        Some(parent) => Some(tenants::hierarchy::check_parent(&tx, None, parent).await?),
        None => None,
    };
    let name = match wish.name.clone() {
        Some(name) => name,
        None => DisplayName::parse(wish.slug.as_str())?,
    };
    let (id, operation) = (TenantId::new(new_id()), OperationId::new(new_id()));
    let isolation = isolation_of(wish.schema.as_ref());
    tx.insert_tenant(&NewTenant {
        id,
        slug: wish.slug.clone(),
        name,
        plan: plan.name.clone(),
        region: cluster.region.clone(),
        isolation,
        parent,
        labels: wish.labels.clone(),
        overrides: Overrides::default(),
        affinity: Affinity::default(),
        trial_ends_at: None,
        operation,
    })
    .await?;
    let home = HomeId::new(new_id());
    let progress = AdoptProgress { home, schema_version: SchemaVersion::default(), before: None };
    tx.insert_operation(&NewOperation {
        id: operation,
        kind: OperationKind::Adopt,
        tenant: Some(id),
        cluster: Some(cluster.id),
        input: json!({ "database": wish.database, "schema": wish.schema, "baseline_version": wish.baseline_version }),
        progress: serde_json::to_value(&progress).map_err(ControlError::internal)?,
        idempotency_key: None,
        code_version: Adopt::CODE_VERSION,
    })
    .await?;
    record_home(&mut tx, (id, plan.limits.connections.unwrap_or(0)), home, &cluster, &wish, operation).await?;
    tx.insert_adoption(id, home, operation).await?;
    let tenant = tx.tenant(&TenantRef::Id(id)).await?;
    let after = json!({
        "slug": tenant.slug, "plan": tenant.plan, "cluster": cluster.id, "database": wish.database,
        "schema": wish.schema, "baseline_version": wish.baseline_version,
    });
    audit(&mut tx, caller, "tenant.adopt", id, operation, None, Some(after)).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantCreated, id).by(operation)).await?;
    tx.publish_route(id, RouteState::Provisioning, Generation::default(), None).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    Ok((tenant, control.store().operation(operation).await?))
}

/// Makes an adoption final: whoever had rights before loses them, and their sessions end. From here on the tenant is like
/// any other.
pub async fn confirm(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
) -> Result<(Tenant, Operation), ControlError> {
    require(caller)?;
    let mut tx = control.store().begin().await?;
    let (before, _) = open_adoption(&mut tx, caller, tenant).await?;
    if !matches!(before.state.status(), TenantStatus::Active | TenantStatus::Suspended) {
        return Err(ControlError::InvalidState {
            reason: format!(
                "tenant `{}` is {}; only an adopted one can be confirmed",
                before.slug,
                before.state.status()
            ),
        });
    }
    let operation = OperationId::new(new_id());
    decide::<AdoptConfirm>(&mut tx, &before, OperationKind::AdoptConfirm, operation).await?;
    let adoption = |state: &str| Some(json!({ "slug": before.slug, "adoption": state }));
    audit(&mut tx, caller, "tenant.adopt_confirm", before.id, operation, adoption("open"), adoption("confirmed"))
        .await?;
    tx.commit().await?;
    control.signals().wake_operations();
    Ok((before, control.store().operation(operation).await?))
}

/// Shuts the tenant out, puts owners and rights back as they were before the adoption, and leaves no tenant. What the
/// tenant has written meanwhile stays in the database.
pub async fn cancel(
    control: &Control,
    caller: &Caller,
    tenant: &TenantRef,
    reason: Option<&str>,
) -> Result<(Tenant, Operation), ControlError> {
    require(caller)?;
    let mut tx = control.store().begin().await?;
    let (before, _) = open_adoption(&mut tx, caller, tenant).await?;
    let status = before.state.status();
    if !matches!(status, TenantStatus::Active | TenantStatus::Suspended | TenantStatus::Failed) {
        let advice =
            if status == TenantStatus::Provisioning { "cancel its operation" } else { "wait until that is done" };
        return Err(ControlError::InvalidState { reason: format!("tenant `{}` is {status}; {advice}", before.slug) });
    }
    let operation = OperationId::new(new_id());
    tx.set_tenant_state(before.id, &TenantState::Deleting { operation, grace: None }).await?;
    decide::<AdoptCancel>(&mut tx, &before, OperationKind::AdoptCancel, operation).await?;
    let was = Some(json!({ "slug": before.slug, "status": status, "adoption": "open" }));
    let after = json!({
        "slug": before.slug, "status": TenantStatus::Deleting, "adoption": "cancelled", "reason": reason,
    });
    audit(&mut tx, caller, "tenant.adopt_cancel", before.id, operation, was, Some(after)).await?;
    tx.emit(&NewEvent::of_tenant(EventKind::TenantDeleting, before.id).by(operation)).await?;
    tx.remove_route(before.id).await?;
    tx.commit().await?;
    control.signals().wake_operations();
    let store = control.store();
    let named = TenantRef::Id(before.id);
    Ok(tokio::try_join!(store.tenant(&named), store.operation(operation))?)
}

/// Whoever adopts changes what others own on a cluster, so a right to tenants alone is not enough.
fn require(caller: &Caller) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Tenants(Access::Write))?;
    caller.require_fleet_wide(Scope::Clusters(Access::Write))
}

async fn cluster_of(control: &Control, named: &ClusterRef) -> Result<Cluster, ControlError> {
    let cluster = match control.store().cluster(named).await {
        Ok(cluster) => cluster,
        Err(error) => return Err(tenants::unknown(error, "/cluster", "cluster", &named.to_string())),
    };
    if cluster.tenancy == Tenancy::Dedicated {
        return Err(ControlError::invalid(
            "/cluster",
            "the cluster is dedicated to one tenant; adopt databases on shared clusters only",
        ));
    }
    if cluster.state == ClusterState::Draining {
        return Err(ControlError::InvalidState {
            reason: format!("cluster `{}` is draining and takes no tenant", cluster.name),
        });
    }
    Ok(cluster)
}

fn subject<'a>(cluster: &'a Cluster, wish: &'a AdoptTenant) -> Subject<'a> {
    Subject {
        cluster,
        database: &wish.database,
        schema: wish.schema.as_ref(),
        baseline: wish.baseline_version,
        is_recorded: false,
    }
}

/// Looks at the cluster and judges what is there.
pub(crate) async fn inspect(control: &Control, subject: &Subject<'_>) -> Result<AdoptionReport, ControlError> {
    let store = control.store();
    let Subject { cluster, database, schema, .. } = *subject;
    let access = store.cluster_access(cluster.id).await?;
    let homes = store.homes_in_database(cluster.id, database).await?;
    let set = promoted_set(control).await?;
    let is_of_catalog = control.keep_off() == Some(access.system_identifier.as_str());
    let target = target_of(access);
    let survey = control.fleet().survey(&target, database, schema).await?;
    let collides = homes.iter().any(|home| {
        let is_apart = home.is_adopted && home.isolation == Isolation::Schema && schema.is_some();
        !is_apart || schema == Some(&home.schema)
    });
    let candidate = Candidate {
        database,
        schema,
        survey: &survey,
        admin_database: &target.admin_database,
        encoding: &cluster.locale.encoding,
        server_version: target.server_version,
        has_our_interior: homes.iter().any(|home| home.is_adopted),
        is_a_home: collides && !subject.is_recorded,
        set: set.as_deref(),
        baseline: subject.baseline,
    };
    let (mut findings, schema_version) = preflight::judge(&candidate);
    if is_of_catalog {
        findings.insert(
            0,
            AdoptionFinding {
                severity: Severity::Blocker,
                code: "server_of_the_catalog",
                message: "the server holds the control plane's own catalog".to_owned(),
                advice: "move the database to another server first".to_owned(),
            },
        );
    }
    Ok(AdoptionReport {
        findings,
        isolation: isolation_of(schema),
        objects: survey.objects,
        size_bytes: survey.size_bytes,
        schema_version,
        latest_version: set.map(|set| set.latest_version()),
    })
}

async fn promoted_set(control: &Control) -> Result<Option<std::sync::Arc<MigrationSet>>, ControlError> {
    let promoted = control.store().promoted().await?;
    match promoted {
        Some(promoted) => Ok(Some(migration_sets::load(control, &promoted.id).await?)),
        None => Ok(None),
    }
}

fn isolation_of(schema: Option<&SchemaName>) -> Isolation {
    if schema.is_some() { Isolation::Schema } else { Isolation::Database }
}

/// Records the home with its roles, all of them planned. The database or schema is not recorded as a resource before the
/// adoption is confirmed: what is recorded may be dropped.
async fn record_home(
    tx: &mut Tx,
    (tenant, connections): (TenantId, u32),
    home: HomeId,
    cluster: &Cluster,
    wish: &AdoptTenant,
    operation: OperationId,
) -> Result<(), ControlError> {
    let migration_set = tx.promoted_id().await?;
    let resources = HomeNames::of(home).all().map(|role| NewResource {
        id: ResourceId::new(new_id()),
        cluster: cluster.id,
        kind: ResourceKind::Role,
        name: role.as_str().to_owned(),
        parent: None,
    });
    tx.insert_home(&NewHome {
        home: Home {
            id: home,
            cluster: cluster.id,
            isolation: isolation_of(wish.schema.as_ref()),
            database: wish.database.clone(),
            schema: wish.schema.clone().unwrap_or_else(SchemaName::public),
        },
        login: LoginSlot::A,
        secrets: HomeSecrets {
            login: tenantry_fleet::random_password(),
            read_only: tenantry_fleet::random_password(),
            migrator: tenantry_fleet::random_password(),
        },
        shared_database: None,
        migration_set,
        resources: resources.into(),
        connections,
        tenant: Some(tenant),
        operation,
    })
    .await?;
    Ok(())
}

async fn open_adoption(tx: &mut Tx, caller: &Caller, named: &TenantRef) -> Result<(Tenant, Adoption), ControlError> {
    let tenant = tenants::visible(caller, named, tx.lock_tenant(named).await?)?;
    match tx.lock_adoption(tenant.id).await? {
        Some(adoption) if adoption.state == AdoptionState::Open => Ok((tenant, adoption)),
        Some(adoption) => Err(ControlError::InvalidState {
            reason: format!("the adoption of tenant `{}` is {} already", tenant.slug, adoption.state.as_str()),
        }),
        None => Err(ControlError::InvalidState {
            reason: format!("tenant `{}` was not adopted; there is nothing to decide", tenant.slug),
        }),
    }
}

async fn decide<K: Kind>(
    tx: &mut Tx,
    tenant: &Tenant,
    kind: OperationKind,
    operation: OperationId,
) -> Result<(), ControlError> {
    tx.insert_operation(&NewOperation {
        id: operation,
        kind,
        tenant: Some(tenant.id),
        cluster: tenant.state.placement().map(|placement| placement.home.cluster),
        input: json!({}),
        progress: json!({}),
        idempotency_key: None,
        code_version: K::CODE_VERSION,
    })
    .await?;
    Ok(())
}

async fn audit(
    tx: &mut Tx,
    caller: &Caller,
    action: &str,
    tenant: TenantId,
    operation: OperationId,
    before: Option<Value>,
    after: Option<Value>,
) -> Result<(), ControlError> {
    let (target, operation) = (format!("tenant/{tenant}"), Some(operation));
    tx.audit(&AuditEntry { tenant: Some(tenant), operation, before, after, ..caller.does(action, target) }).await?;
    Ok(())
}
