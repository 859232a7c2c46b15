//! Asking for a tenant's permission to run a request.

use std::fmt;

use tenantry_domain::TenantId;
use tokio::time::{Instant, timeout};

use super::gate::{Entered, Exceeded, Place};
use crate::error::RouterError;
use crate::inner::Inner;
use crate::table::Found;
use crate::tenant::Tenant;

/// A limit on a tenant's requests, or on the connections for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestLimit {
    /// `requests_per_second`.
    PerSecond,
    /// `requests_per_minute`.
    PerMinute,
    /// `concurrent_requests`: all places are taken, and none was free in time, or nobody may wait for one.
    Concurrent,
    /// `queued_requests`: as many wait already as may.
    Queued,
    /// `connections_per_second`: a connection was needed that may be opened only later, and none was given back in time.
    Openings,
}

impl RequestLimit {
    /// Its name in a plan and in a tenant's overrides.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PerSecond => "requests_per_second",
            Self::PerMinute => "requests_per_minute",
            Self::Concurrent => "concurrent_requests",
            Self::Queued => "queued_requests",
            Self::Openings => "connections_per_second",
        }
    }
}

impl fmt::Display for RequestLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The permission to run one request of a tenant. While it is held the request counts among those that run; dropped, its
/// place goes to the next in the tenant's queue.
#[derive(Debug)]
#[must_use = "the request counts as running only while the permit is held"]
pub struct Permit {
    tenant: TenantId,
    _place: Place,
}

impl Permit {
    /// Whose request it is for.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }
}

impl Tenant {
    /// Asks for permission to run one request, by the limits that the tenant has now (its plan's and its own):
    ///
    /// - `requests_per_second` and `requests_per_minute`: a whole interval's worth may come at once; over any longer time
    ///   no more get through than the rate gives beyond that. Each router counts for itself.
    /// - `concurrent_requests`: those beyond it wait, first come, first served, for as long as
    ///   [`RouterConfig::admission_timeout`](crate::RouterConfig::admission_timeout).
    /// - `queued_requests`: how many may wait; without it
    ///   [`RouterConfig::queued_requests_max`](crate::RouterConfig::queued_requests_max), which also caps it.
    ///
    /// A limit that changes holds from the next request on; one that is raised lets waiting ones through at once. The
    /// future may be dropped at any time: its place in the queue goes to the next.
    ///
    /// # Errors
    ///
    /// [`RouterError::LimitExceeded`] with the limit and the time after which it is worth another try; a request that is
    /// refused counts against no limit. [`RouterError::Unknown`] where the tenant is gone, [`RouterError::Closed`] after
    /// [`Router::close`](crate::Router::close).
    pub async fn admit(&self) -> Result<Permit, RouterError> {
        self.router.admit(&self.found).await
    }
}

impl Inner {
    async fn admit(&self, found: &Found) -> Result<Permit, RouterError> {
        let tenant = found.tenant;
        if self.shutdown.is_cancelled() {
            return Err(RouterError::Closed);
        }
        let limits = self.table.limits(found).ok_or_else(|| RouterError::unknown(tenant))?;
        let refuse = |Exceeded { limit, retry_after }: Exceeded| {
            metrics::counter!("tenantry_router_limited_total", "limit" => limit.as_str()).increment(1);
            RouterError::LimitExceeded { tenant, limit, retry_after }
        };
        let began = Instant::now();
        let entered = self.admissions.enter(tenant, &limits, self.config.queued_requests_max);
        let place = match entered.map_err(refuse)? {
            Entered::Running(place) => place,
            Entered::Queued(turn) => {
                let coming = timeout(self.config.admission_timeout, turn.come());
                let came = self.shutdown.run_until_cancelled(coming).await.ok_or(RouterError::Closed)?;
                let retry_after = self.config.admission_timeout;
                came.map_err(|_| refuse(Exceeded { limit: RequestLimit::Concurrent, retry_after }))?
            }
        };
        metrics::histogram!("tenantry_router_admission_seconds").record(began.elapsed());
        Ok(Permit { tenant, _place: place })
    }
}
