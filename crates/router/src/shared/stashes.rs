//! All stashes that are in use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tenantry_domain::{ClusterId, ClusterReplicaId, DatabaseName};

use super::stash::Stash;
use crate::builder::RouterConfig;
use crate::connect::{Connector, Place};
use crate::error::RouterError;
use crate::tenant::Login;

/// Stashes by database and server. They keep connections as long as a tenant's pool needs them; with another login there is
/// another one, and the old one ends with the last pool that had it.
#[derive(Default)]
pub(crate) struct Stashes(Mutex<HashMap<Key, Vec<Weak<Stash>>>>);

type Key = (ClusterId, Option<ClusterReplicaId>, DatabaseName);

impl Stashes {
    /// The one for a place, made if need be.
    pub(crate) fn at(
        &self,
        place: &Place<'_>,
        login: Login<'_>,
        config: &Arc<RouterConfig>,
        application_name: &str,
        runtime: &tokio::runtime::Handle,
    ) -> Result<Arc<Stash>, RouterError> {
        let Place { target, server, replica, .. } = *place;
        let replica = replica.map(|replica| replica.id);
        let mut stashes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = stashes.entry((target.cluster, replica, target.database.clone())).or_default();
        known.retain(|stash| stash.strong_count() > 0);
        let mut there = known.iter().filter_map(Weak::upgrade);
        if let Some(stash) = there.find(|stash| stash.serves(server, login.credential)) {
            return Ok(stash);
        }
        let connector = Connector::to(place, login.credential, config, application_name)?;
        let stash = Stash::new((target.cluster, replica), connector, login.credential, config, runtime.clone());
        known.push(Arc::downgrade(&stash));
        Ok(stash)
    }

    /// Every one that is in use.
    pub(crate) fn all(&self) -> Vec<Arc<Stash>> {
        let mut all = Vec::new();
        let mut stashes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stashes.retain(|_, known| {
            known.retain(|stash| stash.upgrade().map(|stash| all.push(stash)).is_some());
            !known.is_empty()
        });
        all
    }
}
