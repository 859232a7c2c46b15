//! Shared connections to a physical standby.

use std::time::Duration;

use tenantry_api::FeedReplica;
use tenantry_domain::{ClusterReplicaId, LagMax, TlsMode};
use tenantry_router::{ReadFrom, Router, RouterConfig};
use tenantry_testkit::Server;
use uuid::Uuid;

use super::homes::{SharedHomes, answer, tenant};
use crate::home::patient;

#[tokio::test]
async fn tenants_share_connections_to_a_replica_too() {
    let primary = Server::own().await;
    let homes = SharedHomes::two(&primary).await;
    let standby = primary.standby().await;
    let mut cluster = homes.feed_cluster();
    cluster.replicas = vec![FeedReplica {
        id: ClusterReplicaId::new(Uuid::now_v7()),
        host: "127.0.0.1".to_owned(),
        port: standby.address().port(),
        tls_mode: TlsMode::Disable,
        tls_ca: None,
        lag_max_ms: LagMax::from_ms(60_000).expect("a lag"),
    }];
    let config = RouterConfig { shared_pool_size: 1, replica_timeout: Duration::from_mins(1), ..patient() };
    let router = Router::builder().fixed(homes.routes(), vec![cluster]).config(config).build().await.expect("a router");
    let mut backends = Vec::new();
    for number in [0, 1, 0, 1] {
        let home = &homes.tenants[number];
        let reader = tenant(&router, home.slug.as_str()).await.read_only_from(ReadFrom::Replica { lag_max: None });
        let client = reader.client().await.expect("a connection");
        assert!(client.replica().is_some());
        let who = "SELECT concat_ws(' ', current_user, current_schema(), pg_is_in_recovery())";
        assert_eq!(answer(&client, who).await, format!("{} {} t", home.read_only, home.schema));
        backends.push(super::homes::backend(&client).await);
    }
    backends.dedup();
    assert_eq!(backends.len(), 1, "all on one connection");
    assert_eq!(homes.sessions().await, 0, "none on the primary");
}
