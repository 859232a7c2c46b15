//! The routing table: what the feed said last, found by id, slug or host without a lock.
//!
//! One task writes, any number of threads read. The map by id is the only truth; the maps by slug and host only point
//! into it, and what they point to is checked against the route itself. So a reader sees a route as it was or as it is,
//! never a mixture, in the middle of a snapshot too.

use std::collections::HashSet;
use std::sync::Arc;

use papaya::HashMap;
use tenantry_api::FeedCluster;
use tenantry_domain::{ClusterId, Endpoint, FeedVersion, HostName, InvalidName, Route, TenantId, TlsMode};
use tokio::sync::OnceCell;

use crate::connector::Tls;

/// Where a cluster is.
pub(crate) struct ClusterEntry {
    pub(crate) version: FeedVersion,
    pub(crate) endpoint: Endpoint,
    pub(crate) tls_mode: TlsMode,
    pub(crate) tls_ca: Option<String>,
    /// Set up by the first who connects.
    pub(crate) tls: OnceCell<Tls>,
}

impl ClusterEntry {
    /// Whether connections to the one are connections to the other.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (&self.endpoint, self.tls_mode, &self.tls_ca) == (&other.endpoint, other.tls_mode, &other.tls_ca)
    }
}

/// Routes and clusters as the feed last said.
#[derive(Default)]
pub(crate) struct Table {
    routes: HashMap<TenantId, Arc<Route>>,
    slugs: HashMap<Box<str>, TenantId>,
    hosts: HashMap<Box<str>, TenantId>,
    clusters: HashMap<ClusterId, Arc<ClusterEntry>>,
}

impl Table {
    /// Takes a route over, unless what is known is newer: a version orders all changes, and a generation never falls.
    pub(crate) fn apply_route(&self, route: Route) -> bool {
        let (tenant, route) = (route.tenant, Arc::new(route));
        let routes = self.routes.pin();
        let known = routes.get(&tenant);
        if let Some(known) = known {
            if route.version <= known.version {
                return false;
            }
            if route.generation < known.generation {
                tracing::warn!(%tenant, known = %known.generation, offered = %route.generation, "a route of an older generation is dropped");
                return false;
            }
        }
        let known = known.map(Arc::clone);
        routes.insert(tenant, Arc::clone(&route));
        if known.as_ref().is_none_or(|known| known.slug != route.slug) {
            self.slugs.pin().insert(route.slug.as_str().into(), tenant);
        }
        for host in &route.hosts {
            self.hosts.pin().insert(host.as_str().into(), tenant);
        }
        if let Some(known) = known {
            if known.slug != route.slug {
                forget(&self.slugs, known.slug.as_str(), tenant);
            }
            for host in known.hosts.iter().filter(|host| !route.hosts.contains(host)) {
                forget(&self.hosts, host.as_str(), tenant);
            }
        }
        true
    }

    /// Takes a tenant out, unless what is known is newer.
    pub(crate) fn remove(&self, tenant: TenantId, version: FeedVersion) -> bool {
        let routes = self.routes.pin();
        let Ok(Some((_, known))) = routes.remove_if(&tenant, |_, known| known.version < version) else {
            return false;
        };
        forget(&self.slugs, known.slug.as_str(), tenant);
        for host in &known.hosts {
            forget(&self.hosts, host.as_str(), tenant);
        }
        true
    }

    /// Takes a cluster over, unless what is known is newer.
    pub(crate) fn apply_cluster(&self, cluster: FeedCluster) -> Result<bool, InvalidName> {
        let clusters = self.clusters.pin();
        let known = clusters.get(&cluster.cluster);
        if known.is_some_and(|known| cluster.version <= known.version) {
            return Ok(false);
        }
        let mut entry = ClusterEntry {
            version: cluster.version,
            endpoint: cluster.endpoint()?,
            tls_mode: cluster.tls_mode,
            tls_ca: cluster.tls_ca,
            tls: OnceCell::new(),
        };
        if let Some(known) = known.filter(|known| known.is_same_place(&entry)) {
            entry.tls = OnceCell::new_with(known.tls.get().cloned());
        }
        clusters.insert(cluster.cluster, Arc::new(entry));
        Ok(true)
    }

    /// Ends a snapshot: what it did not name is gone, unless it came after it.
    pub(crate) fn keep_only(
        &self,
        tenants: &HashSet<TenantId>,
        clusters: &HashSet<ClusterId>,
        version: FeedVersion,
    ) -> Vec<TenantId> {
        let gone: Vec<TenantId> =
            self.routes.pin().keys().filter(|tenant| !tenants.contains(tenant)).copied().collect();
        let next = FeedVersion(version.0.saturating_add(1));
        let gone = gone.into_iter().filter(|tenant| self.remove(*tenant, next)).collect();
        self.clusters.pin().retain(|cluster, entry| clusters.contains(cluster) || entry.version > version);
        gone
    }

    pub(crate) fn by_id(&self, tenant: TenantId) -> Option<Arc<Route>> {
        self.routes.pin().get(&tenant).map(Arc::clone)
    }

    pub(crate) fn by_slug(&self, slug: &str) -> Option<Arc<Route>> {
        let tenant = *self.slugs.pin().get(slug)?;
        self.by_id(tenant).filter(|route| route.slug.as_str() == slug)
    }

    pub(crate) fn by_host(&self, host: &str) -> Option<Arc<Route>> {
        let tenant = *self.hosts.pin().get(host)?;
        self.by_id(tenant).filter(|route| route.hosts.iter().map(HostName::as_str).any(|known| known == host))
    }

    pub(crate) fn cluster(&self, cluster: ClusterId) -> Option<Arc<ClusterEntry>> {
        self.clusters.pin().get(&cluster).map(Arc::clone)
    }

    pub(crate) fn len(&self) -> usize {
        self.routes.len()
    }
}

/// Takes an entry out of an index, if it still points to this tenant: another may have taken the name over.
fn forget(index: &HashMap<Box<str>, TenantId>, name: &str, tenant: TenantId) {
    let _ = index.pin().remove_if(name, |_, found| *found == tenant);
}

#[cfg(test)]
mod tests {
    use tenantry_domain::{Generation, Limits, Pooling, RouteState, SchemaVersion, Slug};

    use super::*;

    fn tenant(number: u128) -> TenantId {
        TenantId::new(uuid::Uuid::from_u128(number))
    }

    fn route(number: u128, slug: &str, version: i64, generation: i64, hosts: &[&str]) -> Route {
        Route {
            version: FeedVersion(version),
            tenant: tenant(number),
            slug: Slug::parse(slug).expect("a slug"),
            hosts: hosts.iter().map(|host| HostName::parse(host).expect("a host")).collect(),
            state: RouteState::Active,
            generation: Generation(generation),
            target: None,
            limits: Limits::default(),
            pooling: Pooling::Own,
            schema_version: SchemaVersion(0),
        }
    }

    #[test]
    fn an_older_version_or_generation_never_overwrites_a_newer_one() {
        let table = Table::default();
        assert!(table.apply_route(route(1, "acme", 5, 2, &[])));
        assert!(!table.apply_route(route(1, "acme", 5, 2, &[])));
        assert!(!table.apply_route(route(1, "acme", 4, 3, &[])));
        assert!(!table.apply_route(route(1, "acme", 9, 1, &[])));
        assert!(!table.remove(tenant(1), FeedVersion(5)));
        assert!(table.remove(tenant(1), FeedVersion(6)));
        assert!(table.by_slug("acme").is_none());
    }

    #[test]
    fn a_host_that_changes_hands_leads_to_its_new_tenant_in_either_order() {
        for lose_first in [true, false] {
            let table = Table::default();
            table.apply_route(route(1, "acme", 1, 1, &["fly.example.com"]));
            table.apply_route(route(2, "zenith", 2, 1, &[]));
            let (lose, win) = (route(1, "acme", 3, 1, &[]), route(2, "zenith", 4, 1, &["fly.example.com"]));
            let changes = if lose_first { [lose, win] } else { [win, lose] };
            for change in changes {
                assert!(table.apply_route(change));
            }
            assert_eq!(table.by_host("fly.example.com").expect("found").tenant, tenant(2));
        }
    }

    #[test]
    fn a_changed_slug_is_found_under_its_new_name_only() {
        let table = Table::default();
        table.apply_route(route(1, "acme", 1, 1, &[]));
        table.apply_route(route(1, "acme-air", 2, 1, &[]));
        assert!(table.by_slug("acme").is_none());
        assert_eq!(table.by_slug("acme-air").expect("found").tenant, tenant(1));
    }

    #[test]
    fn a_snapshot_takes_out_what_it_does_not_name_but_nothing_newer() {
        let table = Table::default();
        table.apply_route(route(1, "acme", 1, 1, &[]));
        table.apply_route(route(2, "zenith", 2, 1, &[]));
        table.apply_route(route(3, "later", 9, 1, &[]));
        let gone = table.keep_only(&HashSet::from([tenant(1)]), &HashSet::new(), FeedVersion(5));
        assert_eq!(gone, [tenant(2)]);
        assert!(table.by_id(tenant(1)).is_some() && table.by_slug("later").is_some());
    }

    #[test]
    fn readers_never_see_half_a_change() {
        let table = Arc::new(Table::default());
        table.apply_route(route(1, "a0", 1, 1, &["h0.example.com"]));
        let writer = std::thread::spawn({
            let table = Arc::clone(&table);
            move || {
                for version in 2..5_000_i64 {
                    let (slug, host) = (format!("a{}", version % 7), format!("h{}.example.com", version % 7));
                    table.apply_route(route(1, &slug, version, version, &[&host]));
                }
            }
        });
        while !writer.is_finished() {
            for number in 0..7 {
                let slug = format!("a{number}");
                if let Some(found) = table.by_slug(&slug) {
                    assert_eq!(found.slug.as_str(), slug);
                    assert_eq!(found.hosts[0].as_str(), format!("h{number}.example.com"));
                    assert!(found.version.0 == 1 || found.version.0 == found.generation.0);
                }
            }
        }
        writer.join().expect("no panic");
    }
}
