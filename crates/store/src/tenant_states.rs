//! The columns of the table `tenant` that say where it stands, and who is due for another state.

use tenantry_domain::{
    Generation, Grace, Home, HomeId, Note, OperationId, Placement, SchemaVersion, Suspension, TenantId, TenantState,
    TenantStatus,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::homes::read_home;
use crate::row::{execute, get, parsed, query, time};
use crate::store::Store;
use crate::tenants::found;
use crate::transaction::Tx;

impl Store {
    /// Suspended tenants whose suspension is over and that nothing lets in yet, the longest overdue first.
    pub async fn suspensions_over(&self, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        let sql = "SELECT id FROM tenant WHERE status = 'suspended' AND suspended_until <= clock_timestamp()
                      AND NOT EXISTS (SELECT FROM operation WHERE operation.tenant = tenant.id AND kind = 'resume'
                                                              AND finished_at IS NULL)
                   ORDER BY suspended_until LIMIT $1";
        ids(&query(&*self.client().await?, sql, &[&limit]).await?)
    }

    /// Active tenants whose trial is over, the longest overdue first.
    pub async fn trials_over(&self, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        let sql = "SELECT id FROM tenant WHERE status = 'active' AND trial_ends_at <= clock_timestamp()
                   ORDER BY trial_ends_at LIMIT $1";
        ids(&query(&*self.client().await?, sql, &[&limit]).await?)
    }

    /// Everything below a tenant that is not deleted, oldest first; at most so many.
    pub async fn tenants_below(&self, tenant: TenantId, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        below(&*self.client().await?, tenant, limit).await
    }

    /// The tenants that were suspended as part of another's suspension and still are; at most so many.
    pub async fn suspended_with(&self, tenant: TenantId, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        let sql = "SELECT id FROM tenant WHERE suspended_with = $1 AND status = 'suspended' ORDER BY id LIMIT $2";
        ids(&query(&*self.client().await?, sql, &[&tenant.as_uuid(), &limit]).await?)
    }
}

impl Tx {
    /// Everything below a tenant that is not deleted, oldest first; at most so many.
    pub async fn tenants_below(&self, tenant: TenantId, limit: i64) -> Result<Vec<TenantId>, StoreError> {
        below(self.client()?, tenant, limit).await
    }

    /// Writes where a tenant stands now. Which state may follow which is a rule of the domain.
    pub async fn set_tenant_state(&self, id: TenantId, state: &TenantState) -> Result<(), StoreError> {
        let (operation, deleted_at) = match state {
            TenantState::Provisioning { operation }
            | TenantState::Moving { operation, .. }
            | TenantState::Deleting { operation, .. } => (Some(operation.as_uuid()), None),
            TenantState::Deleted { at } => (None, Some(*at)),
            TenantState::Active { .. } | TenantState::Suspended { .. } | TenantState::Failed { .. } => (None, None),
        };
        let suspension = state.suspension();
        let changed = execute(
            self.client()?,
            "UPDATE tenant SET status = $2, status_reason = $3, operation = $4, deleted_at = $5, deletes_at = $6,
                    suspended_for = $7, suspended_note = $8, suspended_by = $9, suspended_since = $10,
                    suspended_until = $11, suspended_with = $12, updated_at = clock_timestamp()
             WHERE id = $1",
            &[
                &id.as_uuid(),
                &state.status().as_str(),
                &state.reason(),
                &operation,
                &deleted_at,
                &state.grace().map(|grace| grace.ends_at),
                &suspension.map(|it| it.reason.as_str()),
                &suspension.and_then(|it| it.note.as_ref()).map(Note::as_str),
                &suspension.map(|it| it.by.as_str()),
                &suspension.map(|it| it.since),
                &suspension.and_then(|it| it.until),
                &suspension.and_then(|it| it.with).map(TenantId::as_uuid),
            ],
        )
        .await?;
        found(changed, id)?;
        if matches!(state, TenantState::Active { .. } | TenantState::Suspended { .. }) {
            // What changed while it could not be let into its pool.
            let sql = "UPDATE home SET pooling_due = true FROM placement p
                        WHERE p.home = home.id AND p.until IS NULL AND p.tenant = $1 AND shared_database IS NOT NULL";
            execute(self.client()?, sql, &[&id.as_uuid()]).await?;
        }
        Ok(())
    }

    /// Its home is being made, again.
    pub async fn set_tenant_provisioning(&self, id: TenantId, operation: OperationId) -> Result<(), StoreError> {
        self.set_tenant_state(id, &TenantState::Provisioning { operation }).await
    }

    /// Served from now on, in the home where it was placed before.
    pub async fn set_tenant_active(
        &self,
        id: TenantId,
        generation: Generation,
        version: SchemaVersion,
    ) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE tenant SET status = 'active', status_reason = NULL, operation = NULL, generation = $2,
                    schema_version = $3, updated_at = clock_timestamp(),
                    repeatables = coalesce((SELECT home.repeatables FROM placement JOIN home ON home.id = placement.home
                                             WHERE placement.tenant = $1 AND placement.until IS NULL), '')
             WHERE id = $1",
            &[&id.as_uuid(), &generation.0, &version.0],
        )
        .await?;
        found(changed, id)
    }

    /// The tenant and its home are at an earlier version from now on, whatever repeatable files they have; nobody brings it
    /// along but a rollout. Where it is at that version or below, nothing changes.
    pub async fn lower_version(
        &mut self,
        id: TenantId,
        home: HomeId,
        version: SchemaVersion,
    ) -> Result<(), StoreError> {
        let client = self.client()?;
        let (tenant, home) = (id.as_uuid(), home.as_uuid());
        execute(client, "DELETE FROM straggler WHERE tenant = $1", &[&tenant]).await?;
        let sql = "UPDATE home SET schema_version = $2, repeatables = '' WHERE id = $1 AND schema_version > $2";
        execute(client, sql, &[&home, &version.0]).await?;
        let sql = "UPDATE tenant SET schema_version = $2, repeatables = '', updated_at = clock_timestamp()
                    WHERE id = $1 AND schema_version > $2";
        execute(client, sql, &[&tenant, &version.0]).await?;
        self.touch_route(id).await
    }

    /// The home's own history tells a later version than the catalog.
    pub async fn raise_version(
        &mut self,
        id: TenantId,
        home: HomeId,
        version: SchemaVersion,
    ) -> Result<(), StoreError> {
        let client = self.client()?;
        let sql = "UPDATE home SET schema_version = $2 WHERE id = $1 AND schema_version < $2";
        execute(client, sql, &[&home.as_uuid(), &version.0]).await?;
        let sql = "UPDATE tenant SET schema_version = $2, updated_at = clock_timestamp()
                    WHERE id = $1 AND schema_version < $2";
        execute(client, sql, &[&id.as_uuid(), &version.0]).await?;
        self.touch_route(id).await
    }

    /// Its home could not be made, or its operation was given up.
    pub async fn set_tenant_failed(&self, id: TenantId, reason: &str) -> Result<(), StoreError> {
        self.set_tenant_state(id, &TenantState::Failed { reason: reason.to_owned() }).await
    }

    /// From now on its home is being taken down, and there is no way back.
    pub async fn end_grace(&self, id: TenantId) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE tenant SET deletes_at = NULL, suspended_for = NULL, suspended_note = NULL, suspended_by = NULL,
                    suspended_since = NULL, suspended_until = NULL, suspended_with = NULL,
                    updated_at = clock_timestamp()
             WHERE id = $1 AND status = 'deleting'",
            &[&id.as_uuid()],
        )
        .await?;
        found(changed, id)
    }

    /// Gone; the tombstone stays.
    pub async fn set_tenant_deleted(&self, id: TenantId) -> Result<(), StoreError> {
        let changed = execute(
            self.client()?,
            "UPDATE tenant SET status = 'deleted', status_reason = NULL, operation = NULL, deletes_at = NULL,
                    deleted_at = clock_timestamp(), updated_at = clock_timestamp()
             WHERE id = $1",
            &[&id.as_uuid()],
        )
        .await?;
        found(changed, id)?;
        execute(self.client()?, "DELETE FROM host WHERE tenant = $1", &[&id.as_uuid()]).await?;
        Ok(())
    }
}

async fn below(client: &Connection, tenant: TenantId, limit: i64) -> Result<Vec<TenantId>, StoreError> {
    let sql = "SELECT id FROM tenant WHERE id IN (SELECT tenants_below($1)) AND status <> 'deleted'
               ORDER BY id LIMIT $2";
    ids(&query(client, sql, &[&tenant.as_uuid(), &limit]).await?)
}

fn ids(rows: &[Row]) -> Result<Vec<TenantId>, StoreError> {
    rows.iter().map(|row| get(row, "id").map(TenantId::new)).collect()
}

/// Puts what a state needs inside the state. The table's constraints promise that it is there.
pub(crate) fn read_state(row: &Row, tenant: TenantId) -> Result<TenantState, StoreError> {
    let missing = |what: &str| StoreError::internal(format!("tenant {tenant} lacks its {what}"));
    let operation = || {
        let operation: Option<Uuid> = get(row, "operation")?;
        operation.map(OperationId::new).ok_or_else(|| missing("operation"))
    };
    let reason = || get::<Option<String>>(row, "status_reason")?.ok_or_else(|| missing("reason"));
    let home = || {
        let home: Home = match get::<Option<Uuid>>(row, "home_id")? {
            Some(id) => read_home(row, HomeId::new(id), "home_cluster", "home_isolation")?,
            None => return Err(missing("home")),
        };
        Ok(Placement { tenant, home, since: Generation(get(row, "placement_since")?) })
    };
    Ok(match parsed::<TenantStatus>(row, "status")? {
        TenantStatus::Provisioning => TenantState::Provisioning { operation: operation()? },
        TenantStatus::Active => TenantState::Active { home: home()? },
        TenantStatus::Suspended => {
            let suspension = read_suspension(row)?.ok_or_else(|| missing("suspension"))?;
            TenantState::Suspended { home: home()?, suspension }
        }
        TenantStatus::Moving => TenantState::Moving { from: home()?, operation: operation()? },
        TenantStatus::Deleting => {
            let grace = match get(row, "deletes_at")? {
                Some(ends_at) => Some(Grace { ends_at, home: home()?, suspension: read_suspension(row)? }),
                None => None,
            };
            TenantState::Deleting { operation: operation()?, grace }
        }
        TenantStatus::Deleted => TenantState::Deleted { at: time(row, "deleted_at")? },
        TenantStatus::Failed => TenantState::Failed { reason: reason()? },
    })
}

fn read_suspension(row: &Row) -> Result<Option<Suspension>, StoreError> {
    let Some(reason) = get::<Option<&str>>(row, "suspended_for")? else { return Ok(None) };
    let note = get::<Option<&str>>(row, "suspended_note")?;
    Ok(Some(Suspension {
        reason: reason.parse().map_err(StoreError::internal)?,
        note: note.map(str::parse).transpose().map_err(StoreError::internal)?,
        by: get(row, "suspended_by")?,
        since: time(row, "suspended_since")?,
        until: get(row, "suspended_until")?,
        with: get::<Option<Uuid>>(row, "suspended_with")?.map(TenantId::new),
    }))
}
