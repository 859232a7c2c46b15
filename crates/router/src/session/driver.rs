//! The task that drives a connection, and knows when there is nothing left to drive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

use super::Session;
use crate::budget::Permit;
use crate::pool::returning;

/// Notes that the driver is to look before it wakes it.
struct Wakeful {
    session: Arc<Session>,
    task: AtomicWaker,
}

impl Wake for Wakeful {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.session.wake();
        self.task.wake();
    }
}

/// Drives a connection to its end.
pub(crate) struct Driver<C> {
    connection: C,
    wakeful: Arc<Wakeful>,
    waker: Waker,
    /// Given back with the connection.
    _permit: Permit,
}

impl<C> Driver<C> {
    pub(crate) fn new(connection: C, session: Arc<Session>, permit: Permit) -> Self {
        // Until it looked for the first time, nobody knows.
        session.wake();
        let wakeful = Arc::new(Wakeful { session, task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&wakeful));
        Self { connection, wakeful, waker, _permit: permit }
    }
}

impl<C> Future for Driver<C>
where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let session = &this.wakeful.session;
        this.wakeful.task.register(context.waker());
        session.begin_work();
        let outcome = Pin::new(&mut this.connection).poll(&mut Context::from_waker(&this.waker));
        if let Some(used) = session.end_work() {
            returning::settle(used);
        }
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "a connection ended");
                }
                Poll::Ready(())
            }
        }
    }
}

impl<C> Drop for Driver<C> {
    fn drop(&mut self) {
        // With the driver the connection ends; what is parked is of no use, and holds on to this session.
        drop(self.wakeful.session.abandon());
    }
}
