//! The replicas of a world: those that run, more of them, and none.

use std::time::Duration;

use tenantry_control::{ControlConfig, WarmPoolConfig};
use tenantry_domain::Region;
use tenantry_server::ServerConfig;
use uuid::Uuid;

use super::{World, client};
use crate::replica::Replica;

impl World<'_> {
    /// The replicas that run.
    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    /// Takes a replica out, to be crashed or stopped.
    pub fn take_replica(&mut self, index: usize) -> Replica {
        self.replicas.remove(index)
    }

    /// Goes on over another door.
    pub fn use_door(&mut self, url: &str) {
        self.client = client(url, &self.token);
    }

    /// Starts one more replica. The world's door stays the one that it was.
    pub async fn add_replica(&mut self, configure: impl FnOnce(&mut ControlConfig)) {
        let mut config = self.replica_config();
        configure(&mut config);
        self.replicas.push(Replica::start(self.store.clone(), config, server_config()).await);
    }

    /// Stops every replica in good order and opens a door behind which nobody works: what is asked for there waits for
    /// the next replica.
    pub async fn rest(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.stop().await;
        }
        let door = Replica::start_idle(self.store.clone(), self.replica_config(), server_config()).await;
        self.use_door(&door.url());
        self.replicas.push(door);
    }

    fn replica_config(&self) -> ControlConfig {
        replica_config(std::ptr::eq(self.catalog.server(), self.homes.server()))
    }
}

pub(super) fn replica_config(place_on_catalog_server: bool) -> ControlConfig {
    let mut config = ControlConfig::new(Uuid::now_v7());
    config.default_region = Some(Region::parse("local").expect("a region"));
    config.warm_pool = WarmPoolConfig::OFF;
    config.place_on_catalog_server = place_on_catalog_server;
    // Clients of tests are routers, or log in before a rotation begins.
    config.rotation_overlap = Duration::ZERO;
    config
}

pub(super) fn server_config() -> ServerConfig {
    let listen = "127.0.0.1:0".parse().expect("an address");
    ServerConfig { listen, shutdown_grace: Duration::from_secs(5), ..ServerConfig::default() }
}
