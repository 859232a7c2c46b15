//! Choosing and recording a home before anything of it exists.

use serde::{Deserialize, Serialize};
use tenantry_domain::{
    ClusterId, DatabaseName, Home, HomeId, HomeNames, Isolation, LoginSlot, MigrationSetId, OperationId, Plan,
    ProviderKind, ResourceId, SchemaName, SchemaVersion, Tenant, TenantId,
};
use tenantry_store::{HomeSecrets, NewHome, NewResource, ResourceKind, Tx};

use super::provision_site::Site;
use crate::candidates::{Choice, Newcomer, plan_home};
use crate::control::{Control, new_id};
use crate::error::ControlError;

/// What a provision remembers from step to step.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Whether the home's schema is that of its set already, because it is a clone.
    #[serde(default)]
    pub(crate) is_migrated: bool,
    /// Whether the tenant's connections are to be pooled with those of others.
    #[serde(default)]
    pub(crate) is_to_be_pooled: bool,
    /// Why the home is where it is, in the planner's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placed: Option<String>,
    /// What one step looked at for the next; not kept.
    #[serde(skip)]
    pub(crate) site: Option<Box<Site>>,
}

impl ProvisionProgress {
    fn at(home: HomeId) -> Self {
        Self {
            home: Some(home),
            own_cluster: None,
            schema_version: SchemaVersion::default(),
            is_warm: false,
            is_to_be_pooled: false,
            is_migrated: false,
            placed: None,
            site: None,
        }
    }
}

/// The wish for a server of the tenant's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnCluster {
    pub(crate) provider: ProviderKind,
    pub(crate) cluster: ClusterId,
    pub(crate) pin: Option<ClusterId>,
}

/// What was chosen for a tenant; a home that is new is still to be recorded.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) progress: ProvisionProgress,
    home: Option<NewHome>,
}

impl Reserved {
    /// Records the home with everything that will be made for it, all of it planned. Fails with
    /// [`ControlError::Outrun`] where somebody else has taken the last place meanwhile; a new attempt decides anew.
    pub(crate) async fn record(&self, tx: &Tx) -> Result<(), ControlError> {
        match &self.home {
            Some(home) => Ok(tx.insert_home(home).await?),
            None => Ok(()),
        }
    }
}

/// Chooses a home for the tenant inside the caller's transaction, or says why none can be had. Fails with
/// [`ControlError::Outrun`] where somebody else takes the last place in the same moment; a new attempt decides anew.
///
/// For `schema` and `database` the cluster is chosen here, and a home that waits there claimed. For `cluster` a registered
/// one is claimed, or the provider chosen that starts one: the home is recorded once the server is there.
pub(crate) async fn choose(
    control: &Control,
    tx: &mut Tx,
    tenant: &Tenant,
    plan: &Plan,
    pin: Option<ClusterId>,
    operation: OperationId,
) -> Result<Reserved, ControlError> {
    let (planned, migration_set) =
        futures::join!(plan_home(control, tx, Newcomer::of(tenant, plan), pin), tx.promoted_id());
    let (planned, migration_set) = (planned?, migration_set?);
    let connections = planned.wish.connections;
    let mut reserved = match planned.choice()? {
        choice if tenant.isolation == Isolation::Cluster => {
            Reserved { progress: reserve_cluster(tx, tenant.id, choice, pin, operation).await?, home: None }
        }
        Choice::Cluster(cluster) => {
            let claimed = if tenant.isolation == Isolation::Database {
                // Where none was seen there is nothing to ask for.
                let claimed = if planned.has_warm_homes(cluster) {
                    claim_warm_home(tx, tenant.id, cluster, migration_set.as_ref(), connections).await?
                } else {
                    None
                };
                let outcome = if claimed.is_some() { "claimed" } else { "none" };
                metrics::counter!("tenantry_warm_home_claims_total", "outcome" => outcome).increment(1);
                claimed
            } else {
                None
            };
            if let Some(progress) = claimed {
                Reserved { progress, home: None }
            } else {
                let id = HomeId::new(new_id());
                let owner = Some((tenant.id, connections.unwrap_or(0)));
                let home = new_home(tx, id, owner, tenant.isolation, cluster, migration_set, operation).await?;
                Reserved { progress: ProvisionProgress::at(id), home: Some(home) }
            }
        }
        Choice::Started(provider) => {
            return Err(ControlError::Conflict {
                reason: format!("provider `{provider}` starts clusters for isolation `cluster` only"),
            });
        }
    };
    reserved.progress.placed = Some(planned.explain());
    Ok(reserved)
}

/// A registered cluster is claimed; one that will be started is recorded as planned before it exists.
async fn reserve_cluster(
    tx: &Tx,
    tenant: TenantId,
    choice: Choice,
    pin: Option<ClusterId>,
    operation: OperationId,
) -> Result<ProvisionProgress, ControlError> {
    let cluster = ClusterId::new(new_id());
    let provider = match choice {
        Choice::Cluster(registered) => {
            if !tx.claim_cluster(registered, tenant).await? {
                return Err(ControlError::Outrun { limit: "tenants" });
            }
            ProviderKind::Registered
        }
        Choice::Started(provider) => {
            let resource = NewResource {
                id: ResourceId::new(new_id()),
                cluster,
                kind: ResourceKind::Cluster,
                name: cluster.to_string(),
                parent: None,
            };
            tx.insert_resources(operation, None, &[resource]).await?;
            provider
        }
    };
    let own_cluster = Some(OwnCluster { provider, cluster, pin });
    Ok(ProvisionProgress {
        home: None,
        own_cluster,
        schema_version: SchemaVersion::default(),
        is_warm: false,
        is_to_be_pooled: false,
        is_migrated: false,
        placed: None,
        site: None,
    })
}

/// Takes a home that was made beforehand, if one of the set that new tenants start with is there. Two requests never get
/// the same, and neither waits for the other.
async fn claim_warm_home(
    tx: &mut Tx,
    tenant: TenantId,
    cluster: ClusterId,
    migration_set: Option<&MigrationSetId>,
    connections: Option<u32>,
) -> Result<Option<ProvisionProgress>, ControlError> {
    let claimed = tx.claim_warm_home(cluster, migration_set, tenant).await?;
    if let Some(claimed) = &claimed {
        tx.set_home_connections(claimed.home, connections.unwrap_or(0)).await?;
    }
    Ok(claimed.map(|claimed| ProvisionProgress {
        schema_version: claimed.schema_version,
        is_warm: true,
        is_to_be_pooled: false,
        is_migrated: true,
        ..ProvisionProgress::at(claimed.home)
    }))
}

/// Records a home for the tenant on the cluster with everything that will be made for it, all of it planned.
/// `connections` is the tenant's ceiling, which the cluster counts.
pub(crate) async fn record_home(
    tx: &mut Tx,
    tenant: &Tenant,
    cluster: ClusterId,
    connections: Option<u32>,
    operation: OperationId,
) -> Result<HomeId, ControlError> {
    let id = HomeId::new(new_id());
    let owner = Some((tenant.id, connections.unwrap_or(0)));
    record_home_for(tx, id, owner, tenant.isolation, cluster, operation).await?;
    Ok(id)
}

/// The same for a home whose tenant, and so its ceiling, is perhaps not known yet.
pub(crate) async fn record_home_for(
    tx: &mut Tx,
    id: HomeId,
    tenant: Option<(TenantId, u32)>,
    isolation: Isolation,
    cluster: ClusterId,
    operation: OperationId,
) -> Result<(), ControlError> {
    let migration_set = tx.promoted_id().await?;
    let home = new_home(tx, id, tenant, isolation, cluster, migration_set, operation).await?;
    Ok(tx.insert_home(&home).await?)
}

/// A home and everything that it is made of. For `schema`, a shared database is found for it, or recorded.
async fn new_home(
    tx: &Tx,
    id: HomeId,
    tenant: Option<(TenantId, u32)>,
    isolation: Isolation,
    cluster: ClusterId,
    migration_set: Option<MigrationSetId>,
    operation: OperationId,
) -> Result<NewHome, ControlError> {
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
    Ok(NewHome {
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
        connections: tenant.map_or(0, |(_, connections)| connections),
        tenant: tenant.map(|(tenant, _)| tenant),
        operation,
    })
}
