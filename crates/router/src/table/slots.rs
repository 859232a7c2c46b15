//! Where routes are kept: a cache line each, in words that are read under the table's lock.

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapAny, ArcSwapOption};
use tenantry_domain::{FeedVersion, Generation, RouteState, SchemaVersion, TenantId};
use uuid::Uuid;

use super::packed::Packed;
use super::terms::Terms;
use crate::sync::{AtomicU64, Ordering};

/// Slots of the first chunk; each is as large as all before it, up to [`CHUNK_MAX`]: four megabytes, which the system maps
/// in pages of two.
const CHUNK_MIN: u32 = 64;
const CHUNK_MAX: u32 = 65_536;
/// Chunks that grow.
const GROWING: usize = (CHUNK_MAX.ilog2() - CHUNK_MIN.ilog2() + 1) as usize;
/// All chunks: 67 million routes.
const CHUNKS: usize = GROWING + 1023;

const PRESENT: u64 = 1;
const HAS_TARGET: u64 = 2;
const STATE_FROM: u32 = 8;
const SNAPSHOT_FROM: u32 = 32;

/// What a lookup finds, copied: it stays as it is while the route goes on changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the route is kept, to look again without searching.
    pub(crate) slot: u32,
    pub(crate) tenant: TenantId,
    pub(crate) version: FeedVersion,
    pub(crate) generation: Generation,
    pub(crate) schema_version: SchemaVersion,
    pub(crate) state: RouteState,
    pub(crate) has_target: bool,
}

/// Counted in one word: no weak references.
pub(crate) type Kept = triomphe::Arc<Packed>;

/// One route.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Slot {
    tenant: [AtomicU64; 2],
    version: AtomicU64,
    generation: AtomicU64,
    schema_version: AtomicU64,
    /// Whether there is a route, its state, and the last snapshot that named it.
    marks: AtomicU64,
    /// What only the making of a pool needs.
    pub(super) packed: ArcSwapAny<Option<Kept>>,
    pub(super) terms: ArcSwapOption<Terms>,
}

impl Slot {
    /// What is there; only under the table's lock is it of one piece.
    #[inline]
    pub(super) fn look(&self, number: u32) -> Option<Found> {
        let marks = self.marks.load(Ordering::Relaxed);
        if marks & PRESENT == 0 {
            return None;
        }
        Some(Found {
            slot: number,
            tenant: self.tenant(),
            version: FeedVersion(self.version.load(Ordering::Relaxed).cast_signed()),
            generation: Generation(self.generation.load(Ordering::Relaxed).cast_signed()),
            schema_version: SchemaVersion(self.schema_version.load(Ordering::Relaxed).cast_signed()),
            state: state_of(marks),
            has_target: marks & HAS_TARGET != 0,
        })
    }

    #[inline]
    pub(super) fn tenant(&self) -> TenantId {
        let [high, low] = [&self.tenant[0], &self.tenant[1]].map(|word| word.load(Ordering::Relaxed));
        TenantId::new(Uuid::from_u64_pair(high, low))
    }

    pub(super) fn put(&self, route: &Found, snapshot: u32, packed: Kept, terms: Arc<Terms>) {
        let (high, low) = route.tenant.as_uuid().as_u64_pair();
        self.tenant[0].store(high, Ordering::Relaxed);
        self.tenant[1].store(low, Ordering::Relaxed);
        self.version.store(route.version.0.cast_unsigned(), Ordering::Relaxed);
        self.generation.store(route.generation.0.cast_unsigned(), Ordering::Relaxed);
        self.schema_version.store(route.schema_version.0.cast_unsigned(), Ordering::Relaxed);
        let target = if route.has_target { HAS_TARGET } else { 0 };
        let state = (route.state as u64) << STATE_FROM;
        self.marks.store(PRESENT | target | state | u64::from(snapshot) << SNAPSHOT_FROM, Ordering::Relaxed);
        self.packed.store(Some(packed));
        self.terms.store(Some(terms));
    }

    pub(super) fn clear(&self) {
        self.marks.store(0, Ordering::Relaxed);
        self.packed.store(None);
        self.terms.store(None);
    }

    /// Notes that a snapshot named the route. Readers do not care.
    pub(super) fn name_in(&self, snapshot: u32) {
        let marks = self.marks.load(Ordering::Relaxed) & u64::from(u32::MAX);
        self.marks.store(marks | u64::from(snapshot) << SNAPSHOT_FROM, Ordering::Relaxed);
    }

    pub(super) fn is_named_in(&self, snapshot: u32) -> bool {
        self.marks.load(Ordering::Relaxed) >> SNAPSHOT_FROM == u64::from(snapshot)
    }
}

#[inline]
fn state_of(marks: u64) -> RouteState {
    match marks >> STATE_FROM & 0xff {
        state if state == RouteState::Active as u64 => RouteState::Active,
        state if state == RouteState::Suspended as u64 => RouteState::Suspended,
        state if state == RouteState::Moving as u64 => RouteState::Moving,
        _ => RouteState::Provisioning,
    }
}

/// All slots, in chunks that never move.
pub(crate) struct Slots {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
}

impl Default for Slots {
    fn default() -> Self {
        Self { chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect() }
    }
}

/// The chunk that a slot is in, and its place there.
#[inline]
fn place_of(number: u32) -> (usize, usize) {
    if number >= CHUNK_MAX {
        return (GROWING - 1 + (number / CHUNK_MAX) as usize, (number % CHUNK_MAX) as usize);
    }
    match (number / CHUNK_MIN).checked_ilog2() {
        None => (0, number as usize),
        Some(doublings) => (doublings as usize + 1, (number - (CHUNK_MIN << doublings)) as usize),
    }
}

fn size_of(chunk: usize) -> usize {
    CHUNK_MAX.min(CHUNK_MIN << chunk.saturating_sub(1).min(16)) as usize
}

impl Slots {
    /// The most there can be.
    pub(super) const MOST: usize = CHUNK_MAX as usize * (CHUNKS - GROWING + 1);

    /// A slot that was made.
    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&Slot> {
        let (chunk, place) = place_of(number);
        self.chunks.get(chunk)?.get()?.get(place)
    }

    /// A slot, made if it is not there.
    pub(super) fn make(&self, number: u32) -> Option<&Slot> {
        let (chunk, place) = place_of(number);
        let slots = self.chunks.get(chunk)?.get_or_init(|| (0..size_of(chunk)).map(|_| Slot::default()).collect());
        slots.get(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for number in 0..3 * CHUNK_MAX {
            assert_eq!(place_of(number), next, "{number}");
            next.1 += 1;
            if next.1 == size_of(next.0) {
                next = (next.0 + 1, 0);
            }
        }
        let last = u32::try_from(Slots::MOST - 1).expect("fits");
        assert_eq!(place_of(last), (CHUNKS - 1, CHUNK_MAX as usize - 1));
    }
}
