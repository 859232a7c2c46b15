//! An index from hashes to the numbers of slots, in words that one thread changes and any number may read under a
//! [`VersionLock`](super::version_lock::VersionLock).
//!
//! Entries stand in buckets of a cache line or two, each with a byte of every entry's hash in one word, so that a bucket is
//! compared as a whole: a short search that does not depend on what it finds lets the processor begin the next one before
//! the first has its answer from memory. A bucket that is full spills into the next. An entry keeps as much of the hash as its words hold: 32 bits in one word, which narrow a search
//! down, or 96 bits in two, which decide it. Removal pulls back what was spilt, so there are no marks to clear away.

use std::sync::OnceLock;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Tables that an index can go through; each is at least twice the one before.
const LEVELS: usize = 32;
/// Entries of a bucket: with their marks they fill one cache line, or two.
const WIDTH: usize = 7;
/// Buckets of the first table.
const LEAST: usize = 8;
/// Entries in a hundred places of a new table, and the most before there is a larger one.
const FILL_PERCENT: usize = 75;
const FILL_MAX_PERCENT: usize = 88;

/// An entry: a byte of the hash, and words with other bits of it, and in the lower half of the last one the number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry<const WORDS: usize> {
    mark: u8,
    words: [u64; WORDS],
}

/// Words of the same kind stand together.
#[repr(align(64))]
struct Bucket<const WORDS: usize> {
    /// A byte for each place; zero where it is free.
    marks: AtomicU64,
    words: [[AtomicU64; WIDTH]; WORDS],
}

/// In every byte.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The bit that all marks have, in every byte and in those of places.
const MARKED: u8 = 0x80;
const MARKED_ALL: u64 = ONES * MARKED as u64;
const MARKED_PLACES: u64 = MARKED_ALL >> 8;

/// Numbers by hash.
///
/// Smaller tables stay when a larger one takes their place, because a reader may be in them: together they are no larger
/// than the one in use. Whoever knows how many entries will come says so, and they are not made.
pub(crate) struct Index<const WORDS: usize> {
    levels: [OnceLock<Box<[Bucket<WORDS>]>>; LEVELS],
    level: AtomicUsize,
    /// Entries; only the writer looks.
    count: AtomicUsize,
}

impl<const WORDS: usize> Entry<WORDS> {
    /// The entry of a number under a hash.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "some bits are wanted")]
    fn of(hash: u128, number: u32) -> Self {
        let mut words: [u64; WORDS] = std::array::from_fn(|word| (hash >> (64 - 64 * word)) as u64);
        words[WORDS - 1] = (words[WORDS - 1] & !u64::from(u32::MAX)) | u64::from(number);
        Self { mark: (hash >> 88) as u8 | MARKED, words }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn number(last: u64) -> u32 {
    last as u32
}

/// The bucket where an entry would best be: the upper 32 bits of its hash, brought into the range (Daniel Lemire, "Fast
/// Random Integer Generation in an Interval", 2019).
#[allow(clippy::cast_possible_truncation, reason = "less than the number of buckets")]
fn best(first: u64, buckets: usize) -> usize {
    (((first >> 32) * buckets as u64) >> 32) as usize
}

fn after(at: usize, buckets: usize) -> usize {
    if at + 1 == buckets { 0 } else { at + 1 }
}

impl<const WORDS: usize> Bucket<WORDS> {
    fn new() -> Self {
        let words = std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)));
        Self { marks: AtomicU64::new(0), words }
    }

    /// The highest bit of each byte whose mark is this one; of those above the first, perhaps others (Henry S. Warren,
    /// "Hacker's Delight", 6-1).
    #[inline]
    fn matches(&self, mark: u8) -> u64 {
        let difference = self.marks.load(Ordering::Relaxed) ^ (ONES * u64::from(mark));
        difference.wrapping_sub(ONES) & !difference & MARKED_PLACES
    }

    #[inline]
    fn word(&self, word: usize, place: usize) -> u64 {
        self.words[word][place].load(Ordering::Relaxed)
    }

    #[inline]
    fn free(&self) -> Option<usize> {
        let free = !self.marks.load(Ordering::Relaxed) & MARKED_PLACES;
        (free != 0).then(|| place(free))
    }

    fn is_full(&self) -> bool {
        self.free().is_none()
    }

    fn mark(&self, place: usize) -> u8 {
        self.marks.load(Ordering::Relaxed).to_le_bytes()[place]
    }

    fn get(&self, place: usize) -> Option<Entry<WORDS>> {
        let mark = self.mark(place);
        (mark != 0).then(|| Entry { mark, words: std::array::from_fn(|word| self.word(word, place)) })
    }

    fn set(&self, place: usize, entry: Option<&Entry<WORDS>>) {
        let mut marks = self.marks.load(Ordering::Relaxed).to_le_bytes();
        marks[place] = entry.map_or(0, |entry| entry.mark);
        if let Some(entry) = entry {
            for (words, value) in self.words.iter().zip(entry.words) {
                words[place].store(value, Ordering::Relaxed);
            }
        }
        self.marks.store(u64::from_le_bytes(marks), Ordering::Relaxed);
    }
}

/// The place of the lowest bit.
#[inline]
fn place(bits: u64) -> usize {
    bits.trailing_zeros() as usize / 8 % WIDTH
}

fn empty<const WORDS: usize>(buckets: usize) -> Box<[Bucket<WORDS>]> {
    (0..buckets).map(|_| Bucket::new()).collect()
}

fn put<const WORDS: usize>(buckets: &[Bucket<WORDS>], entry: &Entry<WORDS>) {
    let mut at = best(entry.words[0], buckets.len());
    loop {
        if let Some(place) = buckets[at].free() {
            return buckets[at].set(place, Some(entry));
        }
        at = after(at, buckets.len());
    }
}

impl<const WORDS: usize> Default for Index<WORDS> {
    fn default() -> Self {
        let levels = std::array::from_fn(|_| OnceLock::new());
        let index = Self { levels, level: AtomicUsize::new(0), count: AtomicUsize::new(0) };
        index.levels[0].get_or_init(|| empty(LEAST));
        index
    }
}

impl<const WORDS: usize> Index<WORDS> {
    /// The table in use. A reader may see one that is no longer right: it then reads again.
    #[inline]
    fn buckets(&self) -> &[Bucket<WORDS>] {
        self.levels[self.level.load(Ordering::Acquire) % LEVELS].get().map_or(&[], |buckets| &buckets[..])
    }

    /// The first number under a hash of which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, hash: u128, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (buckets, wanted) = (self.buckets(), Entry::<WORDS>::of(hash, 0));
        let mut at = best(wanted.words[0], buckets.len());
        // Bounded: what is read in the middle of a change may have no free place.
        for _ in 0..buckets.len() {
            let bucket = buckets.get(at)?;
            let mut matches = bucket.matches(wanted.mark);
            while matches != 0 {
                let place = place(matches);
                let last = bucket.word(WORDS - 1, place);
                let is_under = last >> 32 == wanted.words[WORDS - 1] >> 32
                    && (0..WORDS - 1).all(|word| bucket.word(word, place) == wanted.words[word]);
                if is_under && is_it(number(last)) {
                    return Some(number(last));
                }
                matches &= matches - 1;
            }
            if !bucket.is_full() {
                return None;
            }
            at = after(at, buckets.len());
        }
        None
    }

    /// Puts a number under a hash. Room for it must have been made.
    pub(crate) fn insert(&self, hash: u128, number: u32) {
        put(self.buckets(), &Entry::of(hash, number));
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Takes the number away from under a hash; says whether it was there.
    pub(crate) fn remove(&self, hash: u128, number: u32) -> bool {
        let (buckets, wanted) = (self.buckets(), Entry::<WORDS>::of(hash, number));
        let mut at = best(wanted.words[0], buckets.len());
        let mut gap = loop {
            if let Some(place) = (0..WIDTH).find(|place| buckets[at].get(*place) == Some(wanted)) {
                break (at, place);
            }
            if !buckets[at].is_full() {
                return false;
            }
            at = after(at, buckets.len());
        };
        // What was spilt over the gap moves into it, and leaves another.
        let mut was_full = buckets[at].is_full();
        buckets[at].set(gap.1, None);
        while was_full {
            at = after(at, buckets.len());
            was_full = buckets[at].is_full();
            let way = |entry: &Entry<WORDS>, to: usize| {
                (to + buckets.len() - best(entry.words[0], buckets.len())) % buckets.len()
            };
            let spilt = (0..WIDTH).find_map(|place| {
                let entry = buckets[at].get(place)?;
                (way(&entry, gap.0) < way(&entry, at)).then_some((place, entry))
            });
            if let Some((place, entry)) = spilt {
                buckets[gap.0].set(gap.1, Some(&entry));
                buckets[at].set(place, None);
                gap = (at, place);
            }
        }
        self.count.store(self.count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        true
    }

    /// A larger table, where so many more entries need one; it is to be taken with [`Self::take`]. Nobody but the writer
    /// sees it until then, so this may take its time.
    pub(crate) fn grow(&self, more: usize) -> Option<usize> {
        let buckets = self.buckets();
        let entries = self.count.load(Ordering::Relaxed) + more;
        if entries * 100 <= buckets.len() * WIDTH * FILL_MAX_PERCENT {
            return None;
        }
        let wanted = (entries * 100).div_ceil(FILL_PERCENT * WIDTH).max(buckets.len() * 2);
        let next = (self.level.load(Ordering::Relaxed) + 1).min(LEVELS - 1);
        let larger = self.levels[next].get_or_init(|| empty(wanted));
        for bucket in buckets {
            for entry in (0..WIDTH).filter_map(|place| bucket.get(place)) {
                put(larger, &entry);
            }
        }
        Some(next)
    }

    /// Takes a larger table into use.
    pub(crate) fn take(&self, level: usize) {
        self.level.store(level, Ordering::Release);
    }
}
