//! The one reader of changes, and what it tells those who follow.
//!
//! A thousand followers cost the catalog what one does: changes are read once, when news of them comes, and kept packed.
//! Versions become visible in their order (see the store), so what was read up to one is all there is up to that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tenantry_domain::{DisplayName, FeedVersion, Scope};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::follower::Follower;
use super::form::Form;
use super::leases::Leases;
use super::packing::{Packing, pack};
use super::ring::Piece;
use super::{FeedItem, WriteItem};
use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::routers::presence::{Presence, Present};

/// A router hears something this often, so that it can tell silence from a dead connection.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Changes that come closer together than this are told together.
const COALESCE: Duration = Duration::from_millis(10);
/// Most changes or routes that one look into the catalog brings.
pub(super) const BATCH: i64 = 1_000;
/// Followers that read old changes from the catalog at the same time; the others wait for their turn.
const CATALOG_READERS: usize = 4;
/// The pause after a look that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a follower waits for a look into the catalog.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The route feed of one replica. Cheap to clone; all clones are the same feed.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) control: Control,
    pub(super) write: WriteItem,
    pub(super) ended: CancellationToken,
    /// Turns at the catalog for those who are behind.
    pub(super) catalog: Semaphore,
    /// With passwords, and without.
    forms: [Form; 2],
    heard: watch::Sender<Heard>,
    /// Looks into the catalog that were asked for.
    asked: AtomicU64,
    wanted: Notify,
    presence: Arc<Presence>,
    leases: Arc<Leases>,
}

/// What the reader of changes tells.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Looks up to this one that was asked for are done.
    pub(super) answered: u64,
    /// Whether the last of them failed.
    is_failing: bool,
    /// When one last succeeded.
    looked_at: Option<Instant>,
    /// Rises with each heartbeat.
    pub(super) beat: u64,
    /// The last heartbeat, packed once for all.
    pub(super) heartbeat: Bytes,
}

impl Heard {
    /// The last heartbeat, where what was read since a look was asked for is as new as a heartbeat says that it is. While
    /// the catalog is not heard, nobody knows.
    pub(super) fn assures(&self, look: u64, now: Instant) -> Option<u64> {
        let is_recent = self.looked_at.is_some_and(|at| now.duration_since(at) < HEARTBEAT * 2);
        (self.answered >= look && !self.is_failing && is_recent).then_some(self.beat)
    }
}

/// How somebody follows.
#[derive(Debug, Clone)]
pub struct Follow {
    /// The last version that it has; a snapshot comes first when it is absent or too old.
    pub after: Option<FeedVersion>,
    /// Its name, where it is a router.
    pub router: Option<DisplayName>,
    /// How it takes the bytes.
    pub packing: Packing,
    /// A reader that takes longer for what it was given is cut off.
    pub patience: Duration,
}

impl Feed {
    /// The feed of a replica. `write` says how an item looks.
    pub fn new(control: Control, write: WriteItem) -> Self {
        let inner = Inner {
            control,
            write,
            ended: CancellationToken::new(),
            catalog: Semaphore::new(CATALOG_READERS),
            forms: [Form::new(true), Form::new(false)],
            heard: watch::Sender::default(),
            asked: AtomicU64::new(0),
            wanted: Notify::new(),
            presence: Arc::default(),
            leases: Arc::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads changes for those who follow, until told to stop.
    pub async fn run(&self, stop: &CancellationToken) {
        let _ended = self.inner.ended.clone().drop_guard();
        tokio::join!(self.inner.read(stop), self.inner.presence.run(&self.inner.control, stop));
    }

    /// Changes in commit order after a version, or a snapshot and then changes, in pieces of whole lines; with passwords
    /// for a caller that may see them. Endless; an error ends it, and whoever reads comes back with what it has.
    pub async fn follow(
        &self,
        caller: &Caller,
        follow: Follow,
    ) -> Result<impl Stream<Item = Result<Bytes, ControlError>> + Send + use<>, ControlError> {
        caller.require_fleet_wide(Scope::RoutesRead)?;
        let with_secrets = caller.scopes.allows(Scope::RoutesSecrets);
        let router = follow.router.as_ref();
        let present = router.map(|router| self.inner.presence.enter(router, follow.after.unwrap_or_default()));
        let inbox = router.map(|router| self.inner.leases.follow(router));
        let place = Place::enter(Arc::clone(&self.inner), with_secrets, present);
        let follower = Follower::new(place, follow.after, follow.packing, inbox);
        // Where the catalog does not answer, better no answer than one that ends at once.
        follower.find_place().await?;
        let head = stream::iter(follow.packing.head().map(Ok));
        let state = (follower, None::<Instant>, follow.patience);
        Ok(head.chain(stream::try_unfold(state, |(mut follower, given_at, patience)| async move {
            if given_at.is_some_and(|at| at.elapsed() > patience) {
                metrics::counter!("tenantry_feed_cut_total").increment(1);
                info!("a reader of the route feed is too slow; it is cut off and may resume");
                return Ok(None);
            }
            let bytes = follower.next().await?;
            Ok(Some((bytes, (follower, Some(Instant::now()), patience))))
        })))
    }
}

impl Inner {
    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// Asks for a look into the catalog that begins after now; [`Heard::answered`] says when it is done.
    pub(super) fn ask(&self) -> u64 {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        asked
    }

    /// Waits for a look into the catalog that begins after now.
    pub(super) async fn look_again(&self) -> Result<(), ControlError> {
        let mut heard = self.heard.subscribe();
        let asked = self.ask();
        let answer = timeout(LOOK_MAX, heard.wait_for(|heard| heard.answered >= asked)).await;
        match answer {
            Ok(Ok(heard)) if !heard.is_failing => Ok(()),
            _ => Err(ControlError::feed_interrupted()),
        }
    }

    async fn read(&self, stop: &CancellationToken) {
        let (mut news, mut leases) = (self.control.signals().feed(), self.control.signals().leases());
        let mut beat = tokio::time::interval(HEARTBEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut position = None;
        let mut is_failing = false;
        loop {
            let is_beat = tokio::select! {
                () = stop.cancelled() => return,
                _ = beat.tick() => true,
                () = self.wanted.notified() => false,
                () = risen(&mut news, position) => false,
                Ok(()) = leases.changed() => false,
                () = tokio::time::sleep(RETRY), if is_failing => false,
            };
            let looked_at = Instant::now();
            is_failing = self.look(&mut position, is_beat).await.is_err();
            tokio::time::sleep_until(looked_at + COALESCE).await;
        }
    }

    /// One look. No heartbeat follows one that failed: silence says that nothing is known.
    async fn look(&self, position: &mut Option<FeedVersion>, is_beat: bool) -> Result<(), ControlError> {
        let asked = self.asked.load(Ordering::SeqCst);
        let outcome = self.read_changes(position).await;
        // Routers keep what they have meanwhile.
        if let Err(error) = self.leases.read(&self.control).await {
            debug!(%error, "leases of connections cannot be read; trying again");
        }
        let was_failing = self.heard.borrow().is_failing;
        match &outcome {
            Err(error) if !was_failing => warn!(%error, "changes of routes cannot be read; trying again"),
            Ok(()) if was_failing => info!("changes of routes can be read again"),
            _ => {}
        }
        let heartbeat = match (is_beat && outcome.is_ok(), *position) {
            (true, Some(version)) => {
                let mut text = Vec::new();
                (self.write)(&mut text, FeedItem::Heartbeat(version));
                Some(pack(&text)?)
            }
            _ => None,
        };
        self.heard.send_modify(|heard| {
            heard.answered = asked;
            heard.is_failing = outcome.is_err();
            if outcome.is_ok() {
                heard.looked_at = Some(Instant::now());
            }
            if let Some(heartbeat) = heartbeat {
                heard.beat += 1;
                heard.heartbeat = heartbeat;
            }
        });
        if is_beat {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("tenantry_feed_bytes").set(self.forms.iter().map(Form::bytes).sum::<usize>() as f64);
        }
        outcome
    }

    async fn read_changes(&self, position: &mut Option<FeedVersion>) -> Result<(), ControlError> {
        let wanted: Vec<&Form> = self.forms.iter().filter(|form| form.tidy()).collect();
        if wanted.is_empty() {
            *position = None;
            return Ok(());
        }
        let store = self.control.store();
        let current = store.feed_version().await?.current;
        // Beyond the present is where a catalog was that is no more.
        let mut at = position.filter(|at| *at <= current).unwrap_or(current);
        let begin = |at| wanted.iter().for_each(|form| form.begin_at(at));
        begin(at);
        *position = Some(at);
        let with_secrets = wanted.iter().any(|form| form.with_secrets);
        while at < current {
            let changes = store.routes_after(at, current, BATCH, with_secrets).await?;
            if changes.oldest > at {
                // Removals after it were forgotten while nothing could be read; everybody gets a snapshot.
                at = current;
                begin(at);
            } else {
                for form in &wanted {
                    form.push(Piece::cut(&changes, at, form.with_secrets, self.write)?);
                }
                at = changes.upto;
            }
            *position = Some(at);
            self.heard.send_modify(|_| ());
        }
        Ok(())
    }
}

/// Waits until something newer is heard of than what was read; without end while nobody reads.
async fn risen(news: &mut watch::Receiver<FeedVersion>, position: Option<FeedVersion>) {
    let Some(position) = position else { return std::future::pending().await };
    // A closed channel means that this replica stops.
    while news.changed().await.is_ok() {
        if *news.borrow_and_update() > position {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// A follower's place among the readers of a form, given back with its end.
pub(super) struct Place {
    pub(super) feed: Arc<Inner>,
    form: usize,
    _present: Option<Present>,
}

impl Place {
    fn enter(feed: Arc<Inner>, with_secrets: bool, present: Option<Present>) -> Self {
        let place = Self { form: usize::from(!with_secrets), feed, _present: present };
        place.form().come();
        metrics::gauge!("tenantry_feed_followers").increment(1.0);
        place
    }

    pub(super) fn form(&self) -> &Form {
        &self.feed.forms[self.form]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.form().leave();
        metrics::gauge!("tenantry_feed_followers").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_has_everything_once_a_later_look_succeeded() {
        let (mut heard, now) = (Heard { beat: 3, ..Heard::default() }, Instant::now());
        assert_eq!(heard.assures(0, now), None, "nothing was read yet");
        heard.looked_at = Some(now);
        assert_eq!(heard.assures(1, now), None, "that was before it came");
        heard.answered = 1;
        assert_eq!(heard.assures(1, now + HEARTBEAT), Some(3), "the next look is under way");
        assert_eq!(heard.assures(1, now + HEARTBEAT * 2), None, "it does not come back");
        heard.is_failing = true;
        assert_eq!(heard.assures(1, now), None, "nobody knows what is new");
    }
}
