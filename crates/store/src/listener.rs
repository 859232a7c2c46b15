//! Hearing of changes as they commit.

use std::time::Duration;

use futures::{StreamExt, stream};
use tenantry_domain::{FeedVersion, LeaseSerial, OperationId, RolloutId};
use tokio::sync::mpsc;
use tokio_postgres::AsyncMessage;
use tracing::{debug, warn};

use crate::error::StoreError;
use crate::store::Connector;

/// The one channel; its payload says what changed.
const CHANNEL: &str = "tenantry";
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Notices that may wait to be received; beyond that the connection waits.
const BACKLOG: usize = 1024;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// An operation was added.
    Queued(OperationId),
    /// An operation was woken, or put off.
    Operation(OperationId),
    /// An operation has ended.
    Ended(OperationId),
    /// A route changed; this is its version.
    Feed(FeedVersion),
    /// Routers were granted other leases; this is the newest serial.
    Leases(LeaseSerial),
    /// A rollout changed.
    Rollout(RolloutId),
    /// A pass of the upkeep of this name is wanted at once.
    Reconciler(String),
    /// The connection is new: anything may have changed meanwhile.
    Reconnected,
}

/// A connection that listens, made anew whenever it is lost. Ends when dropped.
#[derive(Debug)]
pub struct Listener {
    notices: mpsc::Receiver<Notice>,
}

impl Listener {
    pub(crate) fn new(connector: Connector) -> Self {
        let (sender, notices) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            let mut backoff = BACKOFF_MIN;
            while !sender.is_closed() {
                match listen(&connector, &sender, &mut backoff).await {
                    Ok(()) => debug!("the listening connection ended"),
                    Err(error) => warn!(%error, "the listening connection was lost; connecting again"),
                }
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        });
        Self { notices }
    }

    /// The next notice. Waits without end while nothing changes.
    pub async fn recv(&mut self) -> Notice {
        match self.notices.recv().await {
            Some(notice) => notice,
            // The task ends only with this receiver or the runtime.
            None => std::future::pending().await,
        }
    }
}

async fn listen(
    connector: &Connector,
    sender: &mpsc::Sender<Notice>,
    backoff: &mut Duration,
) -> Result<(), StoreError> {
    let (client, mut connection) = connector.config.connect(connector.tls.clone()).await?;
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let (relay, mut relayed) = mpsc::channel(BACKLOG);
    let pump = async {
        while let Some(message) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message?
                && relay.send(notification.payload().to_owned()).await.is_err()
            {
                break;
            }
        }
        Ok::<(), StoreError>(())
    };
    let work = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        *backoff = BACKOFF_MIN;
        if sender.send(Notice::Reconnected).await.is_err() {
            return Ok(());
        }
        while let Some(payload) = relayed.recv().await {
            let Some(notice) = parse(&payload) else { continue };
            if sender.send(notice).await.is_err() {
                return Ok(());
            }
        }
        Ok::<(), StoreError>(())
    };
    tokio::select! {
        outcome = pump => outcome,
        outcome = work => outcome,
        () = sender.closed() => Ok(()),
    }
}

fn parse(payload: &str) -> Option<Notice> {
    let (kind, value) = payload.split_once(':')?;
    match kind {
        "queued" => value.parse().ok().map(Notice::Queued),
        "operation" => value.parse().ok().map(Notice::Operation),
        "ended" => value.parse().ok().map(Notice::Ended),
        "feed" => value.parse().ok().map(|version| Notice::Feed(FeedVersion(version))),
        "leases" => value.parse().ok().map(|serial| Notice::Leases(LeaseSerial(serial))),
        "rollout" => value.parse().ok().map(Notice::Rollout),
        "reconciler" => Some(Notice::Reconciler(value.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_payloads_are_passed_over() {
        assert_eq!(parse("feed:42"), Some(Notice::Feed(FeedVersion(42))));
        for strange in ["", "feed", "feed:x", "operation:1", "other:1"] {
            assert_eq!(parse(strange), None, "{strange}");
        }
    }
}
