//! How far the fleet is behind a rollout's set: a histogram.

use serde::Serialize;
use tenantry_api::{Client, FleetVersion, Rollout};

use crate::cli::error::CliError;
use crate::cli::table::{Cell, Tabular};

/// The length of the longest bar, in characters.
const BAR_MAX: u64 = 30;
/// Most versions that are shown; those furthest behind are summed up by nobody, but the API tells them all.
const SHOWN_MAX: usize = 20;

/// The tenants that are at one version, with their share of the fleet.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Lag {
    #[serde(flatten)]
    at: FleetVersion,
    #[serde(skip)]
    fleet: u64,
}

/// The versions of the fleet, the highest first.
pub(super) async fn of(client: &Client, rollout: &Rollout) -> Result<Vec<Lag>, CliError> {
    Ok(lags(client.show_fleet_versions(rollout.id).await?.items))
}

fn lags(versions: Vec<FleetVersion>) -> Vec<Lag> {
    let fleet = versions.iter().map(|at| at.tenants).sum();
    versions.into_iter().take(SHOWN_MAX).map(|at| Lag { at, fleet }).collect()
}

impl Tabular for Lag {
    const COLUMNS: &'static [&'static str] = &["version", "behind", "tenants", "share"];

    fn row(&self) -> Vec<Cell> {
        let Self { at, fleet } = self;
        let bar = (at.tenants * BAR_MAX).div_ceil((*fleet).max(1));
        let percent = at.tenants * 100 / (*fleet).max(1);
        vec![
            Cell::new(at.version),
            Cell::new(at.behind),
            Cell::new(at.tenants),
            Cell::new(format!("{} {percent}%", "#".repeat(usize::try_from(bar).unwrap_or(0)))),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::SchemaVersion;

    use super::*;
    use crate::cli::table;

    #[test]
    fn bars_are_as_long_as_their_share() {
        let at = |version, tenants, behind| FleetVersion { version: SchemaVersion(version), tenants, behind };
        let text = table::list(&lags(vec![at(14, 900, 0), at(12, 99, 2), at(1, 1, 13)]), false);
        assert!(text.contains(&format!("{} 90%", "#".repeat(27))), "{text}");
        assert!(text.contains("# 0%"), "{text}");
        assert_eq!(lags(Vec::new()).len(), 0);
    }
}
