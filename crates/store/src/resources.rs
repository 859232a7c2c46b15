//! The table `resource`: physical objects, recorded before they are created.

use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, HomeId, OperationId, ResourceId, TenantId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::row::{execute, get, query};
use crate::store::Store;
use crate::transaction::Tx;

/// What kind of object a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A role.
    Role,
    /// A database.
    Database,
    /// A schema in a database.
    Schema,
    /// A whole server that a provider started.
    Cluster,
}

impl ResourceKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::Database => "database",
            Self::Schema => "schema",
            Self::Cluster => "cluster",
        }
    }

    fn parse(text: &str) -> Result<Self, StoreError> {
        [Self::Role, Self::Database, Self::Schema, Self::Cluster]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| StoreError::internal(format!("`{text}` is no kind of resource")))
    }
}

/// Where a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceState {
    /// Recorded; it may exist.
    Planned,
    /// It exists.
    Created,
    /// It is gone.
    Dropped,
}

impl ResourceState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Created => "created",
            Self::Dropped => "dropped",
        }
    }
}

/// An object to be recorded as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewResource {
    /// Its id.
    pub id: ResourceId,
    /// Where.
    pub cluster: ClusterId,
    /// What.
    pub kind: ResourceKind,
    /// Its name there.
    pub name: String,
    /// For schemas: the database.
    pub parent: Option<String>,
}

/// A recorded object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its id.
    pub id: ResourceId,
    /// The home that it belongs to; absent for a cluster.
    pub home: Option<HomeId>,
    /// Who planned it.
    pub operation: OperationId,
    /// Where.
    pub cluster: ClusterId,
    /// What.
    pub kind: ResourceKind,
    /// Its name there.
    pub name: String,
    /// For schemas: the database.
    pub parent: Option<String>,
    /// Where it stands.
    pub state: ResourceState,
}

impl Store {
    /// What was recorded for a home and is not dropped, in the order of its making.
    pub async fn resources_of_home(&self, home: HomeId) -> Result<Vec<Resource>, StoreError> {
        let sql = "SELECT * FROM resource WHERE home = $1 AND state <> 'dropped' ORDER BY position";
        resources(&*self.client().await?, sql, home.as_uuid()).await
    }

    /// What was recorded for a tenant and is not dropped, in the order of its making: what its homes are made of, whoever
    /// made them, and servers of its own.
    pub async fn resources_of_tenant(&self, tenant: TenantId) -> Result<Vec<Resource>, StoreError> {
        let sql = "SELECT r.* FROM resource r JOIN home h ON h.id = r.home WHERE h.tenant = $1 AND r.state <> 'dropped'
                   UNION ALL
                   SELECT r.* FROM resource r JOIN operation o ON o.id = r.operation
                   WHERE o.tenant = $1 AND r.home IS NULL AND r.state <> 'dropped'
                   ORDER BY position";
        resources(&*self.client().await?, sql, tenant.as_uuid()).await
    }
}

impl Tx {
    /// Records objects as planned.
    pub async fn insert_resources(
        &self,
        operation: OperationId,
        home: Option<HomeId>,
        resources: &[NewResource],
    ) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = resources.iter().map(|it| it.id.as_uuid()).collect();
        let clusters: Vec<Uuid> = resources.iter().map(|it| it.cluster.as_uuid()).collect();
        let kinds: Vec<&str> = resources.iter().map(|it| it.kind.as_str()).collect();
        let names: Vec<&str> = resources.iter().map(|it| it.name.as_str()).collect();
        let parents: Vec<Option<&str>> = resources.iter().map(|it| it.parent.as_deref()).collect();
        execute(
            self.client()?,
            "INSERT INTO resource (id, home, operation, cluster, kind, name, parent, is_adopted)
             SELECT id, $2, $1, cluster, kind, name, parent,
                    kind IN ('database', 'schema') AND EXISTS (SELECT FROM home WHERE home.id = $2 AND home.is_adopted)
             FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[])
                  WITH ORDINALITY AS new (id, cluster, kind, name, parent, position)
             ORDER BY position",
            &[&operation.as_uuid(), &home.map(HomeId::as_uuid), &ids, &clusters, &kinds, &names, &parents],
        )
        .await?;
        Ok(())
    }

    /// Everything that was planned for the home is there.
    pub async fn resources_of_home_created(&self, home: HomeId) -> Result<(), StoreError> {
        let sql = "UPDATE resource SET state = 'created', updated_at = clock_timestamp()
                   WHERE home = $1 AND state = 'planned'";
        execute(self.client()?, sql, &[&home.as_uuid()]).await?;
        Ok(())
    }

    /// A server that was planned is there.
    pub async fn cluster_resource_created(&self, cluster: ClusterId) -> Result<(), StoreError> {
        let sql = "UPDATE resource SET state = 'created', updated_at = clock_timestamp()
                   WHERE cluster = $1 AND kind = 'cluster' AND state = 'planned'";
        execute(self.client()?, sql, &[&cluster.as_uuid()]).await?;
        Ok(())
    }

    /// These objects are gone.
    pub async fn resource_dropped(&self, ids: &[ResourceId]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let sql = "UPDATE resource SET state = 'dropped', updated_at = clock_timestamp() WHERE id = ANY ($1)";
        execute(self.client()?, sql, &[&ids]).await?;
        Ok(())
    }
}

async fn resources(client: &Connection, sql: &str, id: Uuid) -> Result<Vec<Resource>, StoreError> {
    query(client, sql, &[&id]).await?.iter().map(read_resource).collect()
}

fn read_resource(row: &Row) -> Result<Resource, StoreError> {
    Ok(Resource {
        id: ResourceId::new(get(row, "id")?),
        home: get::<Option<Uuid>>(row, "home")?.map(HomeId::new),
        operation: OperationId::new(get(row, "operation")?),
        cluster: ClusterId::new(get(row, "cluster")?),
        kind: ResourceKind::parse(get(row, "kind")?)?,
        name: get(row, "name")?,
        parent: get(row, "parent")?,
        state: match get::<&str>(row, "state")? {
            "planned" => ResourceState::Planned,
            "created" => ResourceState::Created,
            _ => ResourceState::Dropped,
        },
    })
}
