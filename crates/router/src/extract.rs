//! Finding the tenant of an axum request, and answering where there is none.
//!
//! ```
//! use axum::Router as Routes;
//! use axum::extract::FromRef;
//! use axum::routing::get;
//! use tenantry_router::{Router, RouterError, Tenant, TenantSources};
//!
//! #[derive(Clone, FromRef)]
//! struct App {
//!     router: Router,
//!     sources: TenantSources,
//! }
//!
//! async fn count(tenant: Tenant) -> Result<String, RouterError> {
//!     let client = tenant.client().await?;
//!     # let _ = client;
//!     Ok(format!("hello, {}", tenant.slug()))
//! }
//!
//! fn routes(router: Router) -> Routes {
//!     let sources = TenantSources::new().sub_domain().path("tenant");
//!     Routes::new().route("/flights", get(count)).with_state(App { router, sources })
//! }
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use axum::http::header::{CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tenantry_api::problem::PROBLEM_MEDIA_TYPE;
use tenantry_api::{Code, Problem};
use tenantry_domain::TenantId;

use crate::error::{RouterError, whole_seconds};
use crate::name::TenantName;
use crate::router::Router;
use crate::tenant::Tenant;

/// One place in a request that names its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    SubDomain,
    CustomHost,
    Header(HeaderName),
    Path(String),
}

/// The places in a request that are trusted to name its tenant. No other place is looked at. Where several name one,
/// they must name the same.
#[derive(Debug, Clone, Default)]
pub struct TenantSources {
    sources: Arc<Vec<Source>>,
}

impl TenantSources {
    /// No place yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sub-domain of the router's base domain: `acme` in `acme.example.com`. Other hosts name nobody.
    #[must_use]
    pub fn sub_domain(self) -> Self {
        self.and(Source::SubDomain)
    }

    /// A host of the tenant's own. A host that is neither the base domain, nor under it, nor an address or
    /// `localhost`, must be some tenant's.
    #[must_use]
    pub fn custom_host(self) -> Self {
        self.and(Source::CustomHost)
    }

    /// A header with the tenant's id or slug. Trust it only where clients cannot set it, behind a gateway that does.
    #[must_use]
    pub fn header(self, name: HeaderName) -> Self {
        self.and(Source::Header(name))
    }

    /// A parameter of the path with the tenant's id or slug: `tenant` in `/airlines/{tenant}/flights`.
    #[must_use]
    pub fn path(self, parameter: impl Into<String>) -> Self {
        self.and(Source::Path(parameter.into()))
    }

    fn and(mut self, source: Source) -> Self {
        Arc::make_mut(&mut self.sources).push(source);
        self
    }
}

/// Why a request has no tenant that can be served. Answers as a problem document.
#[derive(Debug, thiserror::Error)]
pub enum TenantRejection {
    /// None of the trusted places names one.
    #[error("the request names no tenant")]
    Missing,
    /// Two places name different tenants, or one place names several.
    #[error("the request names more than one tenant")]
    Disagreement,
    /// The one that is named cannot be served.
    #[error(transparent)]
    Router(#[from] RouterError),
}

impl<S> FromRequestParts<S> for Tenant
where
    S: Send + Sync,
    Router: FromRef<S>,
    TenantSources: FromRef<S>,
{
    type Rejection = TenantRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TenantRejection> {
        let (router, sources) = (Router::from_ref(state), TenantSources::from_ref(state));
        let parameters = RawPathParams::from_request_parts(parts, state).await.ok();
        let mut agreed: Option<TenantId> = None;
        for source in sources.sources.iter() {
            let Some(named) = named_by(source, parts, parameters.as_ref(), &router)? else { continue };
            if agreed.is_some_and(|agreed| agreed != named) {
                return Err(TenantRejection::Disagreement);
            }
            agreed = Some(named);
        }
        let tenant = agreed.ok_or(TenantRejection::Missing)?;
        Ok(router.tenant(tenant).await?)
    }
}

/// The tenant that one place names; an error where it names one that does not exist.
fn named_by(
    source: &Source,
    parts: &Parts,
    parameters: Option<&RawPathParams>,
    router: &Router,
) -> Result<Option<TenantId>, TenantRejection> {
    let host;
    let name = match source {
        Source::SubDomain | Source::CustomHost => {
            let Some(text) = host_of(parts)? else { return Ok(None) };
            host = text;
            let wanted = router.place_of(&host);
            match (source, wanted) {
                (Source::SubDomain, HostPlace::SubDomain(slug)) => TenantName::Slug(slug),
                (Source::CustomHost, HostPlace::Elsewhere) if !is_address(&host) => TenantName::Host(&host),
                _ => return Ok(None),
            }
        }
        Source::Header(header) => match only_value(&parts.headers, header)? {
            Some(text) => id_or_slug(text),
            None => return Ok(None),
        },
        Source::Path(parameter) => {
            let value = parameters.and_then(|parameters| parameters.iter().find(|(name, _)| name == parameter));
            match value {
                Some((_, text)) => id_or_slug(text),
                None => return Ok(None),
            }
        }
    };
    match router.inner().find(name) {
        Some(route) => Ok(Some(route.tenant)),
        None => Err(RouterError::unknown(name).into()),
    }
}

/// How a host stands to the router's base domain.
enum HostPlace<'h> {
    Base,
    SubDomain(&'h str),
    Elsewhere,
}

impl Router {
    fn place_of<'h>(&self, host: &'h str) -> HostPlace<'h> {
        match self.inner().slug_in(host) {
            Some(slug) => HostPlace::SubDomain(slug),
            None if self.inner().base_domain.as_deref() == Some(host) => HostPlace::Base,
            None => HostPlace::Elsewhere,
        }
    }
}

/// The request's host in lower case, without a port. HTTP/2 has it in the URI.
fn host_of(parts: &Parts) -> Result<Option<String>, TenantRejection> {
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => only_value(&parts.headers, &HOST)?,
    };
    Ok(authority.map(|authority| {
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.trim_end_matches('.').to_ascii_lowercase()
    }))
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok()
}

/// The value of a header that may stand only once.
fn only_value<'p>(headers: &'p HeaderMap, name: &HeaderName) -> Result<Option<&'p str>, TenantRejection> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let unknown = |_| RouterError::unknown(String::from_utf8_lossy(value.as_bytes()));
            Ok(Some(value.to_str().map_err(unknown)?))
        }
        (Some(_), Some(_)) => Err(TenantRejection::Disagreement),
    }
}

/// Headers and paths name by id or slug; a host there names nobody.
fn id_or_slug(text: &str) -> TenantName<'_> {
    match TenantName::from(text) {
        TenantName::Host(text) => TenantName::Slug(text),
        name => name,
    }
}

impl From<&RouterError> for Problem {
    fn from(error: &RouterError) -> Self {
        let code = match error {
            RouterError::Unknown { .. } => Code::NotFound,
            RouterError::Suspended { .. } => Code::Forbidden,
            RouterError::LimitExceeded { .. } => Code::LimitExceeded,
            RouterError::Provisioning { .. }
            | RouterError::Moving { .. }
            | RouterError::Stale { .. }
            | RouterError::SchemaVersion { .. }
            | RouterError::Unavailable { .. }
            | RouterError::Timeout { .. }
            | RouterError::NotStarted { .. } => Code::Unavailable,
            // What is set up wrongly concerns those who read the log.
            RouterError::Refused { .. } | RouterError::Closed => {
                return Self::new(Code::Internal, "The service is not able to reach the tenant.");
            }
        };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for RouterError {
    fn into_response(self) -> Response {
        if matches!(self, Self::Refused { .. }) {
            tracing::error!(error = %self, "a request failed because the router is set up wrongly");
        }
        let mut response = respond(&Problem::from(&self));
        if let Some(retry_after) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, whole_seconds(retry_after).into());
        }
        response
    }
}

impl IntoResponse for TenantRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Missing | Self::Disagreement => respond(&Problem::new(Code::InvalidRequest, self.to_string())),
            Self::Router(error) => error.into_response(),
        }
    }
}

fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match serde_json::to_vec(problem) {
        Ok(body) => (status, [(CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response(),
        Err(_) => status.into_response(),
    }
}
