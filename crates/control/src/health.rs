//! How a tenant is: every check by itself, each with an answer in time.

use std::future::Future;
use std::time::Duration;

use tenantry_domain::{
    Access, Limits, OperationState, Placement, RouteState, SchemaVersion, Scope, TenantId, TenantStatus,
};
use tenantry_fleet::{ClusterTarget, FleetError, RouteCheck, Stamp};
use tenantry_store::{HomeRecord, Operation, OperationFilter, PageRequest, StoreError, TenantRef};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;
use crate::operations::cluster_target::cluster_target;
use crate::rollouts::stragglers;
use crate::tenants;

/// The longest that one check takes; all run at the same time.
const CHECK_MAX: Duration = Duration::from_secs(5);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `placement`, `login`, `stamp`, `schema`, `size`, `connections` or `operation`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen, as a sentence.
    pub why: String,
}

/// How a tenant is.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantHealth {
    /// Which tenant.
    pub tenant: TenantId,
    /// Where it stands.
    pub status: TenantStatus,
    /// What was looked at. Without a home, only what can be.
    pub checks: Vec<HealthCheck>,
    /// The version of the home's own history.
    pub schema_version: Option<SchemaVersion>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// Sessions that the tenant has now.
    pub connections: Option<u32>,
    /// Sessions that it may have; absent for no ceiling.
    pub connection_limit: Option<u32>,
    /// The newest operation on it.
    pub last_operation: Option<Operation>,
}

impl TenantHealth {
    /// Whether everything is as it should be.
    pub fn is_healthy(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// Looks at a tenant from every side: logs in as it does, reads the stamp and the history, measures, counts. Takes a few
/// seconds at most; what does not answer in time is not well.
pub async fn check(control: &Control, caller: &Caller, tenant: &TenantRef) -> Result<TenantHealth, ControlError> {
    caller.require(Scope::Tenants(Access::Read))?;
    let tenant = tenants::show(control, caller, tenant).await?;
    let limits = control.store().plan(&tenant.plan).await?.limits.overridden_by(tenant.overrides.limits);
    let last_operation = last_operation(control, tenant.id).await?;
    let status = tenant.state.status();
    let mut health = TenantHealth {
        tenant: tenant.id,
        status,
        checks: vec![placement_check(status, tenant.state.placement()), operation_check(last_operation.as_ref())],
        schema_version: None,
        size_bytes: None,
        connections: None,
        connection_limit: limits.connections,
        last_operation,
    };
    let Some(placement) = tenant.state.placement() else { return Ok(health) };
    let record = match control.store().home(placement.home.id).await {
        Ok(record) => record,
        // Taken down since the tenant was read.
        Err(StoreError::NotFound { .. }) => return Ok(health),
        Err(error) => return Err(error.into()),
    };
    let target = cluster_target(control, placement.home.cluster).await?;
    let behind = control.store().straggler(tenant.id).await?.as_ref().map(stragglers::sentence);
    let is_open = status == TenantStatus::Active;
    let site = Site { control, target: &target, record: &record, placement, is_open, behind };
    // One after the other: the login of this check is none of the tenant's connections.
    let connections_and_login = async {
        let connections = Box::pin(measured_in_time("connections", site.connections(&limits))).await;
        (connections, Box::pin(in_time("login", site.login())).await)
    };
    let ((connections, login), stamp, schema, size) = tokio::join!(
        connections_and_login,
        Box::pin(in_time("stamp", site.stamp())),
        Box::pin(measured_in_time("schema", site.schema(tenant.schema_version))),
        Box::pin(measured_in_time("size", site.size())),
    );
    health.schema_version = schema.1;
    health.size_bytes = size.1;
    health.connections = connections.1;
    health.checks.extend([login, stamp, schema.0, size.0, connections.0]);
    Ok(health)
}

/// What the checks inside a home need.
struct Site<'a> {
    control: &'a Control,
    target: &'a ClusterTarget,
    record: &'a HomeRecord,
    placement: &'a Placement,
    is_open: bool,
    /// How its schema is behind the fleet's, if it is.
    behind: Option<String>,
}

/// What a check says, if the cluster answered: whether it is well, and why.
type Verdict = Result<(bool, String), FleetError>;

impl Site<'_> {
    /// A login of the tenant's own, as a router has it. That of a suspended tenant must be refused.
    async fn login(&self) -> Verdict {
        let names = self.record.home.names();
        let check = RouteCheck {
            database: &self.record.home.database,
            role: names.login(self.record.login),
            password: &self.record.secrets.login,
            tenant: self.placement.tenant,
            generation: self.placement.since,
        };
        let outcome = self.control.fleet().check_route(self.target, &check).await;
        Ok(match (self.is_open, outcome) {
            (true, Ok(())) => (true, "its own role logs in and finds the placement".to_owned()),
            (false, Ok(())) => (false, "its own role still logs in, although the tenant is not served".to_owned()),
            (false, Err(FleetError::Refused { .. } | FleetError::StampMismatch { .. })) => {
                (true, "its own role is shut out, as that of a tenant that is not served must be".to_owned())
            }
            (_, Err(error)) => return Err(error),
        })
    }

    async fn stamp(&self) -> Verdict {
        let state = if self.is_open { RouteState::Active } else { RouteState::Suspended };
        let expected = Stamp { tenant: self.placement.tenant, generation: self.placement.since, state };
        Ok(match self.control.fleet().read_stamp(self.target, &self.record.home).await? {
            None => (false, "the home bears no stamp".to_owned()),
            Some(stamp) if stamp.tenant != expected.tenant => {
                (false, format!("the home is stamped for tenant {}", stamp.tenant))
            }
            Some(stamp) if stamp.generation != expected.generation => (
                false,
                format!("the home is stamped with generation {}, not {}", stamp.generation, expected.generation),
            ),
            // A home that lets nobody log in may keep the stamp of a served one.
            Some(stamp) if self.is_open && stamp.state != RouteState::Active => {
                (false, format!("the home is stamped as {}", stamp.state))
            }
            Some(stamp) => (true, format!("generation {}, {}", stamp.generation, stamp.state)),
        })
    }

    async fn schema(&self, recorded: SchemaVersion) -> Result<(bool, String, SchemaVersion), FleetError> {
        let fleet = self.control.fleet();
        let history = fleet.history(self.target, &self.record.home, &self.record.secrets.migrator).await?;
        let version = SchemaVersion(history.iter().map(|it| it.version).max().unwrap_or(0));
        Ok(match &self.behind {
            _ if version != recorded => (false, format!("at version {version}, but recorded as {recorded}"), version),
            Some(behind) => (false, behind.clone(), version),
            None => (true, format!("at version {version}"), version),
        })
    }

    async fn size(&self) -> Result<(bool, String, u64), FleetError> {
        let bytes = self.control.fleet().home_size(self.target, &self.record.home).await?;
        Ok((true, format!("{bytes} bytes"), bytes))
    }

    async fn connections(&self, limits: &Limits) -> Result<(bool, String, u32), FleetError> {
        let now = self.control.fleet().home_connections(self.target, &self.record.home).await?;
        Ok(match limits.connections {
            Some(most) if now >= most => (false, format!("{now} of {most}: new ones are refused"), now),
            Some(most) => (true, format!("{now} of {most}"), now),
            None => (true, format!("{now}, without a ceiling"), now),
        })
    }
}

async fn in_time(name: &'static str, check: impl Future<Output = Verdict>) -> HealthCheck {
    measured_in_time(name, async { check.await.map(|(ok, why)| (ok, why, ())) }).await.0
}

async fn measured_in_time<T>(
    name: &'static str,
    check: impl Future<Output = Result<(bool, String, T), FleetError>>,
) -> (HealthCheck, Option<T>) {
    match tokio::time::timeout(CHECK_MAX, check).await {
        Ok(Ok((ok, why, value))) => (HealthCheck { name, ok, why }, Some(value)),
        Ok(Err(error)) => (HealthCheck { name, ok: false, why: error.to_string() }, None),
        Err(_) => {
            let why = format!("no answer within {} seconds", CHECK_MAX.as_secs());
            (HealthCheck { name, ok: false, why }, None)
        }
    }
}

fn placement_check(status: TenantStatus, placement: Option<&Placement>) -> HealthCheck {
    let (ok, why) = match placement {
        Some(placement) => {
            (true, format!("lives in home {} on cluster {}, {status}", placement.home.id, placement.home.cluster))
        }
        None => (false, format!("lives in no home: it is {status}")),
    };
    HealthCheck { name: "placement", ok, why }
}

fn operation_check(operation: Option<&Operation>) -> HealthCheck {
    let (ok, why) = match operation {
        None => (true, "nothing was ever done".to_owned()),
        Some(operation) => (
            !matches!(operation.state, OperationState::Failed | OperationState::Parked),
            format!("the last one, {}, is {}", operation.kind, operation.state),
        ),
    };
    HealthCheck { name: "operation", ok, why }
}

async fn last_operation(control: &Control, tenant: TenantId) -> Result<Option<Operation>, ControlError> {
    let filter = OperationFilter { tenant: Some(tenant), ..OperationFilter::default() };
    let page = PageRequest { limit: 1, cursor: None };
    Ok(control.store().operations(&filter, &page).await?.items.into_iter().next())
}
