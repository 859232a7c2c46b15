//! Logs on standard error, and metrics in Prometheus' text form.

use std::io::IsTerminal;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::RuntimeError;

/// Histogram bounds in seconds: from a lookup in memory to a long migration. Fixed bounds make the memory of a
/// histogram fixed and let replicas be added up.
const SECONDS: [f64; 16] =
    [1e-6, 1e-5, 1e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0, 5.0, 30.0, 300.0];
/// How often recorded samples are folded into their histograms while nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The section `telemetry`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged: a level, or pairs of module and level separated by commas.
    pub log_filter: String,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_format: LogFormat::Text, log_filter: "info".to_owned() }
    }
}

/// The installed telemetry.
#[derive(Clone)]
pub struct Telemetry {
    metrics: PrometheusHandle,
}

impl Telemetry {
    /// Installs logging and metrics for the whole process. Fails, with nothing installed, on a filter that is not
    /// understood.
    pub fn install(config: &TelemetryConfig) -> Result<Self, RuntimeError> {
        let filter = EnvFilter::try_new(&config.log_filter)
            .map_err(|source| RuntimeError::LogFilter { filter: config.log_filter.clone(), source })?;
        let installed = |source: Box<dyn std::error::Error + Send + Sync>| RuntimeError::TelemetryInstalled { source };
        let registry = tracing_subscriber::registry().with(filter);
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        match config.log_format {
            LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        }
        .map_err(|source| installed(Box::new(source)))?;
        let metrics = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|source| installed(Box::new(source)))?;
        Ok(Self { metrics })
    }

    /// The metrics, as `/metrics` answers them.
    pub fn render_metrics(&self) -> String {
        self.metrics.render()
    }

    /// Keeps memory bounded while nobody scrapes. Run it beside the program until shutdown.
    pub async fn run_upkeep(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(UPKEEP_INTERVAL)).await.is_some() {
            self.metrics.run_upkeep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn telemetry_is_installed_once_and_a_wrong_filter_installs_nothing() {
        let wrong = TelemetryConfig { log_filter: "a=b=c".to_owned(), ..TelemetryConfig::default() };
        assert!(matches!(Telemetry::install(&wrong), Err(RuntimeError::LogFilter { .. })));

        let quiet = TelemetryConfig { log_filter: "off".to_owned(), log_format: LogFormat::Json };
        let telemetry = Telemetry::install(&quiet).expect("the first");
        metrics::histogram!("a_wait_seconds").record(0.003);
        assert!(telemetry.render_metrics().contains("a_wait_seconds_bucket{le=\"0.005\"} 1"));
        assert!(matches!(Telemetry::install(&quiet), Err(RuntimeError::TelemetryInstalled { .. })));

        let shutdown = CancellationToken::new();
        shutdown.cancel();
        telemetry.run_upkeep(shutdown).await;
    }
}
