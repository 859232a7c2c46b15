//! The columns of the table `home` that a rotation fills, and what routers have acknowledged.

use std::time::Duration;

use tenantry_domain::{FeedVersion, HomeId, LoginSlot, Secret, TenantId};

use crate::error::StoreError;
use crate::homes::slot_text;
use crate::keyring::KeyOwner;
use crate::row::{execute, get, query, query_opt};
use crate::secrets::{OpenKeys, columns, insert_secrets, open_secret};
use crate::store::Store;
use crate::transaction::Tx;

/// The passwords that a rotation brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextSecrets {
    /// Of the login role that comes into use.
    pub login: Secret,
    /// Of the read-only role.
    pub read_only: Secret,
}

impl Store {
    /// What the rotation of a home brings; `None` where none is under way.
    pub async fn next_secrets(&self, home: HomeId) -> Result<Option<NextSecrets>, StoreError> {
        let sql = format!(
            "SELECT {}, {} FROM home h
               LEFT JOIN sealed_secret next_login ON next_login.id = h.next_login_secret
               LEFT JOIN sealed_secret next_read_only ON next_read_only.id = h.next_read_only_secret
              WHERE h.id = $1 AND h.state <> 'released'",
            columns("next_login"),
            columns("next_read_only"),
        );
        let Some(row) = query_opt(&*self.client().await?, &sql, &[&home.as_uuid()]).await? else { return Ok(None) };
        let keys = OpenKeys::of(self.keyring(), std::slice::from_ref(&row), &["next_login", "next_read_only"]).await?;
        let secret = |alias| open_secret(&keys, &row, alias);
        Ok(match (secret("next_login")?, secret("next_read_only")?) {
            (Some(login), Some(read_only)) => Some(NextSecrets { login, read_only }),
            _ => None,
        })
    }

    /// The newest change of a tenant's route.
    pub async fn route_version(&self, tenant: TenantId) -> Result<FeedVersion, StoreError> {
        let sql = "SELECT version FROM route WHERE tenant = $1";
        let row = query_opt(&*self.client().await?, sql, &[&tenant.as_uuid()]).await?;
        let row = row.ok_or_else(|| StoreError::NotFound { what: "route", name: tenant.to_string() })?;
        Ok(FeedVersion(get(&row, "version")?))
    }

    /// The routers that have not applied a version, at most a hundred, by name. One that has said nothing for longer than
    /// `silence` counts as gone.
    pub async fn routers_behind(&self, version: FeedVersion, silence: Duration) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM router
                    WHERE applied_version < $1 AND reported_at > clock_timestamp() - $2 * interval '1 second'
                    ORDER BY name LIMIT 100";
        let rows = query(&*self.client().await?, sql, &[&version.0, &silence.as_secs_f64()]).await?;
        rows.iter().map(|row| get(row, "name")).collect()
    }
}

impl Tx {
    /// Keeps what a rotation will bring, in place of what an earlier one left.
    pub async fn begin_rotation(&self, home: HomeId, next: &NextSecrets) -> Result<(), StoreError> {
        self.forget_rotation(home).await?;
        let secrets = [("login", &next.login), ("read_only", &next.read_only)];
        let [login, read_only] = insert_secrets(self.client()?, self.keyring(), KeyOwner::Home(home), secrets).await?;
        let sql = "UPDATE home SET next_login_secret = $2, next_read_only_secret = $3 WHERE id = $1";
        execute(self.client()?, sql, &[&home.as_uuid(), &login, &read_only]).await?;
        Ok(())
    }

    /// What the rotation brought is in use from now on, under the given slot; what was before is forgotten. Says whether
    /// there was anything to bring.
    pub async fn finish_rotation(&self, home: HomeId, slot: LoginSlot) -> Result<bool, StoreError> {
        let forgotten = execute(
            self.client()?,
            "WITH old AS (SELECT id, login_secret, read_only_secret FROM home
                           WHERE id = $1 AND next_login_secret IS NOT NULL FOR UPDATE),
                  turned AS (UPDATE home SET login_slot = $2, login_secret = next_login_secret,
                                             read_only_secret = next_read_only_secret, next_login_secret = NULL,
                                             next_read_only_secret = NULL, passwords_set_at = clock_timestamp()
                               FROM old WHERE home.id = old.id)
             DELETE FROM secret USING old WHERE secret.id IN (old.login_secret, old.read_only_secret)",
            &[&home.as_uuid(), &slot_text(slot)],
        )
        .await?;
        Ok(forgotten > 0)
    }

    /// Nothing is brought after all.
    pub async fn forget_rotation(&self, home: HomeId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "WITH old AS (SELECT id, next_login_secret, next_read_only_secret FROM home WHERE id = $1 FOR UPDATE),
                  kept AS (UPDATE home SET next_login_secret = NULL, next_read_only_secret = NULL
                             FROM old WHERE home.id = old.id)
             DELETE FROM secret USING old WHERE secret.id IN (old.next_login_secret, old.next_read_only_secret)",
            &[&home.as_uuid()],
        )
        .await?;
        Ok(())
    }
}
