//! Reaching a server: its socket, TLS, logging in, and leaving one alone that does not answer.
//!
//! Start reading at `connector`, which opens one connection to a `place`.

mod breaker;
mod connector;
mod place;
mod socket;
mod tls;

pub(crate) use self::breaker::Breaker;
pub(crate) use self::connector::{ConnectError, Connector, Tls, attach_statement, too_fast};
pub(crate) use self::place::Place;
pub(crate) use self::tls::SystemRoots;
#[cfg(feature = "testing")]
pub(crate) use self::tls::client_config;
