//! Choosing and recording a home before anything of it exists.

use serde::{Deserialize, Serialize};
use tenantry_domain::{
    ClusterId, DatabaseName, Home, HomeId, HomeNames, Isolation, LoginSlot, OperationId, ProviderKind, ResourceId,
    SchemaName, SchemaVersion, Tenant, TenantId,
};
use tenantry_store::{ClusterRef, HomeSecrets, NewHome, NewResource, ResourceKind, Tx};

use crate::control::{Control, new_id};
use crate::error::ControlError;
use crate::placement::{self, Wish};
use crate::provider::candidates;

/// What a provision remembers from step to step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProvisionProgress {
    /// The home, once reserved.
    pub(crate) home: Option<HomeId>,
    /// For isolation `cluster`: who brings the server, and the id that it gets if it is a new one.
    pub(crate) own_cluster: Option<OwnCluster>,
    /// The version that the home's schema was brought to.
    pub(crate) schema_version: SchemaVersion,
    /// Whether the home was made beforehand and is only to be handed over.
    #[serde(default)]
    pub(crate) is_warm: bool,
}

impl ProvisionProgress {
    fn at(home: HomeId) -> Self {
        Self { home: Some(home), own_cluster: None, schema_version: SchemaVersion::default(), is_warm: false }
    }
}

/// The wish for a server of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnCluster {
    pub(crate) provider: ProviderKind,
    pub(crate) cluster: ClusterId,
    pub(crate) pin: Option<ClusterId>,
}

/// Reserves a home for the tenant inside the caller's transaction, or says why none can be had.
///
/// For `schema` and `database` the cluster is chosen and the home recorded here. For `cluster` only the provider is
/// chosen: the home is recorded once the server is there.
pub(crate) async fn reserve(
    control: &Control,
    tx: &mut Tx,
    tenant: &Tenant,
    pin: Option<ClusterId>,
    operation: OperationId,
) -> Result<ProvisionProgress, ControlError> {
    if let Some(pin) = pin {
        check_residency(tx, tenant, pin).await?;
    }
    match tenant.isolation {
        Isolation::Row => Err(ControlError::invalid(
            "/isolation",
            "isolation `row` cannot be provisioned yet; use schema, database or cluster",
        )),
        Isolation::Cluster => reserve_cluster(control, tx, tenant, pin, operation).await,
        Isolation::Schema | Isolation::Database => {
            let cluster = choose_cluster(control, tx, tenant, pin).await?;
            if tenant.isolation == Isolation::Database
                && let Some(claimed) = claim_warm_home(tx, tenant.id, cluster).await?
            {
                return Ok(claimed);
            }
            Ok(ProvisionProgress::at(record_home(tx, tenant, cluster, operation).await?))
        }
    }
}

/// A cluster asked for by name may not take the data elsewhere.
async fn check_residency(tx: &Tx, tenant: &Tenant, pin: ClusterId) -> Result<(), ControlError> {
    let pinned = tx.cluster(&ClusterRef::Id(pin)).await?;
    if pinned.region == tenant.region {
        return Ok(());
    }
    Err(ControlError::ResidencyViolation {
        reason: format!(
            "cluster `{}` is in region `{}`, but the tenant's data must be in `{}`; name another cluster or region",
            pinned.name, pinned.region, tenant.region
        ),
    })
}

async fn choose_cluster(
    control: &Control,
    tx: &mut Tx,
    tenant: &Tenant,
    pin: Option<ClusterId>,
) -> Result<ClusterId, ControlError> {
    let candidates = candidates(tx, control.keep_off()).await?;
    let wish = Wish { region: tenant.region.clone(), isolation: tenant.isolation, pin };
    let decision = placement::choose(&wish, &candidates);
    decision.chosen.ok_or_else(|| ControlError::NoCapacity { reason: decision.explain() })
}

async fn reserve_cluster(
    control: &Control,
    tx: &mut Tx,
    tenant: &Tenant,
    pin: Option<ClusterId>,
    operation: OperationId,
) -> Result<ProvisionProgress, ControlError> {
    let mut refusals = Vec::new();
    for provider in control.providers() {
        match provider.offers(&tenant.region, pin).await? {
            Ok(()) => {
                let cluster = ClusterId::new(new_id());
                if provider.kind() == ProviderKind::Local {
                    let resource = NewResource {
                        id: ResourceId::new(new_id()),
                        cluster,
                        kind: ResourceKind::Cluster,
                        name: cluster.to_string(),
                        parent: None,
                    };
                    tx.insert_resources(operation, None, &[resource]).await?;
                }
                let own_cluster = Some(OwnCluster { provider: provider.kind(), cluster, pin });
                let schema_version = SchemaVersion::default();
                return Ok(ProvisionProgress { home: None, own_cluster, schema_version, is_warm: false });
            }
            Err(refusal) => refusals.push(refusal),
        }
    }
    let reason = if refusals.is_empty() {
        "no provider of whole clusters is configured".to_owned()
    } else {
        refusals.join("; ")
    };
    Err(ControlError::NoCapacity { reason })
}

/// Takes a home that was made beforehand, if one of the set that new tenants start with is there. Two requests never get
/// the same, and neither waits for the other.
async fn claim_warm_home(
    tx: &mut Tx,
    tenant: TenantId,
    cluster: ClusterId,
) -> Result<Option<ProvisionProgress>, ControlError> {
    let migration_set = tx.promoted().await?.map(|set| set.id);
    let claimed = tx.claim_warm_home(cluster, migration_set.as_ref(), tenant).await?;
    let outcome = if claimed.is_some() { "claimed" } else { "none" };
    metrics::counter!("tenantry_warm_home_claims_total", "outcome" => outcome).increment(1);
    Ok(claimed.map(|claimed| ProvisionProgress {
        schema_version: claimed.schema_version,
        is_warm: true,
        ..ProvisionProgress::at(claimed.home)
    }))
}

/// Records a home for the tenant on the cluster with everything that will be made for it, all of it planned.
pub(crate) async fn record_home(
    tx: &mut Tx,
    tenant: &Tenant,
    cluster: ClusterId,
    operation: OperationId,
) -> Result<HomeId, ControlError> {
    let id = HomeId::new(new_id());
    record_home_for(tx, id, Some(tenant.id), tenant.isolation, cluster, operation).await?;
    Ok(id)
}

/// The same for a home whose tenant is not known yet.
pub(crate) async fn record_home_for(
    tx: &mut Tx,
    id: HomeId,
    tenant: Option<TenantId>,
    isolation: Isolation,
    cluster: ClusterId,
    operation: OperationId,
) -> Result<(), ControlError> {
    let migration_set = tx.promoted().await?.map(|set| set.id);
    let shared = match isolation {
        Isolation::Schema => Some(tx.ensure_shared_database(cluster, new_id()).await?),
        Isolation::Row | Isolation::Database | Isolation::Cluster => None,
    };
    let home = match &shared {
        Some(shared) => Home { id, cluster, isolation, database: shared.name.clone(), schema: SchemaName::of_home(id) },
        None => Home { id, cluster, isolation, database: DatabaseName::of_home(id), schema: SchemaName::public() },
    };
    let resource = |kind, name: &str, parent: Option<String>| NewResource {
        id: ResourceId::new(new_id()),
        cluster,
        kind,
        name: name.to_owned(),
        parent,
    };
    let mut resources: Vec<NewResource> =
        HomeNames::of(id).all().into_iter().map(|role| resource(ResourceKind::Role, role.as_str(), None)).collect();
    resources.push(match &shared {
        Some(shared) => resource(ResourceKind::Schema, home.schema.as_str(), Some(shared.name.as_str().to_owned())),
        None => resource(ResourceKind::Database, home.database.as_str(), None),
    });
    tx.insert_home(&NewHome {
        home,
        login: LoginSlot::A,
        secrets: HomeSecrets {
            login: tenantry_fleet::random_password(),
            read_only: tenantry_fleet::random_password(),
            migrator: tenantry_fleet::random_password(),
        },
        shared_database: shared.map(|shared| shared.id),
        migration_set,
        resources,
        tenant,
        operation,
    })
    .await?;
    Ok(())
}
