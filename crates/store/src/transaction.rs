//! A transaction that a use-case holds.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::feed_changes::FeedChanges;
use crate::keyring::Keyring;

/// The longest that a rollback may take before its connection is given up.
const ROLLBACK_MAX: Duration = Duration::from_secs(5);

/// An open transaction (READ COMMITTED). Dropped without [`commit`](Self::commit) it is rolled back.
#[derive(Debug)]
pub struct Tx {
    /// Absent only once committed or while being dropped.
    client: Option<Box<Connection>>,
    keyring: Arc<Keyring>,
    feed: FeedChanges,
}

impl Tx {
    /// Sends the BEGIN and does not wait for its answer: it fails where the connection is gone, and then so does what
    /// comes next.
    pub(crate) async fn begin(client: Box<Connection>, keyring: Arc<Keyring>) -> Result<Self, StoreError> {
        // Wrapped first, so that the rollback follows the BEGIN whatever happens.
        let tx = Self { client: Some(client), keyring, feed: FeedChanges::default() };
        tx.client()?.send("BEGIN").await?;
        Ok(tx)
    }

    /// Makes everything that was written durable. Changes of routes and clusters get their versions here, with the
    /// feed's clock as the last lock. An error may mean either: the reply can be lost after the commit.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let feed = std::mem::take(&mut self.feed);
        if feed.is_empty() {
            self.client()?.batch_execute("COMMIT").await?;
        } else {
            feed.commit(self.client()?).await?;
        }
        // Back to the pool, outside a transaction.
        drop(self.client.take());
        Ok(())
    }

    pub(crate) fn client(&self) -> Result<&Connection, StoreError> {
        self.client.as_deref().ok_or_else(|| StoreError::internal("the transaction has ended"))
    }

    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(crate) fn feed(&mut self) -> &mut FeedChanges {
        &mut self.feed
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Without a runtime nothing can be sent: the connection is closed, and PostgreSQL rolls back.
            drop(client.take());
            return;
        };
        runtime.spawn(async move {
            // Sent after whatever the dropped future was waiting for, and answered after that.
            let rolled_back = tokio::time::timeout(ROLLBACK_MAX, client.batch_execute("ROLLBACK")).await;
            if !matches!(rolled_back, Ok(Ok(()))) {
                debug!("a rollback was not confirmed; its connection is closed");
                drop(client.take());
            }
        });
    }
}
