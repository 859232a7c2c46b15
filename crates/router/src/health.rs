//! Whether a router can do its work, for those who watch it.

use serde::{Serialize, Serializer};

use crate::router::{RouteSource, RouterStatus};

/// How well a router can do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// It follows the control plane.
    Healthy,
    /// It serves tenants with what it knows; changes do not arrive. Not a reason to take the service out: the others
    /// fare no better.
    Degraded,
    /// It serves nobody.
    Unavailable,
}

/// What a health check shows. As JSON it is an object with `state`, `reason`, `source`, `applied_version`, `is_connected`,
/// `age_seconds`, `routes` and `pools`; with the feature `axum` it is an answer, 503 where the state is
/// [`HealthState::Unavailable`] and 200 otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterHealth {
    /// How well.
    pub state: HealthState,
    /// Why it is not better.
    pub reason: Option<&'static str>,
    /// What is behind it.
    pub status: RouterStatus,
}

impl RouterHealth {
    pub(crate) fn of(status: RouterStatus, is_closed: bool, is_too_stale: bool) -> Self {
        let (state, reason) = if is_closed {
            (HealthState::Unavailable, Some("the router is closed"))
        } else if is_too_stale {
            (HealthState::Unavailable, Some("the routes are older than they may be"))
        } else {
            match status.source {
                RouteSource::Fixed => (HealthState::Healthy, None),
                RouteSource::Snapshot => (
                    HealthState::Degraded,
                    Some("the routes are from the snapshot; the control plane was not heard yet"),
                ),
                RouteSource::Feed if status.is_connected => (HealthState::Healthy, None),
                RouteSource::Feed => (HealthState::Degraded, Some("the feed of the control plane is not connected")),
            }
        };
        Self { state, reason, status }
    }
}

#[derive(Serialize)]
struct Shown<'h> {
    state: HealthState,
    reason: Option<&'h str>,
    source: RouteSource,
    applied_version: i64,
    is_connected: bool,
    age_seconds: Option<u64>,
    routes: usize,
    pools: usize,
}

impl Serialize for RouterHealth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let RouterStatus { applied_version, source, is_connected, age, routes, pools } = self.status;
        let shown = Shown {
            state: self.state,
            reason: self.reason,
            source,
            applied_version: applied_version.0,
            is_connected,
            age_seconds: age.map(|age| age.as_secs()),
            routes,
            pools,
        };
        shown.serialize(serializer)
    }
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for RouterHealth {
    fn into_response(self) -> axum::response::Response {
        let status = match self.state {
            HealthState::Healthy | HealthState::Degraded => axum::http::StatusCode::OK,
            HealthState::Unavailable => axum::http::StatusCode::SERVICE_UNAVAILABLE,
        };
        // Nobody in between may keep it.
        (status, [(axum::http::header::CACHE_CONTROL, "no-store")], axum::Json(self)).into_response()
    }
}
