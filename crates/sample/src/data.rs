//! The embedded data set: typed, complete, and refused as a whole rather than read in part.

use crate::clock_time::ClockTime;
use crate::error::SampleError;
use flate2::read::GzDecoder;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

/// An airline; each is a tenant of the demo.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Airline {
    /// The two-character code, for instance `UA`.
    #[serde(rename = "carrier")]
    pub code: String,
    /// The name.
    pub name: String,
}

/// An airport of the FAA's list.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Airport {
    /// The three-character code, for instance `JFK`.
    #[serde(rename = "faa")]
    pub code: String,
    /// The name.
    pub name: String,
    /// Degrees north.
    #[serde(rename = "lat")]
    pub latitude: f64,
    /// Degrees east.
    #[serde(rename = "lon")]
    pub longitude: f64,
    /// Above the sea.
    #[serde(rename = "alt")]
    pub altitude_feet: i32,
    /// The IANA name, where the source has one.
    #[serde(rename = "tzone", deserialize_with = "time_zone")]
    pub time_zone: Option<String>,
}

/// An aircraft of the register.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Aircraft {
    /// The registration, for instance `N14228`.
    #[serde(rename = "tailnum")]
    pub tail_number: String,
    /// For instance `Fixed wing multi engine`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who built it.
    pub manufacturer: String,
    /// What it is.
    pub model: String,
    /// For instance `Turbo-fan`.
    pub engine: String,
    /// How many engines.
    pub engines: i32,
    /// How many seats.
    pub seats: i32,
    /// When it was built, where the register knows.
    #[serde(rename = "year")]
    pub built_year: Option<i32>,
}

/// One flight of the source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// The airline's code.
    pub carrier: String,
    /// The flight number without the airline's code.
    pub number: i32,
    /// From.
    pub origin: String,
    /// To; need not be in the list of airports.
    pub destination: String,
    /// The aircraft, where one is named; need not be in the register.
    pub tail_number: Option<String>,
    /// When it should have left.
    pub scheduled_departure: Timestamp,
    /// When it left; `None` for a cancelled flight.
    pub departed_at: Option<Timestamp>,
    /// When it should have arrived, by the clock there.
    pub scheduled_arrival_local: ClockTime,
    /// When it arrived, by the clock there.
    pub arrived_local: Option<ClockTime>,
    /// How late it arrived; negative when early, `None` when cancelled or diverted.
    pub arrival_delay_minutes: Option<i32>,
    /// How long it flew.
    pub air_time_minutes: Option<i32>,
    /// How far it is.
    pub distance_miles: i32,
}

impl Flight {
    /// A flight without a departure was cancelled: the month is long over.
    pub fn is_cancelled(&self) -> bool {
        self.departed_at.is_none()
    }
}

/// Everything that is embedded, read once and kept by the caller. About 8 MB.
#[derive(Clone, Debug)]
pub struct Dataset {
    airlines: Vec<Airline>,
    airports: Vec<Airport>,
    aircraft: Vec<Aircraft>,
    flights: Vec<Flight>,
}

impl Dataset {
    /// Reads the embedded files. A row that cannot be read is an error, never left out.
    pub fn read() -> Result<Self, SampleError> {
        Ok(Self {
            airlines: rows("airlines.csv", &include_bytes!("../data/airlines.csv")[..])?,
            airports: gzip_rows("airports.csv.gz", include_bytes!("../data/airports.csv.gz"))?,
            aircraft: gzip_rows("planes.csv.gz", include_bytes!("../data/planes.csv.gz"))?,
            flights: gzip_rows::<FlightRow>(
                "flights-2013-01.csv.gz",
                include_bytes!("../data/flights-2013-01.csv.gz"),
            )?
            .into_iter()
            .map(Flight::from)
            .collect(),
        })
    }

    /// The 16 airlines.
    pub fn airlines(&self) -> &[Airline] {
        &self.airlines
    }

    /// The airline with a code.
    pub fn airline(&self, carrier: &str) -> Result<&Airline, SampleError> {
        let found = self.airlines.iter().find(|airline| airline.code == carrier);
        found.ok_or_else(|| SampleError::UnknownCarrier { carrier: carrier.to_owned() })
    }

    /// All airports of the list.
    pub fn airports(&self) -> &[Airport] {
        &self.airports
    }

    /// All aircraft of the register.
    pub fn aircraft(&self) -> &[Aircraft] {
        &self.aircraft
    }

    /// The flights of January 2013, in the source's order.
    pub fn flights(&self) -> &[Flight] {
        &self.flights
    }

    /// One airline's flights.
    pub fn flights_of<'a>(&'a self, carrier: &'a str) -> impl Iterator<Item = &'a Flight> {
        self.flights.iter().filter(move |flight| flight.carrier == carrier)
    }

    /// Those aircraft of the register that fly for one airline.
    pub fn aircraft_of<'a>(&'a self, carrier: &'a str) -> impl Iterator<Item = &'a Aircraft> {
        let flown: BTreeSet<&str> =
            self.flights_of(carrier).filter_map(|flight| flight.tail_number.as_deref()).collect();
        self.aircraft.iter().filter(move |aircraft| flown.contains(aircraft.tail_number.as_str()))
    }

    /// How many flights the source has for each airline, every airline named: what a count in a tenant's home must equal.
    pub fn flights_by_carrier(&self) -> BTreeMap<&str, usize> {
        let mut counts: BTreeMap<&str, usize> =
            self.airlines.iter().map(|airline| (airline.code.as_str(), 0)).collect();
        for flight in &self.flights {
            *counts.entry(&flight.carrier).or_default() += 1;
        }
        counts
    }
}

/// A row of the flights file, in the source's own words.
#[derive(Deserialize)]
struct FlightRow {
    time_hour: Timestamp,
    carrier: String,
    flight: i32,
    tailnum: Option<String>,
    origin: String,
    dest: String,
    sched_dep_time: ClockTime,
    dep_delay: Option<i32>,
    sched_arr_time: ClockTime,
    arr_time: Option<ClockTime>,
    arr_delay: Option<i32>,
    air_time: Option<i32>,
    distance: i32,
}

impl From<FlightRow> for Flight {
    fn from(row: FlightRow) -> Self {
        // The hour is an instant in UTC, the clock time adds its minute. The delay is exact where the departure's
        // clock time would leave the day open.
        let scheduled_departure = row.time_hour + SignedDuration::from_mins(row.sched_dep_time.minute().into());
        Self {
            carrier: row.carrier,
            number: row.flight,
            origin: row.origin,
            destination: row.dest,
            tail_number: row.tailnum,
            scheduled_departure,
            departed_at: row.dep_delay.map(|minutes| scheduled_departure + SignedDuration::from_mins(minutes.into())),
            scheduled_arrival_local: row.sched_arr_time,
            arrived_local: row.arr_time,
            arrival_delay_minutes: row.arr_delay,
            air_time_minutes: row.air_time,
            distance_miles: row.distance,
        }
    }
}

fn time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Some(text).filter(|text| !text.is_empty() && text != "NA"))
}

fn gzip_rows<T: DeserializeOwned>(file: &'static str, bytes: &'static [u8]) -> Result<Vec<T>, SampleError> {
    rows(file, GzDecoder::new(bytes))
}

fn rows<T: DeserializeOwned>(file: &'static str, content: impl Read) -> Result<Vec<T>, SampleError> {
    csv::Reader::from_reader(content)
        .into_deserialize()
        .collect::<Result<_, _>>()
        .map_err(|source| SampleError::Data { file, source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::Dataset;
    use std::collections::BTreeSet;

    #[test]
    fn every_row_of_the_sources_is_read() {
        let data = Dataset::read().unwrap();
        assert_eq!(data.airlines().len(), 16);
        assert_eq!(data.airports().len(), 1_458);
        assert_eq!(data.aircraft().len(), 3_322);
        assert_eq!(data.flights().len(), 27_004);
        let counts = data.flights_by_carrier();
        assert_eq!(counts.len(), 16);
        assert_eq!(counts.values().sum::<usize>(), 27_004);
        assert_eq!((counts["UA"], counts["OO"]), (4_637, 1));
    }

    #[test]
    fn the_gaps_of_the_sources_are_kept_as_gaps() {
        let data = Dataset::read().unwrap();
        let airports: BTreeSet<&str> = data.airports().iter().map(|airport| airport.code.as_str()).collect();
        let unlisted: BTreeSet<&str> = data
            .flights()
            .iter()
            .map(|flight| flight.destination.as_str())
            .filter(|code| !airports.contains(code))
            .collect();
        assert_eq!(unlisted, BTreeSet::from(["BQN", "PSE", "SJU", "STT"]));
        assert_eq!(data.flights().iter().filter(|flight| flight.tail_number.is_none()).count(), 155);
        assert_eq!(data.flights().iter().filter(|flight| flight.is_cancelled()).count(), 521);
    }

    #[test]
    fn a_flight_is_named_by_number_origin_and_departure() {
        let data = Dataset::read().unwrap();
        let keys: BTreeSet<_> = data
            .flights()
            .iter()
            .map(|flight| (&flight.carrier, flight.number, &flight.origin, flight.scheduled_departure))
            .collect();
        assert_eq!(keys.len(), data.flights().len());
    }

    #[test]
    fn times_are_instants() {
        let data = Dataset::read().unwrap();
        let first = &data.flights()[0];
        assert_eq!(first.scheduled_departure, "2013-01-01T10:15:00Z".parse().unwrap());
        assert_eq!(first.departed_at, Some("2013-01-01T10:17:00Z".parse().unwrap()));
        assert_eq!(first.scheduled_arrival_local.to_string(), "08:19");
    }
}
