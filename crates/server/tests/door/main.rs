//! The door over a real catalog, by hand-made HTTP: what the contract's own client would hide.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod closing;
mod conditional_updates;
mod house;
mod idempotency;
mod limits;
mod strangers;
mod streams;
mod tenants;
