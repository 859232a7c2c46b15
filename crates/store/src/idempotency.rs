//! The table `idempotency_key`: requests that may be sent again, and their answers.

use std::time::Duration;

use tenantry_domain::TokenId;
use tokio_postgres::Row;

use crate::error::StoreError;
use crate::row::{execute, get, query_opt};
use crate::store::Store;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Idempotent {
    /// Nothing so far; it is this caller's now.
    New,
    /// The request was answered.
    Replay {
        /// HTTP status of the answer.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// Another request came under this key.
    Mismatch,
    /// The request is being worked on, or whoever did so died a moment ago.
    InProgress,
}

/// How long a request may be worked on before its key counts as abandoned by a dead process.
const ABANDONED_AFTER: Duration = Duration::from_mins(2);

impl Store {
    /// Takes the key, or says what became of it.
    pub async fn begin_idempotent(
        &self,
        token: TokenId,
        key: &str,
        request_hash: &[u8; 32],
    ) -> Result<Idempotent, StoreError> {
        let client = self.client().await?;
        // A key of the same request whose worker died is taken over; of two who try, one wins the row.
        let taken = execute(
            &client,
            "INSERT INTO idempotency_key AS known (token, key, request_hash) VALUES ($1, $2, $3)
             ON CONFLICT (token, key) DO UPDATE SET created_at = now()
              WHERE known.status IS NULL AND known.request_hash = excluded.request_hash
                AND known.created_at < now() - make_interval(secs => $4)",
            &[&token.as_uuid(), &key, &request_hash.as_slice(), &ABANDONED_AFTER.as_secs_f64()],
        )
        .await?;
        if taken > 0 {
            return Ok(Idempotent::New);
        }
        let sql = "SELECT request_hash, status, body FROM idempotency_key WHERE token = $1 AND key = $2";
        match query_opt(&client, sql, &[&token.as_uuid(), &key]).await? {
            Some(row) => read(&row, request_hash),
            // Abandoned between the two looks: the caller asks again.
            None => Ok(Idempotent::InProgress),
        }
    }

    /// Keeps the answer.
    pub async fn finish_idempotent(
        &self,
        token: TokenId,
        key: &str,
        status: u16,
        body: &[u8],
    ) -> Result<(), StoreError> {
        let status = i16::try_from(status).map_err(StoreError::internal)?;
        let sql = "UPDATE idempotency_key SET status = $3, body = $4 WHERE token = $1 AND key = $2";
        execute(&*self.client().await?, sql, &[&token.as_uuid(), &key, &status, &body]).await?;
        Ok(())
    }

    /// Frees a key that has no answer.
    pub async fn abandon_idempotent(&self, token: TokenId, key: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM idempotency_key WHERE token = $1 AND key = $2 AND status IS NULL";
        execute(&*self.client().await?, sql, &[&token.as_uuid(), &key]).await?;
        Ok(())
    }

    /// Forgets keys that are older than this, some thousands at a time; says how many.
    pub async fn sweep_idempotent(&self, older_than: Duration) -> Result<u64, StoreError> {
        execute(
            &*self.client().await?,
            "DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY(
                 SELECT ctid FROM idempotency_key WHERE created_at < now() - make_interval(secs => $1)
                  ORDER BY created_at LIMIT 5000))",
            &[&older_than.as_secs_f64()],
        )
        .await
    }
}

fn read(row: &Row, request_hash: &[u8; 32]) -> Result<Idempotent, StoreError> {
    if get::<&[u8]>(row, "request_hash")? != request_hash.as_slice() {
        return Ok(Idempotent::Mismatch);
    }
    let Some(status) = get::<Option<i16>>(row, "status")? else { return Ok(Idempotent::InProgress) };
    let status = u16::try_from(status).map_err(StoreError::internal)?;
    Ok(Idempotent::Replay { status, body: get::<Option<Vec<u8>>>(row, "body")?.unwrap_or_default() })
}
