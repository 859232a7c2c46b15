//! Where routes are kept: a cache line each, in words that are read under the table's lock.

use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwapAny, ArcSwapOption};
use tenantry_domain::{FeedVersion, Generation, RouteState, SchemaVersion, TenantId};
use uuid::Uuid;

use super::packed::Packed;
use super::terms::Terms;
use crate::sync::{AtomicU64, Ordering};

/// Slots that are made at once: a quarter of a megabyte.
const CHUNK: usize = 4096;
/// Most chunks: 67 million routes.
const CHUNKS: usize = 16 * 1024;

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
    pub(crate) packed: ArcSwapAny<Option<Kept>>,
    pub(crate) terms: ArcSwapOption<Terms>,
}

impl Slot {
    /// What is there; only under the table's lock is it of one piece.
    #[inline]
    pub(crate) fn look(&self, number: u32) -> Option<Found> {
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
    pub(crate) fn tenant(&self) -> TenantId {
        let [high, low] = [&self.tenant[0], &self.tenant[1]].map(|word| word.load(Ordering::Relaxed));
        TenantId::new(Uuid::from_u64_pair(high, low))
    }

    pub(crate) fn put(&self, route: &Found, snapshot: u32, packed: Kept, terms: Arc<Terms>) {
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

    pub(crate) fn clear(&self) {
        self.marks.store(0, Ordering::Relaxed);
        self.packed.store(None);
        self.terms.store(None);
    }

    /// Notes that a snapshot named the route. Readers do not care.
    pub(crate) fn name_in(&self, snapshot: u32) {
        let marks = self.marks.load(Ordering::Relaxed) & u64::from(u32::MAX);
        self.marks.store(marks | u64::from(snapshot) << SNAPSHOT_FROM, Ordering::Relaxed);
    }

    pub(crate) fn is_named_in(&self, snapshot: u32) -> bool {
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

impl Slots {
    /// The most there can be.
    pub(crate) const MOST: usize = CHUNK * CHUNKS;

    /// A slot that was made.
    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&Slot> {
        let number = number as usize;
        self.chunks.get(number / CHUNK)?.get()?.get(number % CHUNK)
    }

    /// A slot, made if it is not there.
    pub(crate) fn make(&self, number: u32) -> Option<&Slot> {
        let chunk = self.chunks.get(number as usize / CHUNK)?;
        chunk.get_or_init(|| (0..CHUNK).map(|_| Slot::default()).collect()).get(number as usize % CHUNK)
    }
}
