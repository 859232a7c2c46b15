//! `tenantry dev` and `tenantry demo` as a newcomer runs them: child processes that bring everything along.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod demo;
mod dev;
mod running;
