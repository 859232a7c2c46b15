//! The tables `cluster`, `shared_database` and `template`.

use std::fmt;

use tenantry_domain::{
    Cluster, ClusterId, ClusterLimits, ClusterLocale, ClusterName, ClusterState, ClusterUsage, DatabaseName, Endpoint,
    HomeId, ProviderKind, Region, Secret, Tenancy, TenantId, TlsMode,
};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::cluster_health::read_health;
use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::keyring::{KeyOwner, Keyring};
use crate::row::{count, execute, get, json, parsed, query, query_opt, time, to_json};
use crate::secrets::{self, OpenKeys, insert_secrets, open_secret};
use crate::store::Store;
use crate::transaction::Tx;

/// A cluster as somebody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterRef {
    /// By id.
    Id(ClusterId),
    /// By name.
    Name(ClusterName),
}

impl fmt::Display for ClusterRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(formatter),
            Self::Name(name) => name.fmt(formatter),
        }
    }
}

impl ClusterRef {
    fn id(&self) -> Option<Uuid> {
        match self {
            Self::Id(id) => Some(id.as_uuid()),
            Self::Name(_) => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Id(_) => None,
            Self::Name(name) => Some(name.as_str()),
        }
    }

    fn not_found(&self) -> StoreError {
        StoreError::NotFound { what: "cluster", name: self.to_string() }
    }
}

/// A cluster to be recorded.
#[derive(Debug, Clone)]
pub struct NewCluster {
    /// Its id.
    pub id: ClusterId,
    /// Its name.
    pub name: ClusterName,
    /// Where its data is.
    pub region: Region,
    /// Whether several tenants may share it.
    pub tenancy: Tenancy,
    /// Who brought it into being.
    pub provider: ProviderKind,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected.
    pub tls_mode: TlsMode,
    /// PEM of the authority.
    pub tls_ca: Option<String>,
    /// The admin's role.
    pub admin_user: String,
    /// The admin's password; sealed before it is written.
    pub admin_password: Secret,
    /// Where the admin logs in.
    pub admin_database: DatabaseName,
    /// Of its data directory.
    pub system_identifier: String,
    /// `server_version_num`.
    pub server_version: i32,
    /// What every database of it gets.
    pub locale: ClusterLocale,
    /// How much it takes.
    pub limits: ClusterLimits,
    /// What could not be closed.
    pub findings: Vec<String>,
    /// The tenant that has it to itself.
    pub claimed_by: Option<TenantId>,
}

/// What changes about a cluster; absent means "stays".
#[derive(Debug, Clone, Default)]
pub struct ClusterChange {
    /// A new name.
    pub name: Option<ClusterName>,
    /// Another address of the same server.
    pub endpoint: Option<Endpoint>,
    /// All limits anew.
    pub limits: Option<ClusterLimits>,
    /// Another admin role.
    pub admin_user: Option<String>,
    /// Its password.
    pub admin_password: Option<Secret>,
    /// How connections are protected.
    pub tls_mode: Option<TlsMode>,
    /// PEM of the authority; the inner absence means the system's.
    pub tls_ca: Option<Option<String>>,
}

/// Which clusters are wanted; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterFilter {
    /// In this region.
    pub region: Option<Region>,
    /// Of this tenancy.
    pub tenancy: Option<Tenancy>,
    /// In this state.
    pub state: Option<ClusterState>,
}

/// A cluster with the credential to manage it.
#[derive(Debug, Clone)]
pub struct ClusterAccess {
    /// The cluster.
    pub cluster: Cluster,
    /// The admin's role.
    pub admin_user: String,
    /// The admin's password.
    pub admin_password: Secret,
    /// Where the admin logs in.
    pub admin_database: DatabaseName,
    /// Of its data directory.
    pub system_identifier: String,
}

/// A row of a cluster with what was seen of it, for [`read`].
pub(crate) const COLUMNS: &str = "c.*, health.reachable AS health_reachable, health.failures AS health_failures, \
     health.checked_at AS health_checked_at, health.seen_at AS health_seen_at, health.error AS health_error, \
     health.observed AS health_observed, health.checks AS health_checks";
pub(crate) const FROM: &str = "cluster c LEFT JOIN cluster_health health ON health.cluster = c.id";

impl Store {
    /// One cluster.
    pub async fn cluster(&self, cluster: &ClusterRef) -> Result<Cluster, StoreError> {
        select(&*self.client().await?, cluster).await
    }

    /// A page of clusters, oldest first.
    pub async fn clusters(&self, filter: &ClusterFilter, page: &PageRequest) -> Result<Page<Cluster>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM {FROM}
             WHERE c.retired_at IS NULL AND ($1::uuid IS NULL OR c.id > $1) AND ($2::text IS NULL OR c.region = $2)
               AND ($3::text IS NULL OR c.tenancy = $3) AND ($4::text IS NULL OR c.state = $4)
             ORDER BY c.id LIMIT $5"
        );
        let rows = query(
            &*self.client().await?,
            &sql,
            &[
                &page.after_id()?,
                &filter.region.as_ref().map(Region::as_str),
                &filter.tenancy.map(Tenancy::as_str),
                &filter.state.map(ClusterState::as_str),
                &page.probe(),
            ],
        )
        .await?;
        let clusters = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(clusters, |cluster: &Cluster| cluster.id.to_string()))
    }

    /// The name of the cluster whose server has this system identifier, if it is registered.
    pub async fn cluster_by_system_identifier(&self, identifier: &str) -> Result<Option<ClusterName>, StoreError> {
        let sql = "SELECT name FROM cluster WHERE system_identifier = $1 AND retired_at IS NULL";
        let row = query_opt(&*self.client().await?, sql, &[&identifier]).await?;
        row.map(|row| parsed(&row, "name")).transpose()
    }

    /// One cluster with the credential to manage it.
    pub async fn cluster_access(&self, id: ClusterId) -> Result<ClusterAccess, StoreError> {
        let access = access(&*self.client().await?, self.keyring(), "$1", id.as_uuid()).await?;
        access.ok_or_else(|| ClusterRef::Id(id).not_found())
    }
}

/// The cluster of a home, with the credential to manage it.
pub(crate) async fn access_of(
    client: &Connection,
    keyring: &Keyring,
    home: HomeId,
) -> Result<ClusterAccess, StoreError> {
    let access = access(client, keyring, "(SELECT cluster FROM home WHERE home.id = $1)", home.as_uuid()).await?;
    access.ok_or_else(|| StoreError::NotFound { what: "home", name: home.to_string() })
}

/// The cluster whose id an expression of `$1` gives.
async fn access(
    client: &Connection,
    keyring: &Keyring,
    cluster: &str,
    id: Uuid,
) -> Result<Option<ClusterAccess>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, {} FROM {FROM} JOIN sealed_secret admin ON admin.id = c.admin_secret WHERE c.id = {cluster}",
        secrets::columns("admin")
    );
    let Some(row) = query_opt(client, &sql, &[&id]).await? else { return Ok(None) };
    let keys = OpenKeys::of(keyring, std::slice::from_ref(&row), &["admin"]).await?;
    Ok(Some(ClusterAccess {
        cluster: read(&row)?,
        admin_user: get(&row, "admin_user")?,
        system_identifier: get(&row, "system_identifier")?,
        admin_password: open_secret(&keys, &row, "admin")?
            .ok_or_else(|| StoreError::internal("the cluster lacks its secret"))?,
        admin_database: DatabaseName::parse(get(&row, "admin_database")?).map_err(StoreError::internal)?,
    }))
}

impl Tx {
    /// One cluster.
    pub async fn cluster(&self, cluster: &ClusterRef) -> Result<Cluster, StoreError> {
        select(self.client()?, cluster).await
    }

    /// One cluster, which nobody else changes until the end of the transaction.
    pub async fn lock_cluster(&self, cluster: &ClusterRef) -> Result<Cluster, StoreError> {
        let sql = "SELECT id FROM cluster WHERE retired_at IS NULL AND (id = $1 OR name = $2) FOR NO KEY UPDATE";
        query_opt(self.client()?, sql, &[&cluster.id(), &cluster.name()]).await?.ok_or_else(|| cluster.not_found())?;
        self.cluster(cluster).await
    }

    /// Records a cluster; routers hear of it at the commit.
    pub async fn insert_cluster(&mut self, new: &NewCluster) -> Result<(), StoreError> {
        let client = self.client()?;
        let [secret] =
            insert_secrets(client, self.keyring(), KeyOwner::Platform, [("cluster_admin", &new.admin_password)])
                .await?;
        let inserted = client
            .execute(
                "INSERT INTO cluster (id, name, region, tenancy, provider, host, port, tls_mode, tls_ca, admin_user,
                     admin_database, admin_secret, system_identifier, server_version, locale, limits, findings,
                     claimed_by, seen_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, now())",
                &[
                    &new.id.as_uuid(),
                    &new.name.as_str(),
                    &new.region.as_str(),
                    &new.tenancy.as_str(),
                    &new.provider.as_str(),
                    &new.endpoint.host(),
                    &i32::from(new.endpoint.port()),
                    &new.tls_mode.as_str(),
                    &new.tls_ca,
                    &new.admin_user,
                    &new.admin_database.as_str(),
                    &secret,
                    &new.system_identifier,
                    &new.server_version,
                    &to_json(&new.locale)?,
                    &to_json(&new.limits)?,
                    &to_json(&new.findings)?,
                    &new.claimed_by.map(TenantId::as_uuid),
                ],
            )
            .await;
        match inserted {
            Ok(_) => {
                self.feed().cluster(new.id);
                Ok(())
            }
            Err(error) => Err(match StoreError::constraint(&error) {
                Some("cluster_name") => StoreError::NameTaken { what: "cluster", name: new.name.to_string() },
                Some("cluster_system_identifier") => StoreError::Conflict {
                    reason: format!("the server at {} is registered already, under another name", new.endpoint),
                },
                _ => error.into(),
            }),
        }
    }

    /// Changes what the change names; returns the cluster as it is then. Routers hear of it at the commit.
    pub async fn update_cluster(&mut self, id: ClusterId, change: &ClusterChange) -> Result<Cluster, StoreError> {
        let client = self.client()?;
        let secret = match &change.admin_password {
            Some(password) => {
                let [secret] =
                    insert_secrets(client, self.keyring(), KeyOwner::Platform, [("cluster_admin", password)]).await?;
                Some(secret)
            }
            None => None,
        };
        let endpoint = change.endpoint.as_ref();
        let updated = client
            .query_opt(
                "WITH old AS (SELECT admin_secret FROM cluster WHERE id = $1),
                      forgotten AS (DELETE FROM secret USING old WHERE $6::uuid IS NOT NULL AND secret.id = old.admin_secret)
                 UPDATE cluster SET name = coalesce($2, name), host = coalesce($3, host), port = coalesce($4, port),
                        limits = coalesce($5, limits), admin_secret = coalesce($6, admin_secret),
                        admin_user = coalesce($7, admin_user), tls_mode = coalesce($8, tls_mode),
                        tls_ca = CASE WHEN $10 THEN $9 ELSE tls_ca END, updated_at = clock_timestamp()
                 WHERE id = $1 RETURNING id",
                &[
                    &id.as_uuid(),
                    &change.name.as_ref().map(ClusterName::as_str),
                    &endpoint.map(Endpoint::host),
                    &endpoint.map(|endpoint| i32::from(endpoint.port())),
                    &change.limits.as_ref().map(to_json).transpose()?,
                    &secret,
                    &change.admin_user,
                    &change.tls_mode.map(TlsMode::as_str),
                    &change.tls_ca.as_ref().and_then(Option::as_ref),
                    &change.tls_ca.is_some(),
                ],
            )
            .await;
        match updated {
            Ok(Some(_)) => {
                self.feed().cluster(id);
                self.cluster(&ClusterRef::Id(id)).await
            }
            Ok(None) => Err(ClusterRef::Id(id).not_found()),
            Err(error) if StoreError::constraint(&error) == Some("cluster_name") => Err(StoreError::NameTaken {
                what: "cluster",
                name: change.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it takes new homes; returns the cluster as it is then.
    pub async fn set_cluster_state(&self, id: ClusterId, state: ClusterState) -> Result<Cluster, StoreError> {
        let sql = "UPDATE cluster SET state = $2, updated_at = clock_timestamp() WHERE id = $1";
        execute(self.client()?, sql, &[&id.as_uuid(), &state.as_str()]).await?;
        self.cluster(&ClusterRef::Id(id)).await
    }

    /// Notes what could not be closed on the cluster, besides what is known.
    pub async fn add_cluster_findings(&self, id: ClusterId, findings: &[String]) -> Result<(), StoreError> {
        if findings.is_empty() {
            return Ok(());
        }
        execute(
            self.client()?,
            "UPDATE cluster SET findings = (SELECT jsonb_agg(DISTINCT finding)
                                            FROM jsonb_array_elements(findings || $2) AS finding)
             WHERE id = $1",
            &[&id.as_uuid(), &to_json(&findings)?],
        )
        .await?;
        Ok(())
    }

    /// Retires a cluster on which nothing lives, and forgets its credential.
    pub async fn delete_cluster(&self, id: ClusterId) -> Result<(), StoreError> {
        let client = self.client()?;
        let homes = "SELECT homes FROM cluster WHERE id = $1 AND retired_at IS NULL FOR UPDATE";
        let row = query_opt(client, homes, &[&id.as_uuid()]).await?.ok_or_else(|| ClusterRef::Id(id).not_found())?;
        if count(&row, "homes")? > 0 {
            return Err(StoreError::Conflict {
                reason: "homes are still on the cluster; move or delete them".to_owned(),
            });
        }
        execute(client, "DELETE FROM template WHERE cluster = $1", &[&id.as_uuid()]).await?;
        execute(client, "DELETE FROM cluster_health WHERE cluster = $1", &[&id.as_uuid()]).await?;
        execute(client, "DELETE FROM cluster_replica WHERE cluster = $1", &[&id.as_uuid()]).await?;
        execute(client, "DELETE FROM connection_lease WHERE cluster = $1", &[&id.as_uuid()]).await?;
        execute(
            client,
            "WITH old AS (DELETE FROM shared_database s WHERE cluster = $1
                             AND NOT EXISTS (SELECT 1 FROM home WHERE home.shared_database = s.id)
                          RETURNING pool_secret)
             DELETE FROM secret USING old WHERE secret.id = old.pool_secret",
            &[&id.as_uuid()],
        )
        .await?;
        execute(
            client,
            "WITH old AS (SELECT admin_secret FROM cluster WHERE id = $1),
                  retired AS (UPDATE cluster SET retired_at = clock_timestamp(), admin_secret = NULL, claimed_by = NULL
                              WHERE id = $1)
             DELETE FROM secret USING old WHERE secret.id = old.admin_secret",
            &[&id.as_uuid()],
        )
        .await?;
        Ok(())
    }

    /// Makes the cluster the tenant's own, if nobody has it and it takes new homes.
    pub async fn claim_cluster(&self, id: ClusterId, tenant: TenantId) -> Result<bool, StoreError> {
        let claimed = execute(
            self.client()?,
            "UPDATE cluster SET claimed_by = $2, updated_at = clock_timestamp()
             WHERE id = $1 AND tenancy = 'dedicated' AND state = 'active' AND retired_at IS NULL
               AND (claimed_by IS NULL OR claimed_by = $2)",
            &[&id.as_uuid(), &tenant.as_uuid()],
        )
        .await?;
        Ok(claimed == 1)
    }

    /// Lets go of every registered cluster that the tenant has to itself.
    pub async fn release_clusters_of(&self, tenant: TenantId) -> Result<(), StoreError> {
        let sql = "UPDATE cluster SET claimed_by = NULL, updated_at = clock_timestamp() WHERE claimed_by = $1";
        execute(self.client()?, sql, &[&tenant.as_uuid()]).await?;
        Ok(())
    }
}

async fn select(client: &Connection, cluster: &ClusterRef) -> Result<Cluster, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM {FROM} WHERE c.retired_at IS NULL AND (c.id = $1 OR c.name = $2)");
    let row = query_opt(client, &sql, &[&cluster.id(), &cluster.name()]).await?;
    row.as_ref().map(read).transpose()?.ok_or_else(|| cluster.not_found())
}

/// The endpoint of a row with the columns `host` and `port`.
pub(crate) fn read_endpoint(row: &Row) -> Result<Endpoint, StoreError> {
    let port = u16::try_from(get::<i32>(row, "port")?).map_err(StoreError::internal)?;
    Endpoint::new(get(row, "host")?, port).map_err(StoreError::internal)
}

/// A cluster from [`COLUMNS`].
pub(crate) fn read(row: &Row) -> Result<Cluster, StoreError> {
    let health = read_health(row)?;
    Ok(Cluster {
        id: ClusterId::new(get(row, "id")?),
        name: parsed(row, "name")?,
        region: parsed(row, "region")?,
        tenancy: parsed(row, "tenancy")?,
        provider: parsed(row, "provider")?,
        endpoint: read_endpoint(row)?,
        tls_mode: parsed(row, "tls_mode")?,
        tls_ca: get(row, "tls_ca")?,
        state: parsed(row, "state")?,
        server_version: get(row, "server_version")?,
        locale: json(row, "locale")?,
        limits: json(row, "limits")?,
        usage: ClusterUsage {
            homes: count(row, "homes")?,
            databases: count(row, "databases")?,
            warm: count(row, "warm_homes")?,
            connections: u64::try_from(get::<i64>(row, "connections")?).map_err(StoreError::internal)?,
            disk_bytes: health.observed.as_ref().map(|observed| observed.disk_bytes),
        },
        health,
        claimed_by: get::<Option<Uuid>>(row, "claimed_by")?.map(TenantId::new),
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}
