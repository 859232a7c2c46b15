//! Connections of a cluster, divided among routers.

use std::collections::BTreeMap;

use serde_json::json;
use tenantry_domain::{ClusterId, ClusterLimits, FeedVersion, LeaseSerial, Tenancy};
use tenantry_store::{ConnectionDemand, PageRequest, RouterReport};

use crate::catalog::{Catalog, new_cluster};

/// What a router would do: it opens what it may and wants, and acknowledges what it was told.
#[derive(Debug, Default, Clone, Copy)]
struct Model {
    wanted: u32,
    open: u32,
    granted: Option<u32>,
    serial: LeaseSerial,
}

struct Fleet<'c> {
    catalog: &'c Catalog,
    cluster: ClusterId,
    routers: BTreeMap<String, Model>,
    read: LeaseSerial,
}

impl Fleet<'_> {
    fn want(&mut self, router: &str, wanted: u32) {
        self.routers.entry(router.to_owned()).or_default().wanted = wanted;
    }

    /// One router reports, and all hear what comes of it.
    async fn report(&mut self, router: &str) {
        let model = self.routers[router];
        let demand = ConnectionDemand {
            router: router.to_owned(),
            cluster: self.cluster,
            open: model.open,
            wanted: model.wanted,
            acknowledged: (model.open <= model.granted.unwrap_or(4)).then_some(model.serial),
        };
        let report = RouterReport {
            name: router.to_owned(),
            applied_version: FeedVersion(0),
            detail: json!({}),
            demands: vec![demand.clone()],
        };
        let store = &self.catalog.store;
        store.report_routers(&[report]).await.unwrap();
        let granted = store.take_demands(&[demand]).await.unwrap();
        let (leases, newest) = store.leases_after(self.read).await.unwrap();
        assert_eq!(granted.is_some(), !leases.is_empty());
        assert!(leases.iter().all(|lease| lease.serial <= newest));
        for lease in leases {
            self.read = self.read.max(lease.serial);
            let model = self.routers.get_mut(&lease.router).unwrap();
            (model.granted, model.serial) = (lease.connections, lease.serial);
        }
    }

    /// Everybody comes to hold what it may.
    fn use_leases(&mut self) {
        for model in self.routers.values_mut() {
            model.open = model.wanted.min(model.granted.unwrap_or(4));
        }
    }

    async fn settle(&mut self) {
        for _ in 0..20 {
            for router in self.routers.keys().cloned().collect::<Vec<_>>() {
                self.use_leases();
                assert!(self.open() <= 40, "{:?}", self.routers);
                self.report(&router).await;
            }
        }
    }

    fn open(&self) -> u32 {
        self.routers.values().map(|model| model.open).sum()
    }

    fn granted(&self, router: &str) -> Option<u32> {
        self.routers[router].granted
    }
}

async fn cluster_of_forty(catalog: &Catalog) -> ClusterId {
    let mut cluster = new_cluster("one", Tenancy::Shared);
    cluster.limits = ClusterLimits { router_connections: Some(40), ..ClusterLimits::default() };
    let mut tx = catalog.begin().await;
    tx.insert_cluster(&cluster).await.unwrap();
    tx.commit().await.unwrap();
    cluster.id
}

#[tokio::test]
async fn connections_go_to_where_they_are_wanted_and_never_beyond_the_ceiling() {
    let catalog = Catalog::new().await;
    let cluster = cluster_of_forty(&catalog).await;
    let mut fleet = Fleet { catalog: &catalog, cluster, routers: BTreeMap::new(), read: LeaseSerial(0) };
    fleet.want("r1", 100);
    fleet.settle().await;
    assert_eq!(fleet.granted("r1"), Some(36), "all but four for one to come");
    // One that comes has some at once, and half in the end.
    fleet.want("r2", 100);
    fleet.use_leases();
    fleet.report("r2").await;
    assert_eq!(fleet.granted("r2"), Some(4));
    fleet.settle().await;
    assert_eq!((fleet.granted("r1"), fleet.granted("r2")), (Some(18), Some(18)));
    // What one no longer wants moves to the other, and stays with the first as little as it uses.
    fleet.want("r1", 1);
    fleet.settle().await;
    assert_eq!((fleet.granted("r1"), fleet.granted("r2")), (Some(4), Some(32)));
    // One that uses nothing is as one that was leased nothing; what it had is the other's, but for what is kept.
    fleet.want("r1", 0);
    fleet.settle().await;
    assert_eq!((fleet.granted("r1"), fleet.granted("r2")), (None, Some(36)));
    let routers = catalog.store.routers(None, &PageRequest::default()).await.unwrap().items;
    assert_eq!(routers[0].leases.iter().map(|it| (it.granted, it.held, it.wanted)).collect::<Vec<_>>(), [(None, 0, 0)]);
    assert_eq!(routers[1].leases[0].cluster, cluster);
}

#[tokio::test]
async fn what_is_not_acknowledged_counts_as_held() {
    let catalog = Catalog::new().await;
    let cluster = cluster_of_forty(&catalog).await;
    let mut fleet = Fleet { catalog: &catalog, cluster, routers: BTreeMap::new(), read: LeaseSerial(0) };
    fleet.want("r1", 100);
    fleet.settle().await;
    // It goes on holding all that it has, whatever it is told.
    let hold = fleet.routers["r1"].open;
    fleet.want("r2", 100);
    for _ in 0..5 {
        fleet.use_leases();
        fleet.routers.get_mut("r1").unwrap().open = hold;
        assert!(fleet.open() <= 40, "{:?}", fleet.routers);
        fleet.report("r2").await;
        fleet.report("r1").await;
    }
    assert_eq!(fleet.granted("r2"), Some(4), "what the first has not let go of is not the other's");
    fleet.settle().await;
    assert_eq!(fleet.granted("r2"), Some(18));
}

#[tokio::test]
async fn the_silent_keep_what_they_have_until_it_is_taken_back() {
    let catalog = Catalog::new().await;
    let cluster = cluster_of_forty(&catalog).await;
    let mut fleet = Fleet { catalog: &catalog, cluster, routers: BTreeMap::new(), read: LeaseSerial(0) };
    fleet.want("r1", 100);
    fleet.want("r2", 100);
    fleet.settle().await;
    let store = &catalog.store;
    assert!(store.silent_holders().await.unwrap().is_empty());
    assert_eq!(store.take_leases_back(cluster, &["r1".to_owned()]).await.unwrap(), 0, "it is not silent");
    let age = "UPDATE router SET reported_at = now() - interval '1 minute' WHERE name = 'r1'";
    catalog.superuser().await.batch_execute(age).await.unwrap();
    store.divide_all_connections().await.unwrap();
    fleet.report("r2").await;
    assert_eq!((fleet.granted("r1"), fleet.granted("r2")), (Some(18), Some(18)));
    let silent = store.silent_holders().await.unwrap();
    assert_eq!(silent, BTreeMap::from([(cluster, vec!["r1".to_owned()])]));
    assert_eq!(store.forget_routers(std::time::Duration::ZERO).await.unwrap(), 0, "as long as one holds a lease");
    assert_eq!(store.take_leases_back(cluster, &["r1".to_owned()]).await.unwrap(), 1);
    let (leases, _) = store.leases_after(fleet.read).await.unwrap();
    let told: Vec<_> = leases.iter().map(|lease| (lease.router.as_str(), lease.connections)).collect();
    assert_eq!(told, [("r1", None), ("r2", Some(36))]);
}

#[tokio::test]
async fn demands_of_nobody_and_nothing_are_passed_over() {
    let catalog = Catalog::new().await;
    let cluster = cluster_of_forty(&catalog).await;
    let demand = |router: &str, cluster, wanted| ConnectionDemand {
        router: router.to_owned(),
        cluster,
        open: 0,
        wanted,
        acknowledged: None,
    };
    let store = &catalog.store;
    assert_eq!(store.take_demands(&[]).await.unwrap(), None);
    // Nobody has reported under this name.
    assert_eq!(store.take_demands(&[demand("r1", cluster, 7)]).await.unwrap(), None);
    let report =
        RouterReport { name: "r1".to_owned(), applied_version: FeedVersion(0), detail: json!({}), demands: Vec::new() };
    store.report_routers(&[report]).await.unwrap();
    let unknown = ClusterId::new(uuid::Uuid::now_v7());
    assert_eq!(store.take_demands(&[demand("r1", unknown, 7), demand("r1", cluster, 0)]).await.unwrap(), None);
    // Of two demands the last counts.
    let both = [demand("r1", cluster, 7), demand("r1", cluster, 9)];
    assert_eq!(store.take_demands(&both).await.unwrap(), Some(LeaseSerial(1)));
    let routers = store.routers(None, &PageRequest::default()).await.unwrap().items;
    assert_eq!(routers[0].leases[0].wanted, 9);
}
