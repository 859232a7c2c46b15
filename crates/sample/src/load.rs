//! Loads one airline into its own home.

use crate::data::{Airline, Dataset};
use crate::error::SampleError;
use bytes::Bytes;
use futures::SinkExt as _;
use std::pin::pin;
use tokio_postgres::Transaction;

/// How much goes to PostgreSQL at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a home holds after [`load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the count is to be compared with the source's"]
pub struct Loaded {
    /// Flights in the home.
    pub flights: u64,
    /// Whether they had been there before, so that nothing was written.
    pub already: bool,
}

/// Loads an airline's reference data and flights by COPY within the caller's transaction: all of it once the caller
/// commits, or nothing. A second run, also one at the same time, writes nothing.
pub async fn load(transaction: &Transaction<'_>, data: &Dataset, carrier: &str) -> Result<Loaded, SampleError> {
    let already = !claim(transaction, data.airline(carrier)?).await?;
    if !already {
        copy_airports(transaction, data).await?;
        copy_aircraft(transaction, data, carrier).await?;
        copy_flights(transaction, data, carrier).await?;
    }
    Ok(Loaded { flights: count_flights(transaction).await?, already })
}

/// Writes the airline's one row, which makes others wait for us; false when the same airline is there already.
async fn claim(transaction: &Transaction<'_>, airline: &Airline) -> Result<bool, SampleError> {
    let written = transaction
        .execute(
            "INSERT INTO airline (code, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            &[&airline.code, &airline.name],
        )
        .await
        .map_err(failed("naming the airline"))?;
    if written == 1 {
        return Ok(true);
    }
    let row = transaction.query_one("SELECT code FROM airline", &[]).await.map_err(failed("reading the airline"))?;
    let found: String = row.get(0);
    if found == airline.code {
        Ok(false)
    } else {
        Err(SampleError::OtherAirline { wanted: airline.code.clone(), found })
    }
}

async fn count_flights(transaction: &Transaction<'_>) -> Result<u64, SampleError> {
    let row = transaction.query_one("SELECT count(*) FROM flights", &[]).await.map_err(failed("counting flights"))?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

async fn copy_airports(transaction: &Transaction<'_>, data: &Dataset) -> Result<(), SampleError> {
    let mut table = Table::new("airports", "code, name, latitude, longitude, altitude_feet, time_zone");
    for airport in data.airports() {
        table.row([
            airport.code.clone(),
            airport.name.clone(),
            airport.latitude.to_string(),
            airport.longitude.to_string(),
            airport.altitude_feet.to_string(),
            or_null(airport.time_zone.as_ref()),
        ])?;
    }
    table.send(transaction).await
}

async fn copy_aircraft(transaction: &Transaction<'_>, data: &Dataset, carrier: &str) -> Result<(), SampleError> {
    let columns = "tail_number, kind, manufacturer, model, engine, engines, seats, built_year";
    let mut table = Table::new("aircraft", columns);
    for aircraft in data.aircraft_of(carrier) {
        table.row([
            aircraft.tail_number.clone(),
            aircraft.kind.clone(),
            aircraft.manufacturer.clone(),
            aircraft.model.clone(),
            aircraft.engine.clone(),
            aircraft.engines.to_string(),
            aircraft.seats.to_string(),
            or_null(aircraft.built_year),
        ])?;
    }
    table.send(transaction).await
}

async fn copy_flights(transaction: &Transaction<'_>, data: &Dataset, carrier: &str) -> Result<(), SampleError> {
    let columns = "flight_number, origin, destination, tail_number, scheduled_departure, departed_at, \
                   scheduled_arrival_local, arrived_local, arrival_delay_minutes, air_time_minutes, distance_miles, cancelled";
    let mut table = Table::new("flights", columns);
    for flight in data.flights_of(carrier) {
        table.row([
            flight.number.to_string(),
            flight.origin.clone(),
            flight.destination.clone(),
            or_null(flight.tail_number.as_ref()),
            flight.scheduled_departure.to_string(),
            or_null(flight.departed_at),
            flight.scheduled_arrival_local.to_string(),
            or_null(flight.arrived_local),
            or_null(flight.arrival_delay_minutes),
            or_null(flight.air_time_minutes),
            flight.distance_miles.to_string(),
            flight.is_cancelled().to_string(),
        ])?;
    }
    table.send(transaction).await
}

/// The rows of one COPY, as CSV. An unquoted empty field is NULL; no column of ours holds an empty text.
struct Table {
    name: &'static str,
    columns: &'static str,
    rows: csv::Writer<Vec<u8>>,
}

impl Table {
    fn new(name: &'static str, columns: &'static str) -> Self {
        Self { name, columns, rows: csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new()) }
    }

    fn row<const N: usize>(&mut self, fields: [String; N]) -> Result<(), SampleError> {
        self.rows.write_record(fields).map_err(|source| SampleError::Encoding { table: self.name, source })
    }

    async fn send(self, transaction: &Transaction<'_>) -> Result<(), SampleError> {
        let Self { name, columns, rows } = self;
        let content = rows.into_inner().map_err(|error| SampleError::Encoding {
            table: name,
            source: std::io::Error::from(error.error().kind()).into(),
        })?;
        let content = Bytes::from(content);
        let sql = format!("COPY {name} ({columns}) FROM STDIN WITH (FORMAT csv)");
        let sink = transaction.copy_in(sql.as_str()).await.map_err(failed("starting to copy"))?;
        let mut sink = pin!(sink);
        for start in (0..content.len()).step_by(CHUNK_BYTES) {
            let chunk = content.slice(start..content.len().min(start + CHUNK_BYTES));
            sink.send(chunk).await.map_err(failed("copying rows"))?;
        }
        sink.finish().await.map_err(failed("copying rows"))?;
        Ok(())
    }
}

fn or_null(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn failed(activity: &'static str) -> impl Fn(tokio_postgres::Error) -> SampleError {
    move |source| SampleError::Database { activity, source }
}
