//! Requests of one tenant: how many in a second and in a minute, how many at once, how many wait. And connections that are
//! opened for it in a second.
//!
//! A tenant has a gate while it is in use and none afterwards; the one sweeper takes it away. What a gate lets through is
//! decided under one short lock, because it must be decided together: a request that one limit refuses is no request to
//! the others.

mod admissions;
mod gate;
#[cfg(feature = "axum")]
mod layer;
mod openings;
mod permit;
mod rate;

pub(crate) use admissions::Admissions;
#[cfg(feature = "axum")]
pub use layer::{TenantLimit, TenantLimitLayer};
pub(crate) use openings::{Opening, Openings};
pub use permit::{Permit, RequestLimit};
