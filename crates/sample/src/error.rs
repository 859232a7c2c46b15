//! What can go wrong outside HTTP; handlers answer with problem documents instead.

use thiserror::Error;

/// Why the data could not be read or loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SampleError {
    /// An embedded file is damaged.
    #[error("the embedded {file} cannot be read: build again from a clean checkout")]
    Data {
        /// The file's name.
        file: &'static str,
        /// What the reader says, with the row.
        source: csv::Error,
    },
    /// The data has no such airline.
    #[error("there is no airline {carrier:?} in the data: take a code of airlines.csv")]
    UnknownCarrier {
        /// The code asked for.
        carrier: String,
    },
    /// The home holds another airline already.
    #[error("the tenant already holds the airline {found}: load {wanted} into a tenant of its own")]
    OtherAirline {
        /// The code that was to be loaded.
        wanted: String,
        /// The code that is there.
        found: String,
    },
    /// Rows could not be written as CSV.
    #[error("the rows of {table} could not be written down")]
    Encoding {
        /// The table.
        table: &'static str,
        /// What the writer says.
        source: csv::Error,
    },
    /// PostgreSQL refused, or could not be reached.
    #[error("PostgreSQL failed while {activity}: roll back and try again")]
    Database {
        /// What was being done.
        activity: &'static str,
        /// What the driver says.
        source: tokio_postgres::Error,
    },
}
