//! Takes back what silent routers held of clusters' connections once theirs are gone, and divides all connections anew:
//! ceilings may have changed.
//!
//! A router that is silent may serve on: it keeps its lease as long as it has a connection, and its connections tell
//! their router's name.

use std::time::Duration;

use serde_json::json;
use tenantry_domain::{ClusterId, router_application_name};
use tracing::{debug, info};

use super::Reconciler;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// The longest that one cluster may take to answer.
const LOOK_MAX: Duration = Duration::from_secs(5);

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "connection_leases",
    period: Duration::from_secs(10),
    reconcile: |control| {
        Box::pin(async move {
            let mut taken_back = 0;
            for (cluster, routers) in control.store().silent_holders().await? {
                let gone = match tokio::time::timeout(LOOK_MAX, without_connections(control, cluster, &routers)).await {
                    Ok(Ok(gone)) => gone,
                    // Nobody knows: they keep what they have.
                    Ok(Err(error)) => {
                        debug!(cluster_id = %cluster, %error, "connections of silent routers cannot be counted");
                        continue;
                    }
                    Err(_) => continue,
                };
                if !gone.is_empty() {
                    info!(cluster_id = %cluster, routers = ?gone, "silent routers have no connections; what they were leased goes to others");
                    taken_back += control.store().take_leases_back(cluster, &gone).await?;
                }
            }
            if let Some(serial) = control.store().divide_all_connections().await? {
                control.signals().raise_leases(serial);
            }
            Ok(json!({ "taken_back": taken_back }))
        })
    },
};

/// Those of the routers that have no connection to the cluster.
async fn without_connections(
    control: &Control,
    cluster: ClusterId,
    routers: &[String],
) -> Result<Vec<String>, ControlError> {
    let target = cluster_target(control, cluster).await?;
    let connected = control.fleet().application_names(&target).await?;
    let is_gone = |router: &&String| !connected.contains(&router_application_name(router));
    Ok(routers.iter().filter(is_gone).cloned().collect())
}
