//! An index from hashes to the numbers of slots: open addressing with linear probing, in words that one thread changes
//! and any number may read under a [`VersionLock`](super::version_lock::VersionLock).
//!
//! An entry keeps as much of the hash as its words hold: 32 bits in one word, which narrow a search down, or 96 bits in
//! two, which decide it. Removal shifts back what follows, so there are no marks to clear away.

use std::sync::OnceLock;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Sizes that an index can go through; each is at least twice the one before.
const LEVELS: usize = 32;
/// Places of the first.
const LEAST: usize = 64;
/// Entries in a hundred places.
const LOAD_PERCENT: usize = 75;

type Places<const WORDS: usize> = Box<[[AtomicU64; WORDS]]>;

/// Numbers by hash.
///
/// Smaller tables stay when a larger one takes their place, because a reader may be in them: together they are no larger
/// than the one in use. Whoever knows how many entries will come says so, and they are not made.
pub(crate) struct Index<const WORDS: usize> {
    levels: [OnceLock<Places<WORDS>>; LEVELS],
    level: AtomicUsize,
    /// Entries; only the writer looks.
    count: AtomicUsize,
}

/// The words of an entry.
type Entry<const WORDS: usize> = [u64; WORDS];

/// The words under which a number stands; zero marks a free place, so numbers are kept one higher.
fn entry<const WORDS: usize>(hash: u128, number: u32) -> Entry<WORDS> {
    let mut words = [0; WORDS];
    for (position, word) in words.iter_mut().enumerate() {
        *word = part(hash, 64 * position);
    }
    words[WORDS - 1] = (words[WORDS - 1] & !u64::from(u32::MAX)) | (u64::from(number) + 1);
    words
}

/// Sixty-four bits of a hash, from one of the upper ones on.
#[allow(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn part(hash: u128, from: usize) -> u64 {
    ((hash << from) >> 64) as u64
}

/// The number in an entry; `None` where the place is free.
#[allow(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
fn number<const WORDS: usize>(entry: &Entry<WORDS>) -> Option<u32> {
    (entry[WORDS - 1] as u32).checked_sub(1)
}

/// Whether an entry stands under a hash, as far as it can tell.
fn is_under<const WORDS: usize>(found: &Entry<WORDS>, hash: u128) -> bool {
    let wanted: Entry<WORDS> = entry(hash, 0);
    let last = WORDS - 1;
    found[..last] == wanted[..last] && found[last] >> 32 == wanted[last] >> 32
}

/// The place where an entry would best be: its upper 32 bits, brought into the range (Daniel Lemire, "Fast Random Integer
/// Generation in an Interval", 2019).
#[allow(clippy::cast_possible_truncation, reason = "less than the number of places")]
fn best_place<const WORDS: usize>(words: &Entry<WORDS>, places: usize) -> usize {
    (((words[0] >> 32) * places as u64) >> 32) as usize
}

impl<const WORDS: usize> Default for Index<WORDS> {
    fn default() -> Self {
        let index = Self {
            levels: std::array::from_fn(|_| OnceLock::new()),
            level: AtomicUsize::new(0),
            count: AtomicUsize::new(0),
        };
        index.levels[0].get_or_init(|| empty(LEAST));
        index
    }
}

fn empty<const WORDS: usize>(places: usize) -> Places<WORDS> {
    (0..places).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect()
}

impl<const WORDS: usize> Index<WORDS> {
    /// The table in use. A reader may see a table that is not yet, or no longer, the right one: it then reads again.
    fn places(&self) -> &[[AtomicU64; WORDS]] {
        self.levels[self.level.load(Ordering::Acquire)].get().map_or(&[], |places| &places[..])
    }

    /// The first number under a hash of which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u128, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let places = self.places();
        let mut at = best_place(&entry::<WORDS>(hash, 0), places.len());
        // Bounded: what is read in the middle of a change may have no free place.
        for _ in 0..places.len() {
            let found = load(&places[at]);
            let number = number(&found)?;
            if is_under(&found, hash) && is_it(number) {
                return Some(number);
            }
            at = after(at, places.len());
        }
        None
    }

    /// Puts a number under a hash. Room for it must have been made.
    pub(crate) fn insert(&self, hash: u128, number: u32) {
        put(self.places(), entry(hash, number));
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes the number away from under a hash; says whether it was there.
    pub(crate) fn remove(&self, hash: u128, wanted: u32) -> bool {
        let places = self.places();
        let mut gap = best_place(&entry::<WORDS>(hash, 0), places.len());
        loop {
            let found = load(&places[gap]);
            match number(&found) {
                None => return false,
                Some(number) if number == wanted && is_under(&found, hash) => break,
                Some(_) => gap = after(gap, places.len()),
            }
        }
        // What comes behind the gap moves into it, unless it is nearer to its best place where it is.
        let mut at = after(gap, places.len());
        loop {
            let next = load(&places[at]);
            if number(&next).is_none() {
                break;
            }
            let best = best_place(&next, places.len());
            let way = |to: usize| (to + places.len() - best) % places.len();
            if way(gap) < way(at) {
                store(&places[gap], &next);
                gap = at;
            }
            at = after(at, places.len());
        }
        store(&places[gap], &[0; WORDS]);
        self.count.store(self.count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        true
    }

    /// A larger table, where so many more entries need one; it is to be taken with [`Self::take`]. Nobody but the writer
    /// sees it until then, so this may take its time.
    pub(crate) fn grow(&self, more: usize) -> Option<usize> {
        let places = self.places();
        let wanted = (self.count.load(Ordering::Relaxed) + more) * 100 / LOAD_PERCENT + 1;
        if wanted <= places.len() {
            return None;
        }
        let next = (self.level.load(Ordering::Relaxed) + 1).min(LEVELS - 1);
        let larger = self.levels[next].get_or_init(|| empty(wanted.max(places.len() * 2)));
        for place in places {
            let found = load(place);
            if number(&found).is_some() {
                put(larger, found);
            }
        }
        Some(next)
    }

    /// Takes a larger table into use.
    pub(crate) fn take(&self, level: usize) {
        self.level.store(level, Ordering::Release);
    }
}

fn after(at: usize, places: usize) -> usize {
    if at + 1 == places { 0 } else { at + 1 }
}

fn load<const WORDS: usize>(place: &[AtomicU64; WORDS]) -> Entry<WORDS> {
    std::array::from_fn(|word| place[word].load(Ordering::Relaxed))
}

fn store<const WORDS: usize>(place: &[AtomicU64; WORDS], entry: &Entry<WORDS>) {
    for (word, value) in place.iter().zip(entry) {
        word.store(*value, Ordering::Relaxed);
    }
}

fn put<const WORDS: usize>(places: &[[AtomicU64; WORDS]], entry: Entry<WORDS>) {
    let mut at = best_place(&entry, places.len());
    while number(&load(&places[at])).is_some() {
        at = after(at, places.len());
    }
    store(&places[at], &entry);
}
