//! Keeps homes ready for tenants to come: has as many prepared and dropped as [`plan`] says.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tenantry_domain::{ClusterId, HomeId, Isolation, MigrationSetId, OperationId, OperationKind, SchemaVersion};
use tenantry_store::{NewOperation, Tx, WarmPool};
use tracing::info;

use super::Reconciler;
use crate::control::{Control, new_id};
use crate::engine::Kind;
use crate::error::ControlError;
use crate::operations::drop_home::{DropHome, DropProgress};
use crate::operations::prepare_home::{PrepareHome, PrepareProgress};
use crate::operations::reserve_home::record_home_for;
use crate::warm_pool::{Circumstances, DEMAND_WINDOW, NAME, Plan, plan};

/// Operations that one pass asks for at most; the next goes on.
const OPERATIONS_MAX: usize = 64;
/// How long the records of a home that nobody ever claimed are kept after its end, and how many are forgotten at a time.
const KEPT: Duration = Duration::from_hours(24 * 7);
const FORGOTTEN_MAX: i64 = 500;

pub(super) const RECONCILER: Reconciler =
    Reconciler { name: NAME, period: Duration::from_secs(5), reconcile: |control| Box::pin(reconcile(control)) };

async fn reconcile(control: &Control) -> Result<Value, ControlError> {
    let promoted = control.store().promoted().await?.map(|set| set.id);
    let pools = control.store().warm_pools(promoted.as_ref(), DEMAND_WINDOW).await?;
    let (mut prepared, mut retired) = (0, 0);
    for pool in &pools {
        metrics::gauge!("tenantry_warm_homes", "cluster" => pool.name.to_string())
            .set(f64::from(u32::try_from(pool.warm.len()).unwrap_or(u32::MAX)));
        let circumstances = Circumstances {
            has_promoted_set: promoted.is_some(),
            is_off_limits: control.keep_off() == Some(pool.system_identifier.as_str()),
            now: Timestamp::now(),
        };
        let plan = plan(&control.config().warm_pool, pool, circumstances);
        if prepared + retired < OPERATIONS_MAX && (plan.prepare > 0 || !plan.retire.is_empty()) {
            let done = carry_out(control, pool, &plan, promoted.as_ref()).await?;
            prepared += done.0;
            retired += done.1;
        }
    }
    if prepared + retired > 0 {
        control.signals().wake_operations();
    }
    let tx = control.store().begin().await?;
    let forgotten = tx.forget_unclaimed_homes(KEPT, FORGOTTEN_MAX).await?;
    tx.commit().await?;
    let warm: usize = pools.iter().map(|pool| pool.warm.len()).sum();
    Ok(
        json!({ "clusters": pools.len(), "warm": warm, "prepared": prepared, "retired": retired, "forgotten": forgotten }),
    )
}

/// Records homes and operations for one cluster; returns how many are prepared and dropped.
async fn carry_out(
    control: &Control,
    pool: &WarmPool,
    plan: &Plan,
    promoted: Option<&MigrationSetId>,
) -> Result<(usize, usize), ControlError> {
    let mut tx = control.store().begin().await?;
    // Locked: the homes recorded here start with this set. Should another have been promoted since, the next pass decides.
    if tx.promoted_id().await?.as_ref() != promoted {
        return Ok((0, 0));
    }
    let mut retired = 0;
    for home in plan.retire.iter().take(OPERATIONS_MAX) {
        // A tenant may have been quicker.
        if tx.retire_warm_home(*home).await? {
            drop_home(&tx, pool.cluster, *home).await?;
            retired += 1;
        }
    }
    for _ in 0..plan.prepare {
        prepare_home(&mut tx, pool.cluster).await?;
    }
    tx.commit().await?;
    info!(cluster = %pool.name, prepared = plan.prepare, retired, "the warm pool changes");
    Ok((plan.prepare as usize, retired))
}

async fn prepare_home(tx: &mut Tx, cluster: ClusterId) -> Result<(), ControlError> {
    let (operation, home) = (OperationId::new(new_id()), HomeId::new(new_id()));
    let progress = PrepareProgress { home, schema_version: SchemaVersion::default() };
    tx.insert_operation(&NewOperation {
        id: operation,
        kind: OperationKind::PrepareHome,
        tenant: None,
        cluster: Some(cluster),
        input: json!({ "home": home }),
        progress: serde_json::to_value(progress).map_err(ControlError::internal)?,
        idempotency_key: None,
        code_version: PrepareHome::CODE_VERSION,
    })
    .await?;
    record_home_for(tx, home, None, Isolation::Database, cluster, operation).await
}

async fn drop_home(tx: &Tx, cluster: ClusterId, home: HomeId) -> Result<(), ControlError> {
    tx.insert_operation(&NewOperation {
        id: OperationId::new(new_id()),
        kind: OperationKind::DropHome,
        tenant: None,
        cluster: Some(cluster),
        input: json!({ "home": home }),
        progress: serde_json::to_value(DropProgress { home }).map_err(ControlError::internal)?,
        idempotency_key: None,
        code_version: DropHome::CODE_VERSION,
    })
    .await?;
    Ok(())
}
