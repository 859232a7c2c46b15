//! The listener: bind, serve, close in good order.

use std::net::{SocketAddr, TcpListener};

use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tenantry_control::Control;
use tenantry_runtime::Telemetry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::ServerConfig;
use crate::connection::Doorkeeper;
use crate::error::ServerError;
use crate::http::{self, Shared};

mod protocol {
    //! Limits of the HTTP protocols, the same for everyone.

    use std::time::Duration;

    /// A request's head must be complete by then.
    pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
    /// Most headers of one request.
    pub(super) const HEADERS_MAX: usize = 64;
    /// Largest head of one request in bytes.
    pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
    /// The same for HTTP/2.
    pub(super) const HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;
    /// Most requests at a time on one connection.
    pub(super) const CONCURRENT_STREAMS_MAX: u32 = 128;
    /// How often a silent HTTP/2 connection is asked whether it lives.
    pub(super) const PING_INTERVAL: Duration = Duration::from_secs(20);
    /// How long it may take to say so.
    pub(super) const PING_TIMEOUT: Duration = Duration::from_secs(10);
}

/// The door of one replica, open from [`Server::bind`] on: connections wait until [`Server::run`] serves them.
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    tls: Option<RustlsConfig>,
    shared: Shared,
}

impl Server {
    /// Checks the configuration, reads the certificate and takes the address. Fails where plain HTTP would be
    /// reachable from other machines. `telemetry` is what `/metrics` answers with.
    pub fn bind(config: ServerConfig, control: Control, telemetry: Telemetry) -> Result<Self, ServerError> {
        config.check()?;
        let tls = config.tls.as_ref().map(crate::tls::load).transpose()?;
        let listen = config.listen;
        let failed = |source| ServerError::Listen { listen, source };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        http::describe_metrics();
        Ok(Self { listener, local_addr, tls, shared: Shared::new(config, control, telemetry) })
    }

    /// Where it listens; the port that the kernel chose, if it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The URL under which a client on this machine reaches it. A server on all addresses is named by the loopback one.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut address = self.local_addr;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        format!("{scheme}://{address}")
    }

    /// Serves until told to stop. Then takes no more connections, ends streams, and lets requests finish within the
    /// configured grace; what is not finished by then is cut off.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServerError> {
        let handle = Handle::new();
        let _end = End { handle: handle.clone(), shared: self.shared.clone() };
        let config = self.shared.config();
        let grace = config.shutdown_grace;
        let doorkeeper = Doorkeeper::new(config.connections_max, config.write_timeout);
        info!(address = %self.local_addr, tls = self.tls.is_some(), "listening");
        let close = async {
            stop.cancelled().await;
            self.shared.closing().cancel();
            handle.graceful_shutdown(Some(grace));
            std::future::pending::<()>().await;
        };
        let serve = async {
            let mut server = axum_server::from_tcp(self.listener)?.handle(handle.clone());
            configure(server.http_builder());
            let door = http::router(&self.shared).into_make_service();
            match self.tls {
                Some(tls) => server.acceptor(RustlsAcceptor::new(tls).acceptor(doorkeeper)).serve(door).await,
                None => server.acceptor(doorkeeper).serve(door).await,
            }
        };
        let upkeep = async {
            let (control, closing) = (self.shared.control(), self.shared.closing());
            tokio::join!(self.shared.feed().run(closing), self.shared.open_tokens().run(control, closing));
            std::future::pending::<()>().await;
        };
        let served = tokio::select! {
            served = serve => served.map_err(ServerError::Serve),
            () = close => Ok(()),
            () = upkeep => Ok(()),
        };
        // Work that outlived its connection has as long again.
        self.shared.tasks().close();
        if tokio::time::timeout(grace, self.shared.tasks().wait()).await.is_err() {
            warn!(left = self.shared.tasks().len(), "requests were cut off at the end of the grace period");
        }
        served
    }
}

/// Ends what is left when [`Server::run`] returns or is dropped: connections and work are tasks of their own, and would
/// go on serving a door that is gone.
struct End {
    handle: Handle<SocketAddr>,
    shared: Shared,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.closing().cancel();
        self.shared.cut_off().cancel();
        self.handle.shutdown();
    }
}

/// Limits that hold for every connection, whatever protocol it speaks.
fn configure(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(protocol::HEAD_TIMEOUT)
        .max_headers(protocol::HEADERS_MAX)
        .max_buf_size(protocol::HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(protocol::HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(protocol::CONCURRENT_STREAMS_MAX)
        .keep_alive_interval(protocol::PING_INTERVAL)
        .keep_alive_timeout(protocol::PING_TIMEOUT);
}
