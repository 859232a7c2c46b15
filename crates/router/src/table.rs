//! The routing table: what the feed said last, found by id, slug or host without a lock or an allocation.
//!
//! One task writes, any number of threads read, and a reader sees each change as a whole or not at all. A lookup touches
//! two cache lines, however many tenants there are: a place of an index and the slot that it names.

mod clusters;
mod index;
mod names;
mod packed;
mod prepared;
mod servers;
mod slots;
mod terms;
mod version_lock;

use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tenantry_domain::{ClusterId, FeedVersion, Limits, Route, Slug, TenantId};

pub(crate) use self::clusters::{ClusterChange, ClusterEntry, Clusters};
use self::index::Index;
use self::names::{Fingerprints, NameKind};
pub(crate) use self::packed::Packed;
pub(crate) use self::prepared::{Prepared, UnusableRoute};
pub(crate) use self::servers::{ReplicaEntry, ServerEntry};
pub(crate) use self::slots::Found;
use self::slots::{Kept, Slots};
use self::terms::AllTerms;
pub(crate) use self::terms::Terms;
use self::version_lock::VersionLock;

/// Routes and clusters as the feed last said.
pub(crate) struct Table {
    lock: VersionLock,
    ids: Index<1>,
    names: Index<2>,
    slots: Slots,
    id_hash: RandomState,
    fingerprints: Fingerprints,
    writer: Mutex<Writer>,
    pub(crate) clusters: Clusters,
}

/// What a route's names are, kept while somebody looks at them.
#[derive(Clone)]
pub(crate) struct Texts(Option<Kept>);

impl Texts {
    /// The slug; empty where the route is gone.
    pub(crate) fn slug(&self) -> &str {
        self.0.as_ref().map_or("", |packed| packed.slug())
    }
}

/// What only the writer needs.
#[derive(Default)]
struct Writer {
    terms: AllTerms,
    /// Slots below this were used.
    next: u32,
    free: Vec<u32>,
    count: usize,
    /// The snapshot that is being applied, or was last.
    snapshot: u32,
}

impl Table {
    /// An empty one, with a router's connections to each cluster that the control plane leases none of.
    pub(crate) fn new(cluster_connections_max: u32) -> Self {
        Self {
            lock: VersionLock::default(),
            ids: Index::default(),
            names: Index::default(),
            slots: Slots::default(),
            id_hash: RandomState::default(),
            fingerprints: Fingerprints::default(),
            writer: Mutex::default(),
            clusters: Clusters::new(cluster_connections_max),
        }
    }

    /// Finds a tenant.
    #[inline]
    pub(crate) fn by_id(&self, tenant: TenantId) -> Option<Found> {
        let hash = self.hash(tenant);
        let found = self.lock.read(|| {
            let slot = self.ids.find(hash, |_| true)?;
            self.slots.get(slot)?.look(slot)
        })?;
        if found.tenant == tenant { Some(found) } else { self.by_id_among(tenant, hash) }
    }

    /// Finds a tenant whose hash is much like another's.
    #[cold]
    fn by_id_among(&self, tenant: TenantId, hash: u128) -> Option<Found> {
        self.lock.read(|| {
            let is_it = |slot| self.slots.get(slot).is_some_and(|slot| slot.tenant() == tenant);
            let slot = self.ids.find(hash, is_it)?;
            self.slots.get(slot)?.look(slot)
        })
    }

    /// Finds the tenant that has a slug.
    #[inline]
    pub(crate) fn by_slug(&self, slug: &str) -> Option<Found> {
        self.by_name(NameKind::Slug, slug)
    }

    /// Finds the tenant that has a host.
    #[inline]
    pub(crate) fn by_host(&self, host: &str) -> Option<Found> {
        self.by_name(NameKind::Host, host)
    }

    fn by_name(&self, kind: NameKind, name: &str) -> Option<Found> {
        let hash = self.fingerprints.of(kind, name)?;
        self.lock.read(|| {
            let slot = self.names.find(hash, |_| true)?;
            self.slots.get(slot)?.look(slot)
        })
    }

    /// Looks at a route that was found before, as it is now.
    #[inline]
    pub(crate) fn again(&self, found: &Found) -> Option<Found> {
        let seen = self.lock.read(|| self.slots.get(found.slot)?.look(found.slot));
        match seen {
            Some(seen) if seen.tenant == found.tenant => Some(seen),
            // Its slot is another's, so it was taken out; it may have come back.
            _ => self.by_id(found.tenant),
        }
    }

    /// Everything about a route, as it is now.
    pub(crate) fn route(&self, found: &Found) -> Option<Route> {
        let (found, packed, terms) = self.whole(found)?;
        route_of(&found, &packed, &terms)
    }

    /// The texts of a route, of which the slug can be read in place.
    pub(crate) fn texts(&self, found: &Found) -> Texts {
        Texts(self.whole(found).map(|(_, packed, _)| packed))
    }

    /// The limits of a route.
    pub(crate) fn limits(&self, found: &Found) -> Option<Limits> {
        self.whole(found).map(|(_, _, terms)| terms.limits)
    }

    /// The cluster of a route; `None` for one without a target.
    pub(crate) fn cluster_of(&self, found: &Found) -> Option<ClusterId> {
        self.whole(found)?.2.cluster
    }

    /// Every route there is, each as it is when it is looked at.
    pub(crate) fn all(&self) -> Vec<Found> {
        let used = self.writer().next;
        (0..used).filter_map(|number| self.lock.read(|| self.slots.get(number)?.look(number))).collect()
    }

    /// Tells every route that changed after a version, each as it is then. Nobody waits meanwhile; routes that come while
    /// this goes on may be left out.
    pub(crate) fn each_after<E>(
        &self,
        version: Option<FeedVersion>,
        mut tell: impl FnMut(&Found, &Packed, &Arc<Terms>) -> Result<(), E>,
    ) -> Result<(), E> {
        let used = self.writer().next;
        for number in 0..used {
            if let Some((found, packed, terms)) = self.in_slot(number)
                && version.is_none_or(|version| found.version > version)
            {
                tell(&found, &packed, &terms)?;
            }
        }
        Ok(())
    }

    fn whole(&self, found: &Found) -> Option<(Found, Kept, Arc<Terms>)> {
        let found = self.again(found)?;
        self.in_slot(found.slot).filter(|(seen, _, _)| seen.tenant == found.tenant)
    }

    fn in_slot(&self, number: u32) -> Option<(Found, Kept, Arc<Terms>)> {
        self.lock.read(|| {
            let slot = self.slots.get(number)?;
            Some((slot.look(number)?, slot.packed.load_full()?, slot.terms.load_full()?))
        })
    }

    /// How many routes there are.
    pub(crate) fn len(&self) -> usize {
        self.writer().count
    }

    fn hash(&self, tenant: TenantId) -> u128 {
        u128::from(self.id_hash.hash_one(tenant.as_uuid().as_u128())) << 64
    }

    /// Nothing panics while it holds the lock.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes.
impl Table {
    /// Makes room for so many routes at once, so that the indexes need not grow in steps.
    pub(crate) fn reserve(&self, routes: usize) {
        let writer = self.writer();
        let more = routes.min(Slots::MOST).saturating_sub(writer.count);
        self.make_room(more, more);
    }

    /// Indexes that are large enough are made before the change, so that readers do not wait for them.
    fn make_room(&self, ids: usize, names: usize) {
        let larger = (self.ids.grow(ids), self.names.grow(names));
        if larger != (None, None) {
            self.lock.change(|| {
                larger.0.into_iter().for_each(|level| self.ids.take(level));
                larger.1.into_iter().for_each(|level| self.names.take(level));
            });
        }
    }

    /// Takes a route over, unless what is known is newer: a version orders all changes, and a generation never falls.
    pub(crate) fn apply(&self, route: Prepared) -> bool {
        let mut writer = self.writer();
        let tenant = route.tenant;
        let known = self.by_id(tenant);
        if let Some(known) = known {
            if let Some(slot) = self.slots.get(known.slot) {
                slot.name_in(writer.snapshot);
            }
            if route.version <= known.version {
                return false;
            }
            if route.generation < known.generation {
                tracing::warn!(%tenant, known = %known.generation, offered = %route.generation, "a route of an older generation is dropped");
                return false;
            }
        }
        let number = known.map_or_else(|| writer.free.pop().unwrap_or(writer.next), |known| known.slot);
        let Some(slot) = self.slots.make(number) else {
            tracing::error!(%tenant, most = Slots::MOST, "the routing table is full; this tenant cannot be reached");
            return false;
        };
        let found = Found {
            slot: number,
            tenant,
            version: route.version,
            generation: route.generation,
            schema_version: route.schema_version,
            state: route.state,
            has_target: route.terms.cluster.is_some(),
        };
        let (packed, terms) = (route.packed, writer.terms.of(route.terms));
        let before = known
            .map_or_else(Vec::new, |_| slot.packed.load().as_deref().map_or_else(Vec::new, |old| self.hashes(old)));
        let now = self.hashes(&packed);
        let (hash, snapshot) = (self.hash(tenant), writer.snapshot);
        self.make_room(1, now.len());
        self.lock.change(|| {
            if known.is_none() {
                self.ids.insert(hash, number);
            }
            for gone in before.iter().filter(|name| !now.contains(name)) {
                self.names.remove(*gone, number);
            }
            for new in now.iter().filter(|name| !before.contains(name)) {
                // Another tenant may have had it until now; that it lost it comes with the next change.
                if let Some(other) = self.names.find(*new, |_| true) {
                    self.names.remove(*new, other);
                }
                self.names.insert(*new, number);
            }
            slot.put(&found, snapshot, packed, terms);
        });
        if known.is_none() {
            writer.count += 1;
            writer.next = writer.next.max(number + 1);
        }
        true
    }

    /// Takes a tenant out, unless what is known is newer.
    pub(crate) fn remove(&self, tenant: TenantId, version: FeedVersion) -> bool {
        let mut writer = self.writer();
        match self.by_id(tenant) {
            Some(known) if known.version < version => self.take_out(&mut writer, &known),
            _ => return false,
        }
        true
    }

    fn take_out(&self, writer: &mut Writer, known: &Found) {
        let Some(slot) = self.slots.get(known.slot) else { return };
        let names = slot.packed.load().as_deref().map_or_else(Vec::new, |packed| self.hashes(packed));
        let hash = self.hash(known.tenant);
        self.lock.change(|| {
            self.ids.remove(hash, known.slot);
            for name in names {
                self.names.remove(name, known.slot);
            }
            slot.clear();
        });
        writer.count -= 1;
        writer.free.push(known.slot);
    }

    /// Begins a snapshot: routes that are applied from now on are named in it.
    pub(crate) fn begin_snapshot(&self) {
        let mut writer = self.writer();
        writer.snapshot = writer.snapshot.wrapping_add(1);
    }

    /// Ends a snapshot: what it did not name is gone, unless it came after it. Answers who is gone.
    pub(crate) fn end_snapshot(&self, version: FeedVersion) -> Vec<TenantId> {
        let mut writer = self.writer();
        let mut gone = Vec::new();
        for number in 0..writer.next {
            let Some(slot) = self.slots.get(number) else { continue };
            let Some(known) = slot.look(number) else { continue };
            if !slot.is_named_in(writer.snapshot) && known.version <= version {
                self.take_out(&mut writer, &known);
                gone.push(known.tenant);
            }
        }
        gone
    }

    fn hashes(&self, packed: &Packed) -> Vec<u128> {
        let slug = self.fingerprints.of(NameKind::Slug, packed.slug());
        slug.into_iter().chain(packed.hosts().filter_map(|host| self.fingerprints.of(NameKind::Host, host))).collect()
    }
}

/// A route put together from its parts; `None` where they are no route.
pub(crate) fn route_of(found: &Found, packed: &Packed, terms: &Terms) -> Option<Route> {
    Some(Route {
        version: found.version,
        tenant: found.tenant,
        slug: Slug::parse(packed.slug()).ok()?,
        hosts: packed.hosts().filter_map(|host| host.parse().ok()).collect(),
        state: found.state,
        generation: found.generation,
        target: found.has_target.then(|| packed.target(terms)).flatten(),
        limits: terms.limits,
        schema_version: found.schema_version,
    })
}

#[cfg(test)]
mod tests;
