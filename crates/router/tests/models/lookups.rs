//! Readers of the table's parts while one thread changes them.

use std::sync::Arc;

use shuttle::thread;
use tenantry_domain::{FeedVersion, Generation, Limits, RouteState, SchemaVersion, Slug, TenantId};
use uuid::Uuid;

use crate::table::index::Index;
use crate::table::packed::{Packed, Unpacked};
use crate::table::slots::{Found, Kept, Slots};
use crate::table::terms::Terms;
use crate::table::version_lock::VersionLock;

pub(crate) const MODELS: &[(&str, fn())] = &[
    ("lookups::removal_hides_nobody_else", removal_hides_nobody_else),
    ("lookups::growth_hides_nobody", growth_hides_nobody),
    ("lookups::a_name_leads_somewhere_at_every_moment", a_name_leads_somewhere_at_every_moment),
    ("lookups::a_route_is_of_one_piece", a_route_is_of_one_piece),
];

#[derive(Default)]
struct Names {
    lock: VersionLock,
    index: Index<2>,
}

impl Names {
    fn with(numbers: impl IntoIterator<Item = u32>, hash: fn(u32) -> u128) -> Arc<Self> {
        let names = Self::default();
        for number in numbers {
            names.index.insert(hash(number), number);
        }
        Arc::new(names)
    }

    fn find(&self, hash: u128) -> Option<u32> {
        self.lock.read(|| self.index.find(hash, |_| true))
    }
}

/// All of these would best be in the first bucket.
fn crowded(number: u32) -> u128 {
    u128::from(number + 1) << 40 | u128::from(number % 5) << 88
}

/// These are everywhere.
fn spread(number: u32) -> u128 {
    u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn removal_hides_nobody_else() {
    // Two buckets full, and one in the third: whoever is taken out, somebody moves.
    let names = Names::with(0..15, crowded);
    let writer = thread::spawn({
        let names = Arc::clone(&names);
        move || {
            for number in [0, 8] {
                names.lock.change(|| assert!(names.index.remove(crowded(number), number)));
            }
        }
    });
    let reader = thread::spawn({
        let names = Arc::clone(&names);
        move || {
            for number in [14, 13, 7] {
                assert_eq!(names.find(crowded(number)), Some(number), "it was there all the time");
            }
        }
    });
    writer.join().unwrap();
    reader.join().unwrap();
    assert_eq!((names.find(crowded(0)), names.find(crowded(8))), (None, None));
}

fn growth_hides_nobody() {
    let names = Names::with(0..49, spread);
    let writer = thread::spawn({
        let names = Arc::clone(&names);
        move || {
            let larger = names.index.grow(1).expect("it is full");
            names.lock.change(|| names.index.take(larger));
            names.lock.change(|| names.index.insert(spread(49), 49));
        }
    });
    for number in [0, 24, 48] {
        assert_eq!(names.find(spread(number)), Some(number), "it was there all the time");
    }
    writer.join().unwrap();
    assert_eq!(names.find(spread(49)), Some(49));
}

fn a_name_leads_somewhere_at_every_moment() {
    let names = Names::with(0..8, crowded);
    let writer = thread::spawn({
        let names = Arc::clone(&names);
        move || {
            // The host of one tenant becomes another's.
            names.lock.change(|| {
                assert!(names.index.remove(crowded(3), 3));
                names.index.insert(crowded(3), 100);
            });
        }
    });
    let mut last = 3;
    for _ in 0..3 {
        let found = names.find(crowded(3)).expect("it leads to the one or the other");
        assert!(found == last || found == 100, "never back in time");
        last = found;
    }
    writer.join().unwrap();
    assert_eq!(names.find(crowded(3)), Some(100));
}

fn a_route_is_of_one_piece() {
    let (lock, slots) = (VersionLock::default(), Slots::default());
    let route = |number: i64| Found {
        slot: 0,
        tenant: TenantId::new(Uuid::from_u64_pair(number.cast_unsigned(), number.cast_unsigned())),
        version: FeedVersion(number),
        generation: Generation(number),
        schema_version: SchemaVersion(number),
        state: if number % 2 == 0 { RouteState::Active } else { RouteState::Moving },
        has_target: number % 2 == 0,
    };
    let packed = move |number: i64| {
        Kept::new(Packed::of(&Unpacked { slug: &format!("t{number}"), hosts: Vec::new(), target: None }, false))
    };
    let terms = Arc::new(Terms { cluster: None, database: None, limits: Limits::default() });
    slots.make(0).expect("a slot").put(&route(1), 0, packed(1), Arc::clone(&terms));
    let shared = Arc::new((lock, slots));
    let writer = thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            let (lock, slots) = &*shared;
            let slot = slots.get(0).expect("a slot");
            lock.change(|| slot.put(&route(2), 0, packed(2), Arc::clone(&terms)));
            lock.change(|| slot.clear());
            lock.change(|| slot.put(&route(4), 0, packed(4), terms));
        }
    });
    let (lock, slots) = &*shared;
    let mut last = 1;
    for _ in 0..3 {
        let seen = lock.read(|| {
            let slot = slots.get(0)?;
            Some((slot.look(0)?, slot.packed.load_full()?))
        });
        if let Some((found, packed)) = seen {
            assert_eq!(found, route(found.version.0), "half a change");
            assert_eq!(packed.slug(), format!("t{}", found.version));
            assert!(found.version.0 >= last, "never back in time");
            last = found.version.0;
        } else {
            assert!(last < 4, "it is there in the end");
        }
    }
    writer.join().unwrap();
}
