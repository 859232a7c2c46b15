//! Setting the roles of homes right, for the reconcilers that find which.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use tenantry_domain::{ClusterId, HomeId};
use tenantry_fleet::{ClusterTarget, Fence, FleetError, IntendedRoles, PoolAccess, RoleSecrets};
use tenantry_store::HomeRoles;
use tracing::{info, warn};

use crate::control::Control;
use crate::error::ControlError;

/// Homes that are looked at with one query.
pub(super) const PAGE: i64 = 500;
/// Homes of one cluster that are set right at the same time.
const REPAIRS: usize = 4;
/// Where the server does not show verifiers, passwords are given again after so long, so many in a pass and cluster.
const PASSWORDS_KEPT: SignedDuration = SignedDuration::from_hours(1);
const PASSWORDS_MAX: usize = 100;

/// What was found and done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Homes and pools that were looked at.
    pub(super) seen: usize,
    /// Those whose roles were set right.
    pub(super) repaired: usize,
    /// Those whose roles could not be.
    pub(super) failed: usize,
}

impl std::ops::AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.seen += other.seen;
        self.repaired += other.repaired;
        self.failed += other.failed;
    }
}

/// Looks at homes on one cluster with one query, and sets right those that need it.
pub(super) async fn look_after(
    control: &Control,
    target: &ClusterTarget,
    homes: &[HomeRoles],
) -> Result<Outcome, ControlError> {
    let intended: Vec<IntendedRoles> = homes.iter().map(intended).collect();
    let report = control.fleet().role_drift(target, &intended).await?;
    let mut wrong: Vec<HomeId> = Vec::new();
    for (home, findings) in &report.drifted {
        info!(home_id = %home, findings = ?findings, "roles are not as they should be");
        wrong.push(*home);
    }
    if !report.sees_passwords {
        let before = Timestamp::now() - PASSWORDS_KEPT;
        let stale = homes.iter().filter(|it| it.passwords_set_at < before && !wrong.contains(&it.home.id));
        let stale: Vec<HomeId> = stale.take(PASSWORDS_MAX).map(|it| it.home.id).collect();
        wrong.extend(stale);
    }
    let mut outcome = Outcome { seen: homes.len(), ..Outcome::default() };
    let mut repairs =
        futures::stream::iter(wrong.into_iter().map(|home| set_right(control, target, home))).buffer_unordered(REPAIRS);
    while let Some(repaired) = repairs.next().await {
        match repaired {
            Ok(true) => {
                metrics::counter!("tenantry_roles_repaired_total").increment(1);
                outcome.repaired += 1;
            }
            Ok(false) => {}
            Err(error) => {
                warn!(cluster_id = %target.id, %error, "the roles of a home could not be set right; trying again");
                outcome.failed += 1;
            }
        }
    }
    Ok(outcome)
}

/// The epoch is drawn before the catalog is read: an operation that is claimed later has a higher one and wins on the
/// cluster, and one that was claimed before is seen and left alone.
async fn set_right(control: &Control, target: &ClusterTarget, home: HomeId) -> Result<bool, ControlError> {
    let epoch = control.store().draw_epoch().await?;
    let Some(roles) = control.store().home_roles_among(&[home]).await?.into_iter().next() else { return Ok(false) };
    match control.fleet().set_roles_right(target, &Fence { home, epoch }, &intended(&roles)).await {
        Ok(()) => {
            control.store().passwords_set(home).await?;
            Ok(true)
        }
        // An operation has taken the home up meanwhile.
        Err(FleetError::StaleEpoch { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn intended(roles: &HomeRoles) -> IntendedRoles {
    IntendedRoles {
        home: roles.home.clone(),
        secrets: RoleSecrets {
            slot: roles.login,
            login: roles.secrets.login.clone(),
            read_only: roles.secrets.read_only.clone(),
            migrator: roles.secrets.migrator.clone(),
        },
        limits: roles.limits,
        is_open: roles.is_open,
        pool: pool_access(roles),
    }
}

/// Who is served over the pool must be let in, who is suspended or never was must be shut out. In between the pool's upkeep
/// is at it, or comes next.
pub(crate) fn pool_access(roles: &HomeRoles) -> PoolAccess {
    if !roles.is_open || !roles.pool_member {
        PoolAccess::ShutOut
    } else if roles.is_pooled && roles.wants_pooling() {
        PoolAccess::LetIn
    } else {
        PoolAccess::Changing
    }
}

/// All clusters on which there are homes.
pub(super) async fn inhabited(control: &Control) -> Result<Vec<ClusterId>, ControlError> {
    let mut clusters = Vec::new();
    let mut page = tenantry_store::PageRequest { limit: tenantry_store::PAGE_MAX, cursor: None };
    loop {
        let found = control.store().clusters(&tenantry_store::ClusterFilter::default(), &page).await?;
        clusters.extend(found.items.iter().filter(|it| it.usage.homes > 0).map(|it| it.id));
        page.cursor = found.next;
        if page.cursor.is_none() {
            return Ok(clusters);
        }
    }
}
