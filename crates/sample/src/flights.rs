//! Reading flights: the list, the search, and one flight.

use crate::day::Day;
use crate::delays::{self, Delay};
use crate::page::{Cursor, Page, PageSize};
use crate::select::{Select, contains_pattern, starts_pattern};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

/// What the list shows of a flight.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flight {
    /// Its id within the airline.
    pub id: i64,
    /// The number without the airline's code.
    pub flight_number: i32,
    /// From.
    pub origin: String,
    /// To.
    pub destination: String,
    /// The name of the destination; its code where no register lists it.
    pub destination_name: String,
    /// The aircraft, once one is assigned.
    pub tail_number: Option<String>,
    /// When it should leave.
    pub scheduled_departure: Timestamp,
    /// When it left.
    pub departed_at: Option<Timestamp>,
    /// How late it left; negative when early.
    pub departure_delay_minutes: Option<i32>,
    /// How late it arrived; negative when early.
    pub arrival_delay_minutes: Option<i32>,
    /// The sum of what dispatchers reported.
    pub reported_delay_minutes: i32,
    /// `scheduled`, `departed`, `arrived` or `cancelled`.
    pub status: String,
}

/// One flight with its reported delays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlightDetail {
    /// The flight.
    #[serde(flatten)]
    pub flight: Flight,
    /// The oldest report first.
    pub delays: Vec<Delay>,
}

/// Which flights to list; conditions that are absent do not restrict.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFlights {
    /// The day of the scheduled departure in UTC.
    pub date: Option<Day>,
    /// From.
    pub origin: Option<AirportCode>,
    /// To.
    pub destination: Option<AirportCode>,
    /// How many at most.
    #[serde(default)]
    pub limit: PageSize,
    /// Go on after this place, taken from the page before.
    pub after: Option<Cursor>,
}

/// What to search flights for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchFlights {
    /// A flight number, the start of a tail number, a destination's code or a part of its name.
    pub q: SearchText,
    /// How many at most.
    #[serde(default)]
    pub limit: PageSize,
    /// Go on after this place, taken from the page before.
    pub after: Option<Cursor>,
}

/// Three letters or digits, kept in upper case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AirportCode(String);

impl TryFrom<String> for AirportCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err("an airport code has three letters or digits, for instance JFK")
        }
    }
}

/// 1 to 40 characters, no control characters, trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SearchText(String);

impl TryFrom<String> for SearchText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > 40 || text.chars().any(char::is_control) {
            Err("search for 1 to 40 printable characters")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

const SELECT: &str = "SELECT flights.id, flights.flight_number, flights.origin, flights.destination, airports.name, \
     flights.tail_number, flights.scheduled_departure, flights.departed_at, flights.departure_delay_minutes, \
     flights.arrival_delay_minutes, flights.reported_delay_minutes, flights.status \
     FROM flights JOIN airports ON airports.code = flights.destination";

/// A page of flights in the order of their scheduled departures.
pub(crate) async fn list(client: &Client, query: &ListFlights) -> Result<Page<Flight>, Error> {
    let mut select = Select::new(SELECT);
    if let Some(day) = query.date {
        let start = select.bind(day.start(), Type::TIMESTAMPTZ);
        let end = select.bind(day.end(), Type::TIMESTAMPTZ);
        select.restrict(&format!("flights.scheduled_departure >= {start} AND flights.scheduled_departure < {end}"));
    }
    if let Some(AirportCode(code)) = query.origin.clone() {
        let code = select.bind(code, Type::TEXT);
        select.restrict(&format!("flights.origin = {code}"));
    }
    if let Some(AirportCode(code)) = query.destination.clone() {
        let code = select.bind(code, Type::TEXT);
        select.restrict(&format!("flights.destination = {code}"));
    }
    page(client, select, query.limit, query.after).await
}

/// A page of the flights that match a text, in the order of their scheduled departures.
pub(crate) async fn search(client: &Client, query: &SearchFlights) -> Result<Page<Flight>, Error> {
    let SearchText(text) = &query.q;
    let mut select = Select::new(SELECT);
    let code = select.bind(text.to_uppercase(), Type::TEXT);
    let tail_number = select.bind(starts_pattern(&text.to_uppercase()), Type::TEXT);
    let name = select.bind(contains_pattern(text), Type::TEXT);
    let number = select.bind(text.parse::<i32>().ok(), Type::INT4);
    select.restrict(&format!(
        "(flights.flight_number = {number} OR flights.tail_number LIKE {tail_number} \
          OR flights.destination = {code} OR airports.name ILIKE {name})"
    ));
    page(client, select, query.limit, query.after).await
}

/// One flight, if it exists.
pub(crate) async fn show(client: &Client, id: i64) -> Result<Option<FlightDetail>, Error> {
    let mut select = Select::new(SELECT);
    let bound = select.bind(id, Type::INT8);
    select.restrict(&format!("flights.id = {bound}"));
    let rows = select.query(client).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(FlightDetail { flight: flight(row), delays: delays::of_flight(client, id).await? }))
}

/// Reads one row more than the page holds: it tells whether there is a next page.
async fn page(
    client: &Client,
    mut select: Select,
    size: PageSize,
    after: Option<Cursor>,
) -> Result<Page<Flight>, Error> {
    if let Some(after) = after {
        let departure = select.bind(after.departure, Type::TIMESTAMPTZ);
        let id = select.bind(after.id, Type::INT8);
        select.restrict(&format!("(flights.scheduled_departure, flights.id) > ({departure}, {id})"));
    }
    let limit = select.bind(size.rows() + 1, Type::INT8);
    select.append(&format!(" ORDER BY flights.scheduled_departure, flights.id LIMIT {limit}"));
    let items: Vec<Flight> = select.query(client).await?.iter().map(flight).collect();
    Ok(Page::cut(items, size, |last| Cursor { departure: last.scheduled_departure, id: last.id }))
}

fn flight(row: &Row) -> Flight {
    Flight {
        id: row.get(0),
        flight_number: row.get(1),
        origin: row.get(2),
        destination: row.get(3),
        destination_name: row.get(4),
        tail_number: row.get(5),
        scheduled_departure: row.get(6),
        departed_at: row.get(7),
        departure_delay_minutes: row.get(8),
        arrival_delay_minutes: row.get(9),
        reported_delay_minutes: row.get(10),
        status: row.get(11),
    }
}
