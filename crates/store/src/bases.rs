//! The tables `shared_database` and `template`: what homes are made from.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{ClusterId, DatabaseName, HomeId, MigrationSetId, SchemaVersion};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::row::{execute, get, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// How long a reference may be in the making.
pub const SCRATCH_KEPT: Duration = Duration::from_hours(1);

/// Where a thing that homes are made from stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseState {
    /// Recorded, perhaps not there yet.
    Planned,
    /// There.
    Ready,
}

/// A database that `schema` homes share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedDatabase {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: DatabaseName,
    /// Where it stands.
    pub state: BaseState,
}

/// A golden template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: DatabaseName,
    /// The version of its schema, once ready.
    pub schema_version: SchemaVersion,
    /// Where it stands.
    pub state: BaseState,
}

/// A template that nothing needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredTemplate {
    /// Its id.
    pub id: Uuid,
    /// Where.
    pub cluster: ClusterId,
    /// Its name.
    pub name: DatabaseName,
    /// Since when nothing needs it.
    pub retired_at: Timestamp,
}

impl Store {
    /// The template of a cluster for a set (or for none), if it is recorded.
    pub async fn template(
        &self,
        cluster: ClusterId,
        set: Option<&MigrationSetId>,
    ) -> Result<Option<Template>, StoreError> {
        template(&*self.client().await?, cluster, set).await
    }

    /// Some of the retired templates, at most `limit`. In no order, so that those that cannot be dropped hold up no others.
    pub async fn retired_templates(&self, limit: i64) -> Result<Vec<RetiredTemplate>, StoreError> {
        let sql =
            "SELECT id, cluster, name, retired_at FROM template WHERE state = 'retired' ORDER BY random() LIMIT $1";
        let rows = query(&*self.client().await?, sql, &[&limit]).await?;
        rows.iter()
            .map(|row| {
                Ok(RetiredTemplate {
                    id: get(row, "id")?,
                    cluster: ClusterId::new(get(row, "cluster")?),
                    name: DatabaseName::parse(get(row, "name")?).map_err(StoreError::internal)?,
                    retired_at: get(row, "retired_at")?,
                })
            })
            .collect()
    }

    /// Whether what the home is made from is there already: its cluster's template of its set, or its shared database.
    pub async fn has_base(&self, home: HomeId) -> Result<bool, StoreError> {
        has_base(&*self.client().await?, home).await
    }

    /// One shared database.
    pub async fn shared_database(&self, id: Uuid) -> Result<SharedDatabase, StoreError> {
        let row = query_opt(&*self.client().await?, "SELECT * FROM shared_database WHERE id = $1", &[&id]).await?;
        row.as_ref()
            .map(read_shared_database)
            .transpose()?
            .ok_or_else(|| StoreError::NotFound { what: "shared database", name: id.to_string() })
    }
}

impl Tx {
    /// The shared database of a cluster that has room for one more schema; a new one is recorded as planned where none
    /// has. Locks the cluster, so that two tenants never both take the last place.
    pub async fn ensure_shared_database(&self, cluster: ClusterId, new_id: Uuid) -> Result<SharedDatabase, StoreError> {
        let client = self.client()?;
        query_opt(client, "SELECT id FROM cluster WHERE id = $1 FOR NO KEY UPDATE", &[&cluster.as_uuid()]).await?;
        let open = query_opt(
            client,
            "SELECT s.* FROM shared_database s JOIN cluster c ON c.id = s.cluster
             WHERE s.cluster = $1 AND s.homes < (c.limits ->> 'schemas_per_database')::bigint
             ORDER BY s.created_at LIMIT 1",
            &[&cluster.as_uuid()],
        )
        .await?;
        let row = match open {
            Some(row) => row,
            None => {
                query_one(
                    client,
                    "INSERT INTO shared_database (id, cluster, name) VALUES ($1, $2, $3) RETURNING *",
                    &[&new_id, &cluster.as_uuid(), &DatabaseName::shared(new_id).as_str()],
                )
                .await?
            }
        };
        read_shared_database(&row)
    }

    /// The shared database is there.
    pub async fn shared_database_ready(&self, id: Uuid) -> Result<(), StoreError> {
        execute(self.client()?, "UPDATE shared_database SET state = 'ready' WHERE id = $1", &[&id]).await?;
        Ok(())
    }

    /// The template of a cluster for a set (or for none); recorded as planned where there is none.
    pub async fn ensure_template(
        &self,
        cluster: ClusterId,
        set: Option<&MigrationSetId>,
        new_id: Uuid,
    ) -> Result<Template, StoreError> {
        let client = self.client()?;
        execute(
            client,
            "INSERT INTO template (id, cluster, migration_set, name) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            &[&new_id, &cluster.as_uuid(), &set.map(MigrationSetId::as_str), &DatabaseName::template(new_id).as_str()],
        )
        .await?;
        template(client, cluster, set)
            .await?
            .ok_or_else(|| StoreError::internal("a template that was just recorded is not there"))
    }

    /// The template is there, at this version.
    pub async fn template_ready(&self, id: Uuid, version: SchemaVersion) -> Result<(), StoreError> {
        let sql = "UPDATE template SET state = 'ready', schema_version = $2 WHERE id = $1 AND state = 'planned'";
        execute(self.client()?, sql, &[&id, &version.0]).await?;
        Ok(())
    }

    /// Records a database in which a reference will be made, before it exists. Whoever makes it retires it afterwards.
    pub async fn plan_scratch(&self, cluster: ClusterId, new_id: Uuid) -> Result<DatabaseName, StoreError> {
        let name = DatabaseName::template(new_id);
        let sql = "INSERT INTO template (id, cluster, name, state) VALUES ($1, $2, $3, 'scratch')";
        execute(self.client()?, sql, &[&new_id, &cluster.as_uuid(), &name.as_str()]).await?;
        Ok(name)
    }

    /// The reference is made, or could not be: its database is to be dropped, as other retired templates are.
    pub async fn retire_scratch(&self, id: Uuid) -> Result<(), StoreError> {
        let sql = "UPDATE template SET state = 'retired', retired_at = now() WHERE id = $1 AND state = 'scratch'";
        execute(self.client()?, sql, &[&id]).await?;
        Ok(())
    }

    /// Retires, for good, every template that nothing needs: not of the set that new tenants start with (`promoted`, as
    /// this transaction has read it), and no home of its set is in the making on its cluster; and what whoever made a
    /// reference has left. Returns how many.
    pub async fn retire_templates(&self, promoted: Option<&MigrationSetId>) -> Result<u64, StoreError> {
        // New homes start with the promoted set, which stays promoted until this transaction ends: a set that no home is
        // in the making for now needs no template any more.
        execute(
            self.client()?,
            "UPDATE template t SET state = 'retired', retired_at = now()
              WHERE state IN ('planned', 'ready') AND migration_set IS DISTINCT FROM $1
                AND NOT EXISTS (SELECT FROM home h
                                 WHERE h.cluster = t.cluster AND h.state IN ('planned', 'claimed')
                                   AND h.isolation = 'database'
                                   AND h.migration_set IS NOT DISTINCT FROM t.migration_set)
                 OR state = 'scratch' AND created_at < now() - make_interval(secs => $2)",
            &[&promoted.map(MigrationSetId::as_str), &SCRATCH_KEPT.as_secs_f64()],
        )
        .await
    }

    /// Forgets a retired template whose database and roles are gone.
    pub async fn forget_template(&self, id: Uuid) -> Result<(), StoreError> {
        execute(self.client()?, "DELETE FROM template WHERE id = $1 AND state = 'retired'", &[&id]).await?;
        Ok(())
    }

    /// The databases on a cluster that belong to no tenant: templates and shared ones.
    pub async fn bases_of_cluster(&self, id: ClusterId) -> Result<Vec<DatabaseName>, StoreError> {
        let sql = "SELECT name FROM template WHERE cluster = $1 UNION ALL SELECT name FROM shared_database WHERE cluster = $1";
        let rows = query(self.client()?, sql, &[&id.as_uuid()]).await?;
        rows.iter().map(|row| DatabaseName::parse(get(row, "name")?).map_err(StoreError::internal)).collect()
    }
}

pub(crate) async fn has_base(client: &Connection, home: HomeId) -> Result<bool, StoreError> {
    let row = query_opt(
        client,
        "SELECT CASE isolation
                    WHEN 'database' THEN EXISTS (
                        SELECT FROM template t WHERE t.cluster = home.cluster AND t.state = 'ready'
                                                 AND t.migration_set IS NOT DISTINCT FROM home.migration_set)
                    WHEN 'schema' THEN EXISTS (
                        SELECT FROM shared_database s WHERE s.id = home.shared_database AND s.state = 'ready')
                    ELSE false END AS is_there
               FROM home WHERE id = $1",
        &[&home.as_uuid()],
    )
    .await?;
    row.map_or(Ok(false), |row| get(&row, "is_there"))
}

/// The template that a home is made from, if it is recorded.
pub(crate) async fn template_of(client: &Connection, home: HomeId) -> Result<Option<Template>, StoreError> {
    let sql = "SELECT t.* FROM home h JOIN template t ON t.cluster = h.cluster
                   AND t.migration_set IS NOT DISTINCT FROM h.migration_set AND t.state IN ('planned', 'ready')
                WHERE h.id = $1";
    query_opt(client, sql, &[&home.as_uuid()]).await?.as_ref().map(read_template).transpose()
}

async fn template(
    client: &Connection,
    cluster: ClusterId,
    set: Option<&MigrationSetId>,
) -> Result<Option<Template>, StoreError> {
    let sql = "SELECT * FROM template
               WHERE cluster = $1 AND migration_set IS NOT DISTINCT FROM $2 AND state IN ('planned', 'ready')";
    let row = query_opt(client, sql, &[&cluster.as_uuid(), &set.map(MigrationSetId::as_str)]).await?;
    row.as_ref().map(read_template).transpose()
}

fn read_template(row: &Row) -> Result<Template, StoreError> {
    Ok(Template {
        id: get(row, "id")?,
        name: DatabaseName::parse(get(row, "name")?).map_err(StoreError::internal)?,
        schema_version: SchemaVersion(get(row, "schema_version")?),
        state: read_base_state(row)?,
    })
}

fn read_shared_database(row: &Row) -> Result<SharedDatabase, StoreError> {
    Ok(SharedDatabase {
        id: get(row, "id")?,
        name: DatabaseName::parse(get(row, "name")?).map_err(StoreError::internal)?,
        state: read_base_state(row)?,
    })
}

fn read_base_state(row: &Row) -> Result<BaseState, StoreError> {
    Ok(if get::<&str>(row, "state")? == "ready" { BaseState::Ready } else { BaseState::Planned })
}
