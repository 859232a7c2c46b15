//! A connection to the catalog, on which statements may follow each other without waiting for answers.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::task::Poll;

use deadpool_postgres::{ClientWrapper, Object};
use tokio::sync::Mutex;
use tokio_postgres::Statement;

use crate::error::StoreError;

/// A connection from the pool. Statements reach the server in the order in which their futures are first polled: those
/// of one `join!` in the order in which they are written, whether they are prepared already or not. So statements that
/// need nothing of each other's answers cost one round trip together, also where one must come after another.
pub(crate) struct Connection {
    object: Object,
    /// Held from looking the statement up until it is sent.
    turn: Mutex<()>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Deref for Connection {
    type Target = ClientWrapper;

    fn deref(&self) -> &ClientWrapper {
        &self.object
    }
}

impl Connection {
    pub(crate) fn new(object: Object) -> Box<Self> {
        Box::new(Self { object, turn: Mutex::new(()) })
    }

    /// Out of the pool: it ends when it is dropped.
    pub(crate) fn take(self) -> ClientWrapper {
        Object::take(self.object)
    }

    /// Sends statements whose answer is of no interest.
    pub(crate) async fn send(&self, sql: &str) -> Result<(), StoreError> {
        match futures::poll!(pin!(self.object.batch_execute(sql))) {
            Poll::Ready(answer) => Ok(answer?),
            Poll::Pending => Ok(()),
        }
    }

    /// Prepares a statement, once per connection, and sends it when all before it are sent. `send` must send when it is
    /// first polled, as the driver's futures do.
    pub(crate) async fn in_turn<T, F>(&self, sql: &str, send: impl FnOnce(Statement) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let turn = self.turn.lock().await;
        // On the heap: several are under way in one future.
        let mut answer = Box::pin(send(self.object.prepare_cached(sql).await?));
        let sent = futures::poll!(answer.as_mut());
        drop(turn);
        Ok(match sent {
            Poll::Ready(answer) => answer?,
            Poll::Pending => answer.await?,
        })
    }
}
