//! Reaching a server: a socket, with the options that notice a peer that vanished.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tenantry_domain::Endpoint;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A socket to a server.
pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// After so much silence the system asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);
/// After so long what was sent and not acknowledged counts as lost.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Whether the endpoint is a unix socket's folder.
pub(crate) fn is_socket(endpoint: &Endpoint) -> bool {
    endpoint.host().starts_with('/')
}

/// Opens a socket to the server; all addresses of its name are tried in turn.
pub(crate) async fn dial(endpoint: &Endpoint) -> io::Result<Socket> {
    if is_socket(endpoint) {
        let path = format!("{}/.s.PGSQL.{}", endpoint.host(), endpoint.port());
        return Ok(Either::Right(UnixStream::connect(path).await?));
    }
    let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(Either::Left(stream))
}
