//! Homes as the upkeep of their roles sees them: what each should be, and which are due.

use std::collections::HashMap;

use jiff::Timestamp;
use tenantry_domain::{ClusterId, Home, HomeId, Isolation, Limits, LoginSlot, Overrides, TenantId, TenantStatus};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;
use crate::homes::{HomeSecrets, parse_slot, read_home};
use crate::row::{execute, get, json, parsed, query, query_one};
use crate::secrets::{self, OpenKeys, open_secret};
use crate::store::Store;
use crate::transaction::Tx;

/// What the roles of a home that is lived in should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeRoles {
    /// The home.
    pub home: Home,
    /// Who lives there.
    pub tenant: TenantId,
    /// Whether the tenant may log in. A suspended one may not.
    pub is_open: bool,
    /// Which of the alternating login roles is in use.
    pub login: LoginSlot,
    /// Passwords of its roles.
    pub secrets: HomeSecrets,
    /// Effective limits of the tenant.
    pub limits: Limits,
    /// When the roles last got their passwords.
    pub passwords_set_at: Timestamp,
    /// For `schema` homes: the shared database.
    pub shared_database: Option<Uuid>,
    /// Whether the pool's role of its database may become its roles.
    pub pool_member: bool,
    /// Whether its route says so.
    pub is_pooled: bool,
}

impl HomeRoles {
    /// Whether its connections are to be pooled with those of others in its database.
    pub fn wants_pooling(&self) -> bool {
        let is_in_ours = self.home.isolation == Isolation::Schema && !self.home.is_adopted();
        is_in_ours && self.shared_database.is_some() && self.limits.shared_pooling == Some(true)
    }
}

/// Homes whose tenant is served or suspended, while no operation works on it: that one decides what its roles are.
fn select(condition: &str) -> String {
    format!(
        "SELECT h.id, h.cluster, h.isolation, h.database_name, h.schema_name, h.login_slot, h.passwords_set_at,
                h.shared_database, h.pool_member, h.is_pooled,
                t.id AS tenant, t.status, t.overrides, p.limits, {}, {}, {}
           FROM home h
           JOIN placement l ON l.home = h.id AND l.until IS NULL
           JOIN tenant t ON t.id = l.tenant
           JOIN plan p ON p.name = t.plan
           LEFT JOIN sealed_secret login ON login.id = h.login_secret
           LEFT JOIN sealed_secret read_only ON read_only.id = h.read_only_secret
           LEFT JOIN sealed_secret migrator ON migrator.id = h.migrator_secret
          WHERE h.state = 'ready' AND t.status IN ('active', 'suspended')
            AND NOT EXISTS (SELECT FROM operation o WHERE o.tenant = t.id AND o.finished_at IS NULL)
            AND {condition}",
        secrets::columns("login"),
        secrets::columns("read_only"),
        secrets::columns("migrator"),
    )
}

impl Store {
    /// The homes on a cluster whose roles can be looked after now, by id, after one.
    pub async fn home_roles(
        &self,
        cluster: ClusterId,
        after: Option<HomeId>,
        limit: i64,
    ) -> Result<Vec<HomeRoles>, StoreError> {
        let sql = select("h.cluster = $1 AND ($2::uuid IS NULL OR h.id > $2) ORDER BY h.id LIMIT $3");
        self.read_home_roles(&sql, &[&cluster.as_uuid(), &after.map(HomeId::as_uuid), &limit]).await
    }

    /// Those of some homes whose roles can be looked after now.
    pub async fn home_roles_among(&self, homes: &[HomeId]) -> Result<Vec<HomeRoles>, StoreError> {
        let homes: Vec<Uuid> = homes.iter().map(|home| home.as_uuid()).collect();
        self.read_home_roles(&select("h.id = ANY ($1) ORDER BY h.cluster, h.id"), &[&homes]).await
    }

    async fn read_home_roles(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<HomeRoles>, StoreError> {
        let rows = query(&*self.client().await?, sql, parameters).await?;
        let keys = OpenKeys::of(self.keyring(), &rows, &["login", "read_only", "migrator"]).await?;
        rows.iter().map(|row| Self::read_roles(&keys, row)).collect()
    }

    fn read_roles(keys: &OpenKeys<'_>, row: &Row) -> Result<HomeRoles, StoreError> {
        let id = HomeId::new(get(row, "id")?);
        let secret = |alias| {
            open_secret(keys, row, alias)?
                .ok_or_else(|| StoreError::internal(format!("home {id} lacks its {alias} secret")))
        };
        Ok(HomeRoles {
            home: read_home(row, id, "cluster", "isolation")?,
            tenant: TenantId::new(get(row, "tenant")?),
            is_open: parsed::<TenantStatus>(row, "status")? == TenantStatus::Active,
            login: parse_slot(get(row, "login_slot")?)?,
            secrets: HomeSecrets {
                login: secret("login")?,
                read_only: secret("read_only")?,
                migrator: secret("migrator")?,
            },
            limits: json::<Limits>(row, "limits")?.overridden_by(json::<Overrides>(row, "overrides")?.limits),
            passwords_set_at: get(row, "passwords_set_at")?,
            shared_database: get(row, "shared_database")?,
            pool_member: get(row, "pool_member")?,
            is_pooled: get(row, "is_pooled")?,
        })
    }

    /// Takes homes whose roles are due, a bounded number; they are due no more.
    pub async fn take_due_roles(&self, limit: i64) -> Result<Vec<HomeId>, StoreError> {
        let sql = "UPDATE home SET roles_due = false
                    WHERE id IN (SELECT id FROM home WHERE roles_due ORDER BY cluster, id LIMIT $1 FOR UPDATE SKIP LOCKED)
                    RETURNING id";
        let rows = query(&*self.client().await?, sql, &[&limit]).await?;
        rows.iter().map(|row| Ok(HomeId::new(get(row, "id")?))).collect()
    }

    /// The roles of these homes are due again, because they could not be reached.
    pub async fn put_back_due_roles(&self, homes: &[HomeId]) -> Result<(), StoreError> {
        let homes: Vec<Uuid> = homes.iter().map(|home| home.as_uuid()).collect();
        let sql = "UPDATE home SET roles_due = true WHERE id = ANY ($1) AND state = 'ready'";
        execute(&*self.client().await?, sql, &[&homes]).await?;
        Ok(())
    }

    /// The roles of a home have their passwords.
    pub async fn passwords_set(&self, home: HomeId) -> Result<(), StoreError> {
        let sql = "UPDATE home SET passwords_set_at = clock_timestamp() WHERE id = $1";
        execute(&*self.client().await?, sql, &[&home.as_uuid()]).await?;
        Ok(())
    }

    /// An epoch for a change of roles that is no operation's. Drawn before the catalog is read: whoever claims an
    /// operation after that has a higher one, and whoever claimed one before is seen in what is read.
    pub async fn draw_epoch(&self) -> Result<i64, StoreError> {
        get(&query_one(&*self.client().await?, "SELECT nextval('lease_epoch') AS epoch", &[]).await?, "epoch")
    }

    /// Who lives in some homes on a cluster now, and their effective limits.
    pub async fn limits_of_homes(
        &self,
        cluster: ClusterId,
        homes: &[HomeId],
    ) -> Result<HashMap<HomeId, (TenantId, Limits)>, StoreError> {
        let homes: Vec<Uuid> = homes.iter().map(|home| home.as_uuid()).collect();
        let sql = "SELECT h.id, t.id AS tenant, t.overrides, p.limits
                     FROM home h JOIN placement l ON l.home = h.id AND l.until IS NULL
                     JOIN tenant t ON t.id = l.tenant JOIN plan p ON p.name = t.plan
                    WHERE h.cluster = $1 AND h.id = ANY ($2)";
        let rows = query(&*self.client().await?, sql, &[&cluster.as_uuid(), &homes]).await?;
        rows.iter()
            .map(|row| {
                let limits = json::<Limits>(row, "limits")?.overridden_by(json::<Overrides>(row, "overrides")?.limits);
                Ok((HomeId::new(get(row, "id")?), (TenantId::new(get(row, "tenant")?), limits)))
            })
            .collect()
    }
}

impl Tx {
    /// What the roles of the tenant's home should be has changed, or whether its connections are pooled; they are set right
    /// next.
    pub async fn mark_roles_due(&self, tenant: TenantId) -> Result<(), StoreError> {
        let sql = "UPDATE home SET roles_due = true, pooling_due = shared_database IS NOT NULL FROM placement p
                    WHERE p.home = home.id AND p.until IS NULL AND p.tenant = $1";
        execute(self.client()?, sql, &[&tenant.as_uuid()]).await?;
        Ok(())
    }
}
