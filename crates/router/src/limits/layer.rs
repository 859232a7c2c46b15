//! Limits for a whole axum service.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tower::{Layer, Service};

use super::permit::Permit;
use crate::extract::{TenantRejection, TenantSources, find};
use crate::router::Router;

/// Holds each tenant's requests to its limits, before any handler runs: see [`Tenant::admit`](crate::Tenant::admit).
///
/// The tenant is found in the given sources, which should be those of the extractor: then the extractor uses what was
/// found here and looks no further. A request that names no tenant passes, so that health checks do; one whose tenant
/// cannot be served is answered at once as the extractor would, and one beyond a limit with 429 and `Retry-After`. A
/// request counts as running until its answer's body is sent or dropped.
///
/// Apply it with [`axum::Router::layer`], after the routes: only there does it see the path's parameters.
///
/// ```
/// # use axum::extract::FromRef;
/// # use axum::routing::get;
/// # use tenantry_router::{Router, TenantLimitLayer, TenantSources};
/// # #[derive(Clone, FromRef)]
/// # struct App { router: Router, sources: TenantSources }
/// # async fn flights(_: tenantry_router::Tenant) {}
/// fn routes(router: Router) -> axum::Router {
///     let sources = TenantSources::new().sub_domain();
///     let limits = TenantLimitLayer::new(router.clone(), sources.clone());
///     axum::Router::new().route("/flights", get(flights)).layer(limits).with_state(App { router, sources })
/// }
/// ```
#[derive(Debug, Clone)]
pub struct TenantLimitLayer {
    router: Router,
    sources: TenantSources,
}

impl TenantLimitLayer {
    /// Finds the tenants of requests in these sources.
    pub fn new(router: Router, sources: TenantSources) -> Self {
        Self { router, sources }
    }
}

impl<S> Layer<S> for TenantLimitLayer {
    type Service = TenantLimit<S>;

    fn layer(&self, inner: S) -> TenantLimit<S> {
        TenantLimit { inner, layer: self.clone() }
    }
}

/// What [`TenantLimitLayer`] makes of a service.
#[derive(Debug, Clone)]
pub struct TenantLimit<S> {
    inner: S,
    layer: TenantLimitLayer,
}

impl<S> Service<Request> for TenantLimit<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready, not its clone.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let permit = match find(&mut parts, &layer.router, &layer.sources).await {
                Ok(tenant) => match tenant.admit().await {
                    Ok(permit) => Some(permit),
                    Err(error) => return Ok(error.into_response()),
                },
                Err(TenantRejection::Missing) => None,
                Err(rejection) => return Ok(rejection.into_response()),
            };
            let response = inner.call(Request::from_parts(parts, body)).await?;
            Ok(match permit {
                Some(permit) => response.map(|body| Body::new(Held { body, _permit: permit })),
                None => response,
            })
        })
    }
}

/// A body that keeps its request's place until it is sent.
struct Held {
    body: Body,
    _permit: Permit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
