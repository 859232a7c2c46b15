//! The product on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod home;
mod load;
mod schema;
mod service;
