//! What tests need from the world outside: throw-away PostgreSQL servers, name spaces on them that clean up after
//! themselves, and sockets that break on demand.
//!
//! What never lives here: knowledge of any room of Tenantry but `pglocal`. A whole system started for a test is a
//! `World`, and lives in the workspace's `tests` package.
//!
//! Everything here panics where a test could only give up: a preparation that fails is a test that fails.
//!
//! Start reading at [`Server`] and [`Namespace`]; [`BreakableSocket`] stands on its own.

#![allow(clippy::expect_used, clippy::panic, reason = "a failed preparation is a failed test")]

mod breakable_socket;
mod eventually;
mod namespace;
mod scan;
mod server;
mod sql;

pub use breakable_socket::BreakableSocket;
pub use eventually::eventually;
pub use namespace::Namespace;
pub use scan::{databases_like, roles_like, slots_like};
pub use server::{Login, Server};
