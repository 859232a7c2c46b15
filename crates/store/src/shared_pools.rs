//! Whose connections are pooled with those of others in a shared database.

use tenantry_domain::{ClusterId, DatabaseName, HomeId, Secret, TenantId};
use uuid::Uuid;

use crate::error::StoreError;
use crate::keyring::KeyOwner;
use crate::row::{execute, get, query, query_opt};
use crate::secrets::{self, OpenKeys, insert_secrets, open_secret};
use crate::store::Store;
use crate::transaction::Tx;

/// The pool of a shared database, once it has ever had one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPool {
    /// The database.
    pub database: DatabaseName,
    /// The password of the pool's role.
    pub password: Secret,
}

impl Store {
    /// The pools of a cluster's shared databases, by name.
    pub async fn shared_pools(&self, cluster: ClusterId) -> Result<Vec<SharedPool>, StoreError> {
        let sql = format!(
            "SELECT s.name, {} FROM shared_database s JOIN sealed_secret pool ON pool.id = s.pool_secret
              WHERE s.cluster = $1 AND s.state = 'ready' ORDER BY s.name",
            secrets::columns("pool")
        );
        let rows = query(&*self.client().await?, &sql, &[&cluster.as_uuid()]).await?;
        let keys = OpenKeys::of(self.keyring(), &rows, &["pool"]).await?;
        let mut pools = Vec::new();
        for row in &rows {
            let database = DatabaseName::parse(get(row, "name")?).map_err(StoreError::internal)?;
            let password = open_secret(&keys, row, "pool")?
                .ok_or_else(|| StoreError::internal(format!("the pool of {database} lacks its secret")))?;
            pools.push(SharedPool { database, password });
        }
        Ok(pools)
    }

    /// Homes whose connections are to be pooled and are not, or the other way round, as far as no operation works on them.
    pub async fn homes_to_pool(&self, limit: i64) -> Result<Vec<HomeId>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT h.id
               FROM home h
               JOIN placement l ON l.home = h.id AND l.until IS NULL
               JOIN tenant t ON t.id = l.tenant
               JOIN plan p ON p.name = t.plan
              WHERE h.state = 'ready' AND h.isolation = 'schema' AND NOT h.is_adopted AND h.shared_database IS NOT NULL
                AND t.status = 'active'
                AND NOT EXISTS (SELECT FROM operation o WHERE o.tenant = t.id AND o.finished_at IS NULL)
                AND CASE WHEN coalesce((t.overrides ->> 'shared_pooling')::bool, (p.limits ->> 'shared_pooling')::bool,
                                       false)
                         THEN NOT h.is_pooled ELSE h.pool_member END
              ORDER BY h.cluster, h.id LIMIT $1",
            &[&limit],
        )
        .await?;
        rows.iter().map(|row| Ok(HomeId::new(get(row, "id")?))).collect()
    }
}

impl Tx {
    /// The password of a shared database's pool: the one that is recorded, or this one from now on.
    pub async fn shared_pool_password(&self, database: Uuid, new: &Secret) -> Result<Secret, StoreError> {
        let (client, keyring) = (self.client()?, self.keyring());
        let sql = format!(
            "SELECT s.id, {} FROM shared_database s LEFT JOIN sealed_secret pool ON pool.id = s.pool_secret
              WHERE s.id = $1 FOR UPDATE OF s",
            secrets::columns("pool")
        );
        let row = query_opt(client, &sql, &[&database]).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: "shared database", name: database.to_string() })?;
        let keys = OpenKeys::of(keyring, std::slice::from_ref(&row), &["pool"]).await?;
        if let Some(known) = open_secret(&keys, &row, "pool")? {
            return Ok(known);
        }
        let [secret] = insert_secrets(client, keyring, KeyOwner::Platform, [("shared_pool", new)]).await?;
        execute(client, "UPDATE shared_database SET pool_secret = $2 WHERE id = $1", &[&database, &secret]).await?;
        Ok(new.clone())
    }

    /// The pool's role is about to be let into a home. Says whether the home is there still.
    pub async fn admit_pool(&self, home: HomeId) -> Result<bool, StoreError> {
        let sql = "UPDATE home SET pool_member = true WHERE id = $1 AND state = 'ready'";
        Ok(execute(self.client()?, sql, &[&home.as_uuid()]).await? > 0)
    }

    /// The pool's role is let in no longer, as of an epoch; where an operation had the home since, it may be again.
    pub async fn dismiss_pool(&self, home: HomeId, epoch: i64) -> Result<(), StoreError> {
        let sql = "UPDATE home SET pool_member = false
                    WHERE id = $1 AND NOT is_pooled
                      AND NOT EXISTS (SELECT FROM operation o JOIN placement l ON l.tenant = o.tenant
                                       WHERE l.home = home.id AND o.lease_epoch > $2)";
        execute(self.client()?, sql, &[&home.as_uuid(), &epoch]).await?;
        Ok(())
    }

    /// Routers pool the tenant's connections from the commit on, or do so no longer.
    pub async fn set_pooled(&mut self, tenant: TenantId, home: HomeId, is_pooled: bool) -> Result<(), StoreError> {
        let sql = "UPDATE home SET is_pooled = $2 WHERE id = $1 AND is_pooled <> $2 AND (pool_member OR NOT $2)";
        if execute(self.client()?, sql, &[&home.as_uuid(), &is_pooled]).await? > 0 {
            self.touch_route(tenant).await?;
        }
        Ok(())
    }
}
