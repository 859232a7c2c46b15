//! The crash matrix: every kind of work is broken in every way at every point, and ends all the same as if it had not.
//!
//! Cases are generated from the steps of the kinds themselves. A kind joins by a line in [`scenario`]; one that has none
//! fails the matrix. How many cases ran is said on standard error.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod arming;
mod batch;
mod case;
mod clusters;
mod processes;
mod scenario;
mod schedules;
mod servers;
mod sleepers;
mod soak;
mod upkeep;
mod within_one_process;
