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

/// Homes whose pooling was due, as far as they were looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DuePooling {
    /// Those that are not as they should be and can be set right now, by id.
    pub homes: Vec<HomeId>,
    /// The last one that was looked at; absent where there was none.
    pub last: Option<HomeId>,
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

    /// Looks at homes whose pooling is due, after one, and returns those whose connections are to be pooled and are not, or
    /// the other way round. Those that are as they should be are due no more; those that an operation works on come later,
    /// and so do suspended ones that are to be let in.
    pub async fn due_pooling(&self, after: Option<HomeId>, limit: i64) -> Result<DuePooling, StoreError> {
        let tx = self.begin().await?;
        let client = tx.client()?;
        // Whoever changes something writes that down last. Locked, a home waits with that, or has it there for the look.
        let sql = "SELECT id FROM home WHERE pooling_due AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2
                      FOR NO KEY UPDATE SKIP LOCKED";
        let due = query(client, sql, &[&after.map(HomeId::as_uuid), &limit]).await?;
        let due: Vec<Uuid> = due.iter().map(|row| get(row, "id")).collect::<Result<_, _>>()?;
        let Some(last) = due.last() else { return Ok(DuePooling::default()) };
        let rows = query(
            client,
            "WITH judged AS (
                 SELECT h.id, t.id AS tenant,
                        CASE WHEN h.state <> 'ready' OR t.id IS NULL OR t.status NOT IN ('active', 'suspended') THEN false
                             WHEN coalesce((t.overrides ->> 'shared_pooling')::bool,
                                           (p.limits ->> 'shared_pooling')::bool, false)
                             THEN t.status = 'active' AND NOT h.is_pooled
                             ELSE h.pool_member END AS differs
                   FROM home h
                   LEFT JOIN placement l ON l.home = h.id AND l.until IS NULL
                   LEFT JOIN tenant t ON t.id = l.tenant
                   LEFT JOIN plan p ON p.name = t.plan
                  WHERE h.id = ANY ($1)),
                  settled AS (UPDATE home SET pooling_due = false FROM judged
                               WHERE home.id = judged.id AND NOT judged.differs)
             SELECT id FROM judged
              WHERE differs
                AND NOT EXISTS (SELECT FROM operation o WHERE o.tenant = judged.tenant AND o.finished_at IS NULL)
              ORDER BY id",
            &[&due],
        )
        .await?;
        let homes = rows.iter().map(|row| get(row, "id").map(HomeId::new)).collect::<Result<_, _>>()?;
        let last = HomeId::new(*last);
        tx.commit().await?;
        Ok(DuePooling { homes, last: Some(last) })
    }
}

impl Tx {
    /// The password of a shared database's pool: the one that is recorded, or this one from now on.
    pub async fn shared_pool_password(&self, database: Uuid, new: &Secret) -> Result<Secret, StoreError> {
        let (client, keyring) = (self.client()?, self.keyring());
        // By itself: whoever waits for the lock would not see the secret that came meanwhile.
        let lock = "SELECT id FROM shared_database WHERE id = $1 FOR UPDATE";
        let missing = || StoreError::NotFound { what: "shared database", name: database.to_string() };
        query_opt(client, lock, &[&database]).await?.ok_or_else(missing)?;
        let sql = format!(
            "SELECT s.id, {} FROM shared_database s LEFT JOIN sealed_secret pool ON pool.id = s.pool_secret
              WHERE s.id = $1",
            secrets::columns("pool")
        );
        let row = query_opt(client, &sql, &[&database]).await?.ok_or_else(missing)?;
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
