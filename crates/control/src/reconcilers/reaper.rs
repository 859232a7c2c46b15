//! Stops what goes past a tenant's ceilings: statements, idle transactions, transactions. The timeouts on its roles are
//! defaults that a tenant can `SET` away; this is not. At most four queries per cluster and pass, however many tenants.

use std::time::Duration;

use futures::StreamExt;
use serde_json::json;
use tenantry_domain::{ClusterId, HomeId, Limits};
use tenantry_fleet::{Stop, TenantSession};
use tracing::{info, warn};

use super::Reconciler;
use super::roles::inhabited;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;

/// What has been going on for less is not looked at.
const LEAST: Duration = Duration::from_millis(500);
/// How long a statement that was cancelled may take to end before its session is ended.
const GRACE: Duration = Duration::from_secs(5);
/// Clusters that are looked at at the same time, and how long one may take.
const CLUSTERS: usize = 8;
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const RECONCILER: Reconciler = Reconciler {
    name: "reaper",
    period: Duration::from_secs(2),
    reconcile: |control| {
        Box::pin(async move {
            let clusters = inhabited(control).await?;
            let mut visits =
                futures::stream::iter(clusters.into_iter().map(|id| visit(control, id))).buffer_unordered(CLUSTERS);
            let (mut stopped, mut unreachable) = (0, 0);
            while let Some(visited) = visits.next().await {
                match visited {
                    Some(count) => stopped += count,
                    None => unreachable += 1,
                }
            }
            Ok(json!({ "stopped": stopped, "unreachable_clusters": unreachable }))
        })
    },
};

/// How many sessions were stopped; `None` where the cluster could not be looked at.
async fn visit(control: &Control, cluster: ClusterId) -> Option<usize> {
    match tokio::time::timeout(CLUSTER_TIMEOUT, reap(control, cluster)).await {
        Ok(Ok(stopped)) => Some(stopped),
        Ok(Err(error)) => {
            warn!(cluster_id = %cluster, %error, "what tenants run could not be looked at");
            None
        }
        Err(_) => {
            warn!(cluster_id = %cluster, "looking at what tenants run took too long");
            None
        }
    }
}

async fn reap(control: &Control, cluster: ClusterId) -> Result<usize, ControlError> {
    let target = cluster_target(control, cluster).await?;
    let sessions = control.fleet().tenant_sessions(&target, LEAST).await?;
    if sessions.is_empty() {
        return Ok(0);
    }
    let mut homes: Vec<HomeId> = sessions.iter().map(|session| session.home).collect();
    homes.sort_unstable();
    homes.dedup();
    let limits = control.store().limits_of_homes(cluster, &homes).await?;
    let mut stops = Vec::new();
    for session in &sessions {
        let Some((tenant, limits)) = limits.get(&session.home) else { continue };
        let Some((stop, reason)) = verdict(session, limits) else { continue };
        info!(tenant_id = %tenant, home_id = %session.home, pid = session.pid, ?stop, reason, "a session is past its ceiling");
        metrics::counter!("tenantry_reaper_stopped_total", "reason" => reason).increment(1);
        stops.push((session, stop));
    }
    Ok(control.fleet().stop_sessions(&target, &stops).await?)
}

/// Whether a session is past one of its ceilings, and what is done about it. A statement is cancelled first; cancelling
/// does nothing to a transaction that sits idle.
fn verdict(session: &TenantSession, limits: &Limits) -> Option<(Stop, &'static str)> {
    let past = |since: Option<Duration>, ceiling: Option<u32>| {
        let ceiling = Duration::from_millis(ceiling?.into());
        since?.checked_sub(ceiling).filter(|over| !over.is_zero())
    };
    let firmly = |over: Duration| if over > GRACE { Stop::Terminate } else { Stop::Cancel };
    if past(session.idle_in_transaction, limits.idle_in_transaction_timeout_ms).is_some() {
        return Some((Stop::Terminate, "idle_in_transaction"));
    }
    if let Some(over) = past(session.transaction, limits.transaction_timeout_ms) {
        let stop = if session.statement.is_some() { firmly(over) } else { Stop::Terminate };
        return Some((stop, "transaction"));
    }
    past(session.statement, limits.statement_timeout_ms).map(|over| (firmly(over), "statement"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(statement: Option<u64>, idle: Option<u64>, transaction: Option<u64>) -> TenantSession {
        TenantSession {
            pid: 1,
            home: HomeId::new(uuid::Uuid::from_u128(1)),
            since: String::new(),
            statement: statement.map(Duration::from_millis),
            idle_in_transaction: idle.map(Duration::from_millis),
            transaction: transaction.map(Duration::from_millis),
        }
    }

    #[test]
    fn only_what_is_past_a_ceiling_is_stopped_and_gently_first() {
        let limits = Limits {
            statement_timeout_ms: Some(1_000),
            idle_in_transaction_timeout_ms: Some(2_000),
            transaction_timeout_ms: Some(10_000),
            ..Limits::default()
        };
        for (seen, expected) in [
            (session(Some(900), None, Some(900)), None),
            (session(Some(1_100), None, Some(1_100)), Some((Stop::Cancel, "statement"))),
            (session(Some(6_100), None, Some(6_100)), Some((Stop::Terminate, "statement"))),
            (session(None, Some(1_900), Some(5_000)), None),
            (session(None, Some(2_100), Some(5_000)), Some((Stop::Terminate, "idle_in_transaction"))),
            (session(Some(10), None, Some(10_500)), Some((Stop::Cancel, "transaction"))),
            (session(Some(10), None, Some(15_500)), Some((Stop::Terminate, "transaction"))),
            (session(None, Some(10), Some(10_500)), Some((Stop::Terminate, "transaction"))),
        ] {
            assert_eq!(verdict(&seen, &limits), expected, "{seen:?}");
            assert_eq!(verdict(&seen, &Limits::default()), None, "no ceiling, no end");
        }
    }
}
