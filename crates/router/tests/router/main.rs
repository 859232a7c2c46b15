//! The router against real PostgreSQL and a feed over real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod budget;
mod checkout;
mod clocks;
mod dropped;
#[cfg(feature = "axum")]
mod extract;
mod failures;
mod feed;
mod feed_server;
mod for_each;
mod home;
mod leaks;
#[cfg(feature = "axum")]
mod limit_layer;
mod limits;
mod metrics;
mod openings;
mod replicas;
mod shared;
mod snapshot;
mod spans;
mod staleness;
#[cfg(feature = "testing")]
mod testing;
mod tls;
#[cfg(feature = "jwt")]
mod tokens;
mod traces;
mod transactions;
mod versions;
