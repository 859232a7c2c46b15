//! Why the door could not be opened or kept open.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure of the listener. What goes wrong with one request is a problem document instead.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Tokens and passwords would travel in the clear.
    #[error(
        "{listen} is reachable from other machines, and plain HTTP would send credentials in the clear; \
         set `tls`, listen on 127.0.0.1, or set `tls_terminated_upstream` if a proxy in front ends TLS"
    )]
    PlainBeyondLoopback {
        /// Where it should have listened.
        listen: SocketAddr,
    },
    /// A limit that is out of its range.
    #[error("the setting `{setting}` is out of range; give {range}")]
    Limit {
        /// Which one.
        setting: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}; check that the address is this machine's and that the port is free")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A PEM file cannot be used.
    #[error("cannot use `{}`; it must be a readable PEM file with {expected}", file.display())]
    Pem {
        /// Which one.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What was wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Certificate and key do not make a TLS server.
    #[error("certificate and key cannot be used for TLS; check that the key belongs to the first certificate")]
    Tls(#[source] rustls::Error),
    /// The listener broke while serving.
    #[error("the listener failed")]
    Serve(#[source] io::Error),
}
