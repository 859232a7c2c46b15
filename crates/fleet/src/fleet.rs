//! The fleet: admin connections kept per cluster, and the limit on `CREATE DATABASE`.

use crate::config::FleetConfig;

/// All work on clusters goes through here. Clones share connections.
#[derive(Clone)]
pub struct Fleet {}

impl Fleet {
    /// Opens nothing yet.
    pub fn new(config: FleetConfig) -> Self {
        todo!()
    }
}
