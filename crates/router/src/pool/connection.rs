//! A borrowed connection.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use deadpool_postgres::{Transaction, TransactionBuilder};
use tenantry_domain::{ClusterReplicaId, TenantId};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Statement};

use crate::pool::returning::give_back;
use crate::pool::{Object, TenantPool};

/// A connection to one tenant's home. It goes back when it is dropped, whatever state it is in: it is cleaned before
/// anyone else gets it, and a query that is still running is cancelled.
///
/// It derefs to [`tokio_postgres::Client`], but not mutably, so two tenants' connections cannot be exchanged.
#[must_use = "a connection that is not used is best not taken"]
pub struct Connection {
    /// Taken out by `drop` alone.
    object: Option<Object>,
    pool: Arc<TenantPool>,
}

impl Connection {
    pub(crate) fn new(object: Object, pool: Arc<TenantPool>) -> Self {
        if let Some(sight) = &pool.sight {
            sight.borrow();
        }
        Self { object: Some(object), pool }
    }

    /// Whose home it is connected to.
    pub fn tenant(&self) -> TenantId {
        self.pool.key.tenant
    }

    /// Which replica of its cluster it is connected to; `None` for the cluster itself. See [`crate::ReadFrom`].
    pub fn replica(&self) -> Option<ClusterReplicaId> {
        self.pool.key.replica
    }

    /// Begins a transaction, which is rolled back when it is dropped without a commit.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        self.object_mut().transaction().await
    }

    /// Begins a transaction with an isolation level, read-only or deferrable.
    pub fn build_transaction(&mut self) -> TransactionBuilder<'_> {
        self.object_mut().build_transaction()
    }

    /// Prepares a statement, once per connection: later calls with the same text find it.
    pub async fn prepare_cached(&self, query: &str) -> Result<Statement, Error> {
        self.object().prepare_cached(query).await
    }

    /// As [`Self::prepare_cached`], with the types of its parameters.
    pub async fn prepare_typed_cached(&self, query: &str, types: &[Type]) -> Result<Statement, Error> {
        self.object().prepare_typed_cached(query, types).await
    }

    fn object(&self) -> &Object {
        let Some(object) = &self.object else { unreachable!("only `drop` takes the connection out") };
        object
    }

    fn object_mut(&mut self) -> &mut Object {
        let Some(object) = &mut self.object else { unreachable!("only `drop` takes the connection out") };
        object
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.object()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(sight) = &self.pool.sight {
            sight.give_back();
        }
        if let Some(object) = self.object.take() {
            give_back(object, Arc::clone(&self.pool));
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("tenant", &self.tenant()).finish_non_exhaustive()
    }
}
