//! The sample product: flight operations, whose tenants are airlines.
//!
//! Here live the product's data, its loader and its HTTP service, written as any customer of Tenantry would write them: a
//! handler asks the router for its tenant's connection and speaks SQL. The schema lies in `tenant-migrations/`.
//!
//! Never here: the control plane, the catalog, clusters, or any knowledge of where a tenant lives.
//!
//! Start reading at [`service()`], then [`load()`].

mod clock_time;
pub mod data;
mod day;
pub mod delays;
mod error;
pub mod flights;
mod load;
mod migrations;
mod page;
mod problem;
mod select;
mod serve;
mod service;
pub mod statistics;

pub use clock_time::ClockTime;
pub use data::Dataset;
pub use day::Day;
pub use error::SampleError;
pub use load::{Loaded, load};
pub use migrations::{NEXT_MIGRATION, migrations};
pub use page::{Cursor, Page, PageSize};
pub use serve::serve;
pub use service::service;
