//! Listening, for programs that have no HTTP server of their own.

use std::io;
use tenantry_router::{Router, TenantSources};
use tokio::net::TcpListener;

/// Serves the product on a socket until `stop` is there, then lets requests finish.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    sources: TenantSources,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, crate::service(router, sources)).with_graceful_shutdown(stop).await
}
