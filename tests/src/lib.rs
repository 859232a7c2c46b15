//! Whole systems for journeys and benchmarks.
//!
//! Here live [`World`] (a control plane with catalog, clusters, HTTP door and client, started within the process), what
//! journeys do in one (make a tenant, log in as it, look at what is left on a server), and [`Program`] (the built binary
//! as a child process). Never here: a claim about behaviour; those are in `tests/`, one file per journey.
//!
//! Everything here panics where a test could only give up.
//!
//! Start reading at [`World`], then [`HomeSession`].

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a failed preparation is a failed test")]

mod admin;
pub mod allocations;
mod bare_home;
pub mod crowd;
mod door;
mod failure;
pub mod figures;
pub mod files;
mod program;
mod receiver;
mod replica;
pub mod routes;
mod session;
mod tenant;
mod traces;
mod wire;
mod world;

pub use admin::Admin;
pub use bare_home::BareHome;
pub use door::Door;
pub use failure::Failure;
pub use program::{Dev, Ended, Program, Serve, processes_of, tenantry};
pub use receiver::{Behaviour, Received, Receiver};
pub use replica::Replica;
pub use session::{HomeSession, sqlstate};
pub use tenant::MakeTenant;

pub use wire::{Answer, Wire};
pub use world::{RuntimeRole, World, WorldBuilder};
