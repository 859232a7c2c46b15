//! The table `token`: who may call. Tokens are kept as hashes.

use jiff::Timestamp;
use tenantry_domain::{DisplayName, ScopeSet, TenantId, TokenId};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::row::{execute, get, parsed, query, query_one, query_opt};
use crate::store::Store;
use crate::transaction::Tx;

/// A token to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its id.
    pub id: TokenId,
    /// Its name for people.
    pub name: DisplayName,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: ScopeSet,
    /// The only tenant that it may see.
    pub tenant: Option<TenantId>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A token without what would let anybody use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its id.
    pub id: TokenId,
    /// Its name for people.
    pub name: DisplayName,
    /// What it may do.
    pub scopes: ScopeSet,
    /// The only tenant that it may see.
    pub tenant: Option<TenantId>,
    /// Made at.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Last seen, give or take half a minute.
    pub last_used_at: Option<Timestamp>,
    /// Ended by a person at.
    pub revoked_at: Option<Timestamp>,
}

impl Tx {
    /// Records a token.
    pub async fn insert_token(&self, token: &NewToken) -> Result<TokenRecord, StoreError> {
        let scopes: Vec<String> = token.scopes.iter().map(|scope| scope.to_string()).collect();
        let row = query_one(
            self.client()?,
            "INSERT INTO token (id, name, hash, scopes, tenant, expires_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
            &[
                &token.id.as_uuid(),
                &token.name.as_str(),
                &token.hash.as_slice(),
                &scopes,
                &token.tenant.map(TenantId::as_uuid),
                &token.expires_at,
            ],
        )
        .await?;
        read(&row)
    }

    /// A token, which nobody else changes until the transaction ends.
    pub async fn lock_token(&self, id: TokenId) -> Result<TokenRecord, StoreError> {
        self.one("SELECT * FROM token WHERE id = $1 FOR UPDATE", id).await
    }

    /// Ends a token at once. Doing so twice is no error.
    pub async fn revoke_token(&self, id: TokenId) -> Result<TokenRecord, StoreError> {
        self.one("UPDATE token SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 RETURNING *", id).await
    }

    async fn one(&self, sql: &str, id: TokenId) -> Result<TokenRecord, StoreError> {
        let row = query_opt(self.client()?, sql, &[&id.as_uuid()]).await?;
        row.as_ref().map_or_else(|| Err(StoreError::NotFound { what: "token", name: id.to_string() }), read)
    }
}

impl Store {
    /// The token with this hash, unless it is revoked or expired.
    pub async fn token_by_hash(&self, hash: &[u8; 32]) -> Result<Option<TokenRecord>, StoreError> {
        let sql =
            "SELECT * FROM token WHERE hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";
        query_opt(&*self.client().await?, sql, &[&hash.as_slice()]).await?.as_ref().map(read).transpose()
    }

    /// Which of these tokens are revoked or expired, many at a time.
    pub async fn ended_tokens(&self, ids: &[TokenId]) -> Result<Vec<TokenId>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        let sql = "SELECT asked.id FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (id, position)
                     LEFT JOIN token ON token.id = asked.id
                    WHERE token.id IS NULL OR revoked_at IS NOT NULL OR expires_at <= now() ORDER BY position";
        let rows = query(&*self.client().await?, sql, &[&ids]).await?;
        rows.iter().map(|row| Ok(TokenId::new(get(row, "id")?))).collect()
    }

    /// A page of tokens, oldest first, ended ones included.
    pub async fn tokens(&self, page: &PageRequest) -> Result<Page<TokenRecord>, StoreError> {
        let sql = "SELECT * FROM token WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2";
        let rows = query(&*self.client().await?, sql, &[&page.after_id()?, &page.probe()]).await?;
        let tokens = rows.iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.page(tokens, |token: &TokenRecord| token.id.to_string()))
    }

    /// How many tokens could be used now.
    pub async fn count_tokens(&self) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS tokens FROM token WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";
        crate::row::count(&query_one(&*self.client().await?, sql, &[]).await?, "tokens")
    }

    /// Notes when tokens were last used, many at a time. A time never goes back.
    pub async fn touch_tokens(&self, uses: &[(TokenId, Timestamp)]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = uses.iter().map(|(id, _)| id.as_uuid()).collect();
        let times: Vec<Timestamp> = uses.iter().map(|(_, at)| *at).collect();
        execute(
            &*self.client().await?,
            "UPDATE token SET last_used_at = greatest(last_used_at, used.at)
               FROM (SELECT id, at FROM unnest($1::uuid[], $2::timestamptz[]) AS seen (id, at) ORDER BY id) AS used
              WHERE token.id = used.id",
            &[&ids, &times],
        )
        .await?;
        Ok(())
    }
}

fn read(row: &Row) -> Result<TokenRecord, StoreError> {
    let scopes = get::<Vec<&str>>(row, "scopes")?;
    let scopes = scopes.into_iter().map(str::parse).collect::<Result<Vec<_>, _>>().map_err(StoreError::internal)?;
    Ok(TokenRecord {
        id: TokenId::new(get(row, "id")?),
        name: parsed(row, "name")?,
        scopes: ScopeSet::new(scopes),
        tenant: get::<Option<Uuid>>(row, "tenant")?.map(TenantId::new),
        created_at: get(row, "created_at")?,
        expires_at: get(row, "expires_at")?,
        last_used_at: get(row, "last_used_at")?,
        revoked_at: get(row, "revoked_at")?,
    })
}
