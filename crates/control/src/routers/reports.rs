//! Reports of many routers, written together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenantry_store::{ConnectionDemand, RouterReport};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use crate::control::Control;
use crate::error::ControlError;

/// This replica writes at most once in so long, however many routers report.
const COALESCE: Duration = Duration::from_millis(100);

/// A report, and who waits for it to be written.
type Waiting = (RouterReport, oneshot::Sender<()>);

/// One writer at a time: whoever has the turn writes all that came meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<Vec<Waiting>>,
    /// When was last written.
    turn: tokio::sync::Mutex<Option<Instant>>,
}

impl Reports {
    /// Returns once the report is written.
    pub(crate) async fn add(&self, control: &Control, report: RouterReport) -> Result<(), ControlError> {
        let (tell, mut told) = oneshot::channel();
        self.waiting().push((report, tell));
        let mut written_at = self.turn.lock().await;
        match told.try_recv() {
            Ok(()) => return Ok(()),
            // Whoever had the turn took this report along and failed.
            Err(TryRecvError::Closed) => {
                return Err(ControlError::Unavailable {
                    reason: "the report was not taken down".to_owned(),
                    retry_after: Duration::from_secs(1),
                    source: None,
                });
            }
            Err(TryRecvError::Empty) => {}
        }
        if let Some(at) = *written_at {
            tokio::time::sleep_until(at + COALESCE).await;
        }
        let batch = std::mem::take(&mut *self.waiting());
        let store = control.store();
        let (reports, waiting): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        *written_at = Some(Instant::now());
        store.report_routers(&reports).await?;
        let demands: Vec<ConnectionDemand> = reports.into_iter().flat_map(|report| report.demands).collect();
        if let Some(serial) = store.take_demands(&demands).await? {
            control.signals().raise_leases(serial);
        }
        for waiting in waiting {
            // Nobody waiting is no error: the report is written all the same.
            let _ = waiting.send(());
        }
        Ok(())
    }

    /// Nothing panics while it holds the lock.
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
