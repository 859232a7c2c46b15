//! How the airline does, destination by destination.

use crate::day::Day;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// The days to look at, in UTC; both ends may be left open.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// The first day.
    pub since: Option<Day>,
    /// The last day, included.
    pub until: Option<Day>,
}

/// The airline as a whole and each destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statistics {
    /// Flights scheduled in the period.
    pub flights: i64,
    /// Of these, cancelled ones.
    pub cancelled: i64,
    /// The busiest first.
    pub destinations: Vec<DestinationStatistics>,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DestinationStatistics {
    /// Its code.
    pub destination: String,
    /// Its name.
    pub destination_name: String,
    /// Flights scheduled in the period.
    pub flights: i64,
    /// Of these, cancelled ones.
    pub cancelled: i64,
    /// Half of the flights that left were at most so late; negative when early, `None` when none left.
    pub delay_minutes_p50: Option<f64>,
    /// Nine of ten flights that left were at most so late.
    pub delay_minutes_p90: Option<f64>,
}

/// Counts the flights of a period.
pub(crate) async fn compute(client: &Client, period: Period) -> Result<Statistics, Error> {
    let since: Option<Timestamp> = period.since.map(Day::start);
    let until: Option<Timestamp> = period.until.map(Day::end);
    let rows = client
        .query_typed(
            "SELECT destination, destination_name, flights, cancelled, delay_minutes_p50, delay_minutes_p90 \
             FROM destination_statistics(coalesce($1, '-infinity'), coalesce($2, 'infinity')) \
             ORDER BY flights DESC, destination",
            &[(&since, Type::TIMESTAMPTZ), (&until, Type::TIMESTAMPTZ)],
        )
        .await?;
    let destinations: Vec<DestinationStatistics> = rows
        .iter()
        .map(|row| DestinationStatistics {
            destination: row.get(0),
            destination_name: row.get(1),
            flights: row.get(2),
            cancelled: row.get(3),
            delay_minutes_p50: row.get(4),
            delay_minutes_p90: row.get(5),
        })
        .collect();
    Ok(Statistics {
        flights: destinations.iter().map(|destination| destination.flights).sum(),
        cancelled: destinations.iter().map(|destination| destination.cancelled).sum(),
        destinations,
    })
}
