//! One router's place in the feed.

use std::sync::Arc;

use bytes::Bytes;
use tenantry_domain::FeedVersion;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::FeedItem;
use super::feed::{HEARTBEAT, Heard, Place};
use super::leases::Inbox;
use super::packing::Packing;
use super::ring;
use super::snapshot::{Next, Reading};
use crate::error::ControlError;

/// Says nothing but that there is more to come.
const EMPTY_LINE: &[u8] = b"\n";
/// Most changes that a page brings to one who is behind: about a piece, which is all that a slow reader ties up.
const OLD_BATCH: i64 = 200;

/// Holds no bytes of its own between two pieces, however far behind it is.
pub(super) struct Follower {
    place: Place,
    packing: Packing,
    /// Everything up to this was told.
    version: Option<FeedVersion>,
    snapshot: Option<Reading>,
    heard: watch::Receiver<Heard>,
    /// The last heartbeat that was told.
    beat: u64,
    /// Where a router finds what it may hold of clusters' connections.
    inbox: Option<Inbox>,
    /// Which look into the catalog is to have been taken before it hears that it has everything, until it was told so: that
    /// is due at once, and not with the next heartbeat only.
    assured_after: Option<u64>,
}

impl Follower {
    pub(super) fn new(place: Place, after: Option<FeedVersion>, packing: Packing, inbox: Option<Inbox>) -> Self {
        let heard = place.feed.heard();
        let beat = heard.borrow().beat;
        // What was committed before it came is to be seen, whenever news of it arrives.
        let assured_after = Some(place.feed.ask());
        Self { place, packing, version: after, snapshot: None, heard, beat, inbox, assured_after }
    }

    /// Sees that changes are read for this form, at least as far as the follower is.
    pub(super) async fn find_place(&self) -> Result<(), ControlError> {
        let is_known = self.place.form().end().is_some_and(|end| self.version.is_none_or(|version| version <= end));
        if is_known { Ok(()) } else { self.place.feed.look_again().await }
    }

    /// The next piece.
    pub(super) async fn next(&mut self) -> Result<Bytes, ControlError> {
        loop {
            if let Some(snapshot) = &mut self.snapshot {
                match snapshot.next().await? {
                    Next::Piece(piece) => return self.packing.of(&piece),
                    Next::Patience => return self.packing.of_text(EMPTY_LINE.to_vec()),
                    Next::End(version) => {
                        self.version = Some(version);
                        self.snapshot = None;
                        self.find_place().await?;
                    }
                }
            }
            let Some(version) = self.version else {
                self.begin_snapshot();
                continue;
            };
            // The clusters are known by now.
            let leases = self.leases();
            if !leases.is_empty() {
                return self.packing.of_text(leases);
            }
            self.heard.mark_unchanged();
            let bytes = match self.place.form().place(version) {
                Some(ring::Place::Next(piece)) => {
                    self.version = Some(piece.upto());
                    piece.after(version, self.packing)?
                }
                Some(ring::Place::End) => self.wait(version).await?,
                Some(ring::Place::Before) => self.read_old(version).await?,
                // From another catalog's future: everything that was read since it came is older.
                Some(ring::Place::Beyond) => {
                    self.begin_snapshot();
                    continue;
                }
                None => {
                    self.place.feed.look_again().await?;
                    continue;
                }
            };
            // Versions that were drawn for nothing tell nothing.
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }

    /// What the router may hold, as far as it was not told yet.
    fn leases(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        for lease in self.inbox.iter_mut().flat_map(Inbox::news) {
            (self.place.feed.write)(&mut text, FeedItem::Lease(lease));
        }
        text
    }

    fn begin_snapshot(&mut self) {
        self.snapshot = Some(self.place.form().snapshot(&self.place.feed));
    }

    /// Waits for whatever comes; a heartbeat is an answer, anything else is looked for.
    async fn wait(&mut self, version: FeedVersion) -> Result<Bytes, ControlError> {
        let due = self.assured_after.and_then(|look| self.heard.borrow().assures(look, Instant::now()));
        if let Some(beat) = due {
            // What that look found goes first.
            if !self.place.form().is_at_end(version) {
                return Ok(Bytes::new());
            }
            (self.assured_after, self.beat) = (None, beat);
            // With its own version, which is all that was read: the last heartbeat may be of one that it has long had.
            let mut text = Vec::new();
            (self.place.feed.write)(&mut text, FeedItem::Heartbeat(version));
            return self.packing.of_text(text);
        }
        // A heartbeat that was read before it came would assure it of too much.
        let is_told = self.assured_after.is_some() || self.heard.borrow().beat == self.beat;
        let more_leases = async {
            match &mut self.inbox {
                Some(inbox) => inbox.changed().await,
                None => std::future::pending().await,
            }
        };
        if is_told {
            tokio::select! {
                heard = self.heard.changed() => heard.map_err(|_| ControlError::feed_interrupted())?,
                () = more_leases => return Ok(Bytes::new()),
            }
        }
        // What came with the heartbeat goes first.
        if self.assured_after.is_some() || !self.place.form().is_at_end(version) {
            return Ok(Bytes::new());
        }
        let heartbeat = {
            let heard = self.heard.borrow();
            (heard.beat != self.beat).then(|| (heard.beat, heard.heartbeat.clone()))
        };
        let Some((beat, heartbeat)) = heartbeat else { return Ok(Bytes::new()) };
        self.beat = beat;
        self.packing.of(&heartbeat)
    }

    /// Reads what is no longer kept from the catalog, a page at a time and when it is its turn.
    async fn read_old(&mut self, version: FeedVersion) -> Result<Bytes, ControlError> {
        let feed = Arc::clone(&self.place.feed);
        let Ok(turn) = timeout(HEARTBEAT, feed.catalog.acquire()).await else {
            return self.packing.of_text(EMPTY_LINE.to_vec());
        };
        let _turn = turn.map_err(ControlError::internal)?;
        let form = self.place.form();
        let Some(end) = form.end() else { return Ok(Bytes::new()) };
        let changes = feed.control.store().routes_after(version, end, OLD_BATCH, form.with_secrets).await?;
        if changes.oldest > version {
            self.begin_snapshot();
            return Ok(Bytes::new());
        }
        self.version = Some(changes.upto);
        let mut text = Vec::new();
        for change in changes.items {
            (feed.write)(&mut text, FeedItem::Change(change));
        }
        self.packing.of_text(text)
    }
}
