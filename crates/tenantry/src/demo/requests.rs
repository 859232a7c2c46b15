//! Requests to the example service, as a browser on an airline's sub-domain would send them.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reqwest::header::HOST;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::airline::Airline;
use super::error::DemoError;
use super::service::{Service, host_of};

/// Requests that open connections before any is measured.
const WARM_UP: usize = 5;
/// Requests that are measured for each airline, one after the other.
const MEASURED: usize = 50;
/// Who ask at the same time while a migration rolls out.
const ASKERS: usize = 4;
/// A page of one day's departures.
const DEPARTURES: &str = "/flights?date=2013-01-15&limit=20";
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the example service.
pub(super) struct Visitor {
    http: reqwest::Client,
    base: String,
}

/// What `/statistics` says, as far as it is looked at.
#[derive(Deserialize)]
struct Statistics {
    flights: u64,
}

/// What `/flights` says: its items are only counted as there.
#[derive(Deserialize)]
struct Departures {
    #[serde(rename = "items")]
    _items: Vec<serde_json::Value>,
}

impl Visitor {
    /// A client that keeps its connections.
    pub(super) fn new(service: &Service) -> Result<Self, DemoError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // A proxy from the environment has no business between two ports of this machine.
            .no_proxy()
            .build()
            .map_err(|source| DemoError::Request { tenant: "anybody".to_owned(), source })?;
        Ok(Self { http, base: format!("http://{}", service.address()) })
    }

    /// How long half of the requests take at most.
    pub(super) async fn measure(&self, airline: &Airline) -> Result<Duration, DemoError> {
        for _ in 0..WARM_UP {
            self.get::<Departures>(airline, DEPARTURES).await?;
        }
        let mut durations = Vec::with_capacity(MEASURED);
        for _ in 0..MEASURED {
            let began = Instant::now();
            self.get::<Departures>(airline, DEPARTURES).await?;
            durations.push(began.elapsed());
        }
        Ok(median(durations))
    }

    /// Asks for every airline again and again, for several at the same time, until told to stop; the number of answers.
    /// A request that fails ends it.
    pub(super) async fn keep_asking(&self, airlines: &[Airline], stop: &CancellationToken) -> Result<u64, DemoError> {
        let askers = (0..ASKERS).map(|asker| async move {
            let mut answers = 0;
            for airline in airlines.iter().cycle().skip(asker * airlines.len() / ASKERS) {
                if stop.is_cancelled() {
                    break;
                }
                self.get::<Departures>(airline, DEPARTURES).await?;
                answers += 1;
            }
            Ok::<u64, DemoError>(answers)
        });
        Ok(try_join_all(askers).await?.into_iter().sum())
    }

    /// How many flights the product finds in the airline's home.
    pub(super) async fn count_flights(&self, airline: &Airline) -> Result<u64, DemoError> {
        Ok(self.get::<Statistics>(airline, "/statistics").await?.flights)
    }

    async fn get<T: DeserializeOwned>(&self, airline: &Airline, path: &str) -> Result<T, DemoError> {
        let failed = |source| DemoError::Request { tenant: airline.code.clone(), source };
        let request = self.http.get(format!("{}{path}", self.base)).header(HOST, host_of(airline.slug.as_str()));
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        if !status.is_success() {
            let body = response.text().await.map_err(failed)?;
            return Err(DemoError::Refused { tenant: airline.code.clone(), status: status.as_u16(), body });
        }
        response.json().await.map_err(failed)
    }
}

/// The lower middle one; nothing takes no time.
fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations.get(durations.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_lower_middle_one() {
        let milliseconds = |all: &[u64]| all.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(median(milliseconds(&[9, 1, 5])), Duration::from_millis(5));
        assert_eq!(median(milliseconds(&[4, 1, 3, 2])), Duration::from_millis(2));
        assert_eq!(median(Vec::new()), Duration::ZERO);
    }
}
