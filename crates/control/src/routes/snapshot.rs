//! A picture of everything, packed once for all who come.
//!
//! It is read page by page, and nothing is held in the catalog meanwhile. So a page may be newer than the picture's
//! version; whatever changed since is told once more after the end, and readers drop what they know. Whoever comes while
//! it is being made reads along.

use std::sync::Arc;

use bytes::Bytes;
use tenantry_domain::FeedVersion;
use tenantry_store::RouteChange;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::feed::{BATCH, HEARTBEAT, Inner};
use super::packing::{PIECE_BYTES, pack};
use super::{FeedItem, WriteItem};
use crate::error::ControlError;

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    pieces: Vec<Bytes>,
    /// The version that it is of, once it is complete.
    complete: Option<FeedVersion>,
}

/// One picture. Making it goes on whoever reads, and ends with the feed.
#[derive(Debug)]
pub(super) struct Snapshot {
    progress: watch::Receiver<Progress>,
}

impl Snapshot {
    /// Begins to make one.
    pub(super) fn begin(feed: Arc<Inner>, with_secrets: bool) -> Self {
        let (tell, progress) = watch::channel(Progress::default());
        let ended = feed.ended.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            match ended.run_until_cancelled(make(&feed, with_secrets, &tell)).await {
                Some(Ok(version)) => {
                    let bytes: usize = tell.borrow().pieces.iter().map(Bytes::len).sum();
                    debug!(%version, bytes, elapsed_ms = began.elapsed().as_millis(), "a snapshot of the routes is made");
                }
                Some(Err(error)) => warn!(%error, "a snapshot of the routes was not made; its readers come back"),
                None => {}
            }
        });
        Self { progress }
    }

    /// Whether whoever reads it can go on with changes after `start`. While it is being made that is hoped.
    pub(super) fn leads_to(&self, start: FeedVersion) -> bool {
        match self.progress.borrow().complete {
            Some(version) => version >= start,
            None => self.progress.has_changed().is_ok(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.progress.borrow().complete.is_some()
    }

    pub(super) fn read(&self) -> Reading {
        Reading { progress: self.progress.clone(), next: 0 }
    }
}

/// What a reader of a snapshot gets next.
pub(super) enum Next {
    Piece(Bytes),
    /// Nothing yet, for as long as a heartbeat waits.
    Patience,
    /// It was all; changes after this version follow.
    End(FeedVersion),
}

/// One reader's place in a snapshot.
#[derive(Debug)]
pub(super) struct Reading {
    progress: watch::Receiver<Progress>,
    next: usize,
}

impl Reading {
    pub(super) async fn next(&mut self) -> Result<Next, ControlError> {
        loop {
            {
                let progress = self.progress.borrow_and_update();
                if let Some(piece) = progress.pieces.get(self.next) {
                    self.next += 1;
                    return Ok(Next::Piece(piece.clone()));
                }
                if let Some(version) = progress.complete {
                    return Ok(Next::End(version));
                }
            }
            match timeout(HEARTBEAT, self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(ControlError::feed_interrupted()),
                Err(_) => return Ok(Next::Patience),
            }
        }
    }
}

/// Gathers lines and tells them in pieces.
struct Teller<'t> {
    text: Vec<u8>,
    write: WriteItem,
    tell: &'t watch::Sender<Progress>,
}

impl Teller<'_> {
    fn say(&mut self, item: FeedItem) -> Result<(), ControlError> {
        (self.write)(&mut self.text, item);
        if self.text.len() >= PIECE_BYTES { self.pass_on() } else { Ok(()) }
    }

    fn pass_on(&mut self) -> Result<(), ControlError> {
        let piece = pack(&self.text)?;
        self.text.clear();
        if !piece.is_empty() {
            self.tell.send_modify(|progress| progress.pieces.push(piece));
        }
        Ok(())
    }
}

async fn make(feed: &Inner, with_secrets: bool, tell: &watch::Sender<Progress>) -> Result<FeedVersion, ControlError> {
    let store = feed.control.store();
    let mut teller = Teller { text: Vec::with_capacity(PIECE_BYTES), write: feed.write, tell };
    let (version, routes) = store.count_routes().await?;
    teller.say(FeedItem::SnapshotBegin { version, routes })?;
    for cluster in store.cluster_routes().await? {
        teller.say(FeedItem::Change(RouteChange::Cluster(cluster)))?;
    }
    teller.pass_on()?;
    let mut after = None;
    loop {
        let page = store.routes_page(after, BATCH, with_secrets).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.tenant);
        for route in page {
            teller.say(FeedItem::Change(RouteChange::Route(Box::new(route))))?;
        }
    }
    // Routes told above may lead to clusters that came since the beginning.
    for cluster in store.cluster_routes().await?.into_iter().filter(|cluster| cluster.version > version) {
        teller.say(FeedItem::Change(RouteChange::Cluster(cluster)))?;
    }
    teller.say(FeedItem::SnapshotEnd(version))?;
    teller.pass_on()?;
    tell.send_modify(|progress| progress.complete = Some(version));
    Ok(version)
}
