//! What dispatchers report about a flight.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

/// Why a flight is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DelayCause {
    /// The airline itself.
    Carrier,
    /// No crew.
    Crew,
    /// The weather.
    Weather,
    /// Air traffic control.
    AirTraffic,
    /// Security.
    Security,
    /// The aircraft came late.
    LateAircraft,
}

impl DelayCause {
    /// Its name in the database.
    fn label(self) -> &'static str {
        match self {
            Self::Carrier => "carrier",
            Self::Crew => "crew",
            Self::Weather => "weather",
            Self::AirTraffic => "air_traffic",
            Self::Security => "security",
            Self::LateAircraft => "late_aircraft",
        }
    }
}

/// A report that is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delay {
    /// Its id within the airline.
    pub id: i64,
    /// The cause's name.
    pub cause: String,
    /// How long.
    pub minutes: i32,
    /// What the dispatcher wrote.
    pub note: Option<String>,
    /// When.
    pub reported_at: Timestamp,
}

/// A report to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDelay {
    /// Why.
    pub cause: DelayCause,
    /// How long: 1 to 2,880.
    pub minutes: DelayMinutes,
    /// A remark of up to 500 characters.
    pub note: Option<Note>,
}

/// From one minute to two days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i32")]
pub struct DelayMinutes(i32);

impl TryFrom<i32> for DelayMinutes {
    type Error = &'static str;

    fn try_from(minutes: i32) -> Result<Self, &'static str> {
        if (1..=2_880).contains(&minutes) { Ok(Self(minutes)) } else { Err("a delay has 1 to 2880 minutes") }
    }
}

/// Up to 500 characters without NUL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Note(String);

impl TryFrom<String> for Note {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.chars().count() <= 500 && !text.contains('\0') {
            Ok(Self(text))
        } else {
            Err("a note has at most 500 characters and no NUL")
        }
    }
}

/// What became of a report.
pub(crate) enum Recorded {
    Delay(Delay),
    UnknownFlight,
    CancelledFlight,
}

/// Records a delay. One statement, so that a flight cancelled meanwhile gets none.
pub(crate) async fn record(client: &Client, flight: i64, delay: NewDelay) -> Result<Recorded, Error> {
    let note = delay.note.map(|Note(text)| text);
    let rows = client
        .query_typed(
            "INSERT INTO delays (flight_id, cause, minutes, note) \
             SELECT id, $2::delay_cause, $3, $4 FROM flights WHERE id = $1 AND NOT cancelled \
             RETURNING id, cause::text, minutes, note, reported_at",
            &[
                (&flight, Type::INT8),
                (&delay.cause.label(), Type::TEXT),
                (&delay.minutes.0, Type::INT4),
                (&note, Type::TEXT),
            ],
        )
        .await?;
    if let Some(row) = rows.first() {
        return Ok(Recorded::Delay(read(row)));
    }
    let flights = client.query_typed("SELECT FROM flights WHERE id = $1", &[(&flight, Type::INT8)]).await?;
    Ok(if flights.is_empty() { Recorded::UnknownFlight } else { Recorded::CancelledFlight })
}

/// A flight's reports, the oldest first.
pub(crate) async fn of_flight(client: &Client, flight: i64) -> Result<Vec<Delay>, Error> {
    let rows = client
        .query_typed(
            "SELECT id, cause::text, minutes, note, reported_at FROM delays WHERE flight_id = $1 ORDER BY id",
            &[(&flight, Type::INT8)],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> Delay {
    Delay { id: row.get(0), cause: row.get(1), minutes: row.get(2), note: row.get(3), reported_at: row.get(4) }
}
