//! Why the demo did not show what it promises.

use std::io;

use tenantry_domain::InvalidName;
use tenantry_router::RouterError;
use tenantry_sample::SampleError;

/// Why the demo did not show what it promises.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The embedded data cannot be read, or not be loaded.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The router does not lead to a tenant.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// A tenant's home refused what the product asked of it.
    #[error("the home of {tenant} failed while {activity}")]
    Home {
        /// Whose.
        tenant: String,
        /// What was being done.
        activity: &'static str,
        /// What the driver says.
        source: tenantry_router::tokio_postgres::Error,
    },
    /// The example service cannot listen or ended.
    #[error("the example service failed while {activity}")]
    Service {
        /// What was being done.
        activity: &'static str,
        /// The system's own reason.
        source: io::Error,
    },
    /// The example service cannot be asked.
    #[error("the example service does not answer for {tenant}")]
    Request {
        /// For whom it was asked.
        tenant: String,
        /// What the HTTP client says.
        source: reqwest::Error,
    },
    /// The example service answered with something else than the data.
    #[error("the example service answers {status} for {tenant}: {body}")]
    Refused {
        /// For whom it was asked.
        tenant: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// An airline's code or name cannot be a tenant's.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// What was counted is not what is in the source.
    #[error("{disagreeing} of {tenants} tenants disagree with the source; the table shows which")]
    Disagreement {
        /// How many.
        disagreeing: usize,
        /// Of how many.
        tenants: usize,
    },
    /// A part that runs beside the demo was ended.
    #[error("a part of the demo was ended")]
    Ended,
    /// A person stopped it.
    #[error("stopped before the end; everything was removed")]
    Interrupted,
}
