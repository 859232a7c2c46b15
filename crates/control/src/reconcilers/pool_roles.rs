//! Setting the roles of pools right. Which homes they may become is looked at with the roles of those.

use tenantry_fleet::{ClusterTarget, IntendedPool};
use tenantry_store::SharedPool;
use tracing::{info, warn};

use super::roles::Outcome;
use crate::control::Control;
use crate::error::ControlError;

/// Looks at the pools of one cluster with one query, and sets right those that need it. Where the server does not show
/// verifiers, each gets its password again: one that is not the routers' shuts everybody out whom the pool serves.
pub(super) async fn look_after(control: &Control, target: &ClusterTarget) -> Result<Outcome, ControlError> {
    let pools: Vec<IntendedPool> = control.store().shared_pools(target.id).await?.into_iter().map(intended).collect();
    let report = control.fleet().shared_pool_drift(target, &pools).await?;
    let mut outcome = Outcome { seen: pools.len(), ..Outcome::default() };
    for pool in &pools {
        let findings = report.drifted.get(&pool.database);
        if let Some(findings) = findings {
            info!(cluster_id = %target.id, database = %pool.database, findings = ?findings, "the pool's role is not as it should be");
        } else if report.sees_passwords {
            continue;
        }
        match control.fleet().ensure_shared_pool(target, &pool.database, &pool.password).await {
            Ok(()) if findings.is_some() => {
                metrics::counter!("tenantry_roles_repaired_total").increment(1);
                outcome.repaired += 1;
            }
            Ok(()) => {}
            Err(error) => {
                warn!(cluster_id = %target.id, database = %pool.database, %error, "the pool's role could not be set right; trying again");
                outcome.failed += 1;
            }
        }
    }
    Ok(outcome)
}

/// The pool as the fleet takes it.
pub(crate) fn intended(pool: SharedPool) -> IntendedPool {
    IntendedPool { database: pool.database, password: pool.password }
}
