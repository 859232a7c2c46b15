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

mod answer;
mod config;
mod header;
mod host;
mod path;
mod query;
#[cfg(feature = "jwt")]
mod token;

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, RawPathParams};
use axum::http::HeaderName;
use axum::http::request::Parts;
use tenantry_domain::TenantId;

pub use answer::TenantRejection;
pub use config::{TenantSourceConfig, TenantSourcesConfig};
pub use query::Development;
#[cfg(feature = "jwt")]
pub use token::{TokenAlgorithm, TokenConfig, TokenError, TokenKey, TokenKeyConfig, TokenVerifier};

use crate::error::RouterError;
use crate::name::TenantName;
use crate::router::Router;
use crate::tenant::Tenant;

/// One place in a request that names its tenant.
#[derive(Debug, Clone)]
enum Source {
    SubDomain,
    CustomHost,
    Header(HeaderName),
    Path(String),
    Query(String),
}

/// The places in a request that are trusted to name its tenant, in the order in which they are looked at. No other place
/// is. Where several name one, they must name the same.
///
/// A token binds: where a request bears one, whatever else names a tenant must name the token's, known or not, or the
/// request is forbidden. So nobody learns by trying which other tenants there are.
///
/// | what the request says | answer |
/// |---|---|
/// | no place names a tenant, or places disagree, or one place names several | 400 `invalid_request` |
/// | the token is missing where it must be, or not valid | 401 `unauthenticated` |
/// | the token names no tenant, or another than the rest of the request; or the tenant is suspended | 403 `forbidden` |
/// | there is no such tenant | 404 `not_found` |
/// | the tenant is past one of its limits | 429 `limit_exceeded`, `Retry-After` |
/// | the tenant is being provisioned or moves, or its cluster is away | 503 `unavailable`, `Retry-After` |
#[derive(Debug, Clone, Default)]
pub struct TenantSources {
    shared: Arc<Sources>,
}

#[derive(Debug, Clone, Default)]
struct Sources {
    places: Vec<Source>,
    #[cfg(feature = "jwt")]
    token: Option<token::TokenSource>,
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

    /// A parameter of the query with the tenant's id or slug: `tenant` in `/flights?tenant=acme`. Anybody can write one,
    /// so it takes what only a configuration for development has, and says so in the log.
    #[must_use]
    pub fn query(self, parameter: impl Into<String>, _: Development) -> Self {
        let parameter = parameter.into();
        tracing::warn!(parameter, "development: any request may name any tenant in its query");
        self.and(Source::Query(parameter))
    }

    /// A claim of a bearer token (JWT) in `Authorization`. Every request must bear one.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn token(self, verifier: TokenVerifier) -> Self {
        self.bound_by(token::TokenSource { verifier, is_required: true })
    }

    /// As [`TenantSources::token`], but a request without a token is not refused: then other places name the tenant, and
    /// whether anyone may come so is for the service to say.
    #[cfg(feature = "jwt")]
    #[must_use]
    pub fn optional_token(self, verifier: TokenVerifier) -> Self {
        self.bound_by(token::TokenSource { verifier, is_required: false })
    }

    #[cfg(feature = "jwt")]
    fn bound_by(mut self, token: token::TokenSource) -> Self {
        Arc::make_mut(&mut self.shared).token = Some(token);
        self
    }

    fn and(mut self, source: Source) -> Self {
        Arc::make_mut(&mut self.shared).places.push(source);
        self
    }
}

impl<S> FromRequestParts<S> for Tenant
where
    S: Send + Sync,
    Router: FromRef<S>,
    TenantSources: FromRef<S>,
{
    type Rejection = TenantRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, TenantRejection> {
        find(parts, &Router::from_ref(state), &TenantSources::from_ref(state)).await
    }
}

/// The tenant that was found in a request, kept with it for whoever asks again.
#[derive(Clone)]
struct Found {
    sources: TenantSources,
    tenant: Tenant,
}

/// Finds the tenant of a request; a second time only for other sources.
pub(crate) async fn find(
    parts: &mut Parts,
    router: &Router,
    sources: &TenantSources,
) -> Result<Tenant, TenantRejection> {
    if let Some(found) = parts.extensions.get::<Found>()
        && Arc::ptr_eq(&found.sources.shared, &sources.shared)
        && std::ptr::eq(&raw const *found.tenant.router, router.inner())
    {
        return Ok(found.tenant.clone());
    }
    let parameters = RawPathParams::from_request_parts(parts, &()).await.ok();
    let named = sources.shared.named_in(parts, parameters.as_ref(), router)?;
    let tenant = router.tenant(named).await?;
    parts.extensions.insert(Found { sources: sources.clone(), tenant: tenant.clone() });
    Ok(tenant)
}

impl Sources {
    fn named_in(
        &self,
        parts: &Parts,
        parameters: Option<&RawPathParams>,
        router: &Router,
    ) -> Result<TenantId, TenantRejection> {
        let bound = self.bound_in(parts, router)?;
        let mut agreed = bound;
        for place in &self.places {
            let found = match place {
                Source::SubDomain | Source::CustomHost => {
                    let Some(host) = host::of(parts)? else { continue };
                    host::name_in(&host, place, router).map(|name| known(name, router))
                }
                Source::Header(header) => header::only_value(&parts.headers, header)?.map(|text| named(text, router)),
                Source::Path(parameter) => path::value(parameters, parameter).map(|text| named(text, router)),
                Source::Query(parameter) => query::value(parts, parameter)?.map(|text| named(&text, router)),
            };
            let Some(found) = found else { continue };
            if bound.is_some() {
                if found.ok() != bound {
                    return Err(TenantRejection::ForeignToken);
                }
                continue;
            }
            let found = found?;
            if agreed.is_some_and(|agreed| agreed != found) {
                return Err(TenantRejection::Disagreement);
            }
            agreed = Some(found);
        }
        agreed.ok_or(TenantRejection::Missing)
    }

    /// The tenant of the request's token.
    #[cfg(feature = "jwt")]
    fn bound_in(&self, parts: &Parts, router: &Router) -> Result<Option<TenantId>, TenantRejection> {
        let Some(token) = &self.token else { return Ok(None) };
        match token.claim_in(&parts.headers)? {
            Some(text) => Ok(Some(named(&text, router)?)),
            None => Ok(None),
        }
    }

    #[cfg(not(feature = "jwt"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "with tokens it uses both")]
    fn bound_in(&self, _: &Parts, _: &Router) -> Result<Option<TenantId>, TenantRejection> {
        Ok(None)
    }
}

/// Whose id or slug a text is. A host names nobody here.
fn named(text: &str, router: &Router) -> Result<TenantId, RouterError> {
    let name = match TenantName::from(text) {
        TenantName::Host(text) => TenantName::Slug(text),
        name => name,
    };
    known(name, router)
}

fn known(name: TenantName<'_>, router: &Router) -> Result<TenantId, RouterError> {
    router.inner().find(name).map(|found| found.tenant).ok_or_else(|| RouterError::unknown(name))
}
