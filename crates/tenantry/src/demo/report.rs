//! What is shown at the end, and whether it is what was promised.

use std::time::Duration;

use serde::Serialize;
use tenantry_domain::{Isolation, SchemaVersion};

use super::airline::Airline;
use super::error::DemoError;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::table::{Cell, Tabular};
use crate::world::Narration;

/// Longer physical names are shown by their ends: the middle of two of them is alike.
const NAME_SHOWN_WHOLE: usize = 16;
const NAME_TAIL: usize = 8;

/// One tenant at the end of the demo.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub(super) airline: String,
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) plan: String,
    pub(super) isolation: Isolation,
    pub(super) cluster: String,
    pub(super) database: String,
    pub(super) schema: String,
    pub(super) schema_version: SchemaVersion,
    pub(super) flights_through_router: u64,
    pub(super) flights_in_source: u64,
    pub(super) request_p50_ms: f64,
    agrees: bool,
}

/// Where a tenant lives, by the names that operators see.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    pub(super) isolation: Isolation,
    pub(super) cluster: String,
    pub(super) database: String,
    pub(super) schema: String,
}

/// What was found of one tenant.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) placement: Placement,
    pub(super) schema_version: SchemaVersion,
    pub(super) flights: u64,
    pub(super) request_p50: Duration,
}

impl Line {
    /// Compares what was found with what the source says and with the version that the fleet was brought to.
    pub(super) fn new(airline: &Airline, found: Found, version: SchemaVersion) -> Self {
        let Found { placement, schema_version, flights, request_p50 } = found;
        Self {
            airline: airline.code.clone(),
            tenant: airline.slug.to_string(),
            name: airline.name.to_string(),
            plan: airline.plan.to_string(),
            isolation: placement.isolation,
            cluster: placement.cluster,
            database: placement.database,
            schema: placement.schema,
            schema_version,
            flights_through_router: flights,
            flights_in_source: airline.flights,
            request_p50_ms: (request_p50.as_secs_f64() * 10_000.0).round() / 10.0,
            agrees: flights == airline.flights && schema_version == version,
        }
    }

    /// What the tenant has to itself, and where that is: cluster, database, schema.
    fn placement(&self) -> String {
        let (database, schema) = (short(&self.database), short(&self.schema));
        format!("{} {}/{database}/{schema}", self.isolation, self.cluster)
    }
}

/// How long a step took.
#[derive(Debug, Clone, Serialize)]
struct Step {
    step: String,
    seconds: f64,
}

/// The whole of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    tenants: Vec<Line>,
    flights: u64,
    requests_during_rollout: u64,
    agrees: bool,
}

/// A report as JSON, with what it took.
#[derive(Serialize)]
struct Shown<'r> {
    #[serde(flatten)]
    report: &'r Report,
    steps: Vec<Step>,
}

impl Report {
    /// Adds the lines up. Of the requests during the rollout, all were answered.
    pub(super) fn new(tenants: Vec<Line>, requests_during_rollout: u64) -> Self {
        let flights = tenants.iter().map(|line| line.flights_through_router).sum();
        let agrees = tenants.iter().all(|line| line.agrees);
        Self { tenants, flights, requests_during_rollout, agrees }
    }

    /// Shows the table, then how long each step took.
    pub(super) fn show(&self, output: Output, narration: &Narration) -> Result<(), CliError> {
        let steps: Vec<Step> = narration
            .told()
            .into_iter()
            .chain([("everything so far".to_owned(), narration.elapsed())])
            .map(|(step, duration)| Step { step, seconds: (duration.as_secs_f64() * 100.0).round() / 100.0 })
            .collect();
        let shown = Shown { report: self, steps };
        output.composed(&shown, |composition| {
            composition.list(&self.tenants);
            composition.list(&shown.steps);
            composition.fields(vec![
                ("tenants", Cell::new(self.tenants.len())),
                ("flights", Cell::new(self.flights)),
                ("answered during the rollout", Cell::new(self.requests_during_rollout)),
                ("verdict", verdict(self.agrees)),
            ]);
        })
    }

    /// Fails unless every number is as it should be.
    pub(super) fn verdict(&self) -> Result<(), DemoError> {
        let disagreeing = self.tenants.iter().filter(|line| !line.agrees).count();
        if disagreeing == 0 && !self.tenants.is_empty() {
            Ok(())
        } else {
            Err(DemoError::Disagreement { disagreeing, tenants: self.tenants.len() })
        }
    }
}

fn verdict(agrees: bool) -> Cell {
    Cell::verdict(if agrees { "agrees" } else { "disagrees" }, agrees)
}

/// A physical name, short enough for a table.
fn short(name: &str) -> String {
    match name.split_once('_') {
        Some((prefix, digits))
            if name.len() > NAME_SHOWN_WHOLE && digits.is_char_boundary(digits.len() - NAME_TAIL) =>
        {
            format!("{prefix}_…{}", &digits[digits.len() - NAME_TAIL..])
        }
        _ => name.to_owned(),
    }
}

impl Tabular for Line {
    const COLUMNS: &'static [&'static str] =
        &["airline", "name", "plan", "placement", "version", "via router", "in source", "p50 ms", "numbers"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.airline),
            Cell::new(&self.name),
            Cell::new(&self.plan),
            Cell::new(self.placement()),
            Cell::new(self.schema_version),
            Cell::new(self.flights_through_router),
            Cell::new(self.flights_in_source),
            Cell::new(format!("{:.1}", self.request_p50_ms)),
            verdict(self.agrees),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for Step {
    const COLUMNS: &'static [&'static str] = &["step", "seconds"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.step), Cell::new(format!("{:.2}", self.seconds))]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tenantry_sample::Dataset;

    use super::*;
    use crate::demo::airline::cast;

    fn line(flights: u64, version: i64) -> Line {
        let airline = &cast(&Dataset::read().expect("the data")).expect("valid")[0];
        let placement = Placement {
            isolation: Isolation::Database,
            cluster: "dev".to_owned(),
            database: "h_01923f4a5b6c7d8e9fa0b1c2d3e4f506".to_owned(),
            schema: "public".to_owned(),
        };
        let request_p50 = Duration::from_micros(1_260);
        let found = Found { placement, schema_version: SchemaVersion(version), flights, request_p50 };
        Line::new(airline, found, SchemaVersion(15))
    }

    #[test]
    fn a_report_agrees_only_if_every_number_does() {
        assert!(Report::new(vec![line(4_637, 15)], 1).verdict().is_ok());
        for bad in [line(4_636, 15), line(4_638, 15), line(4_637, 14)] {
            let report = Report::new(vec![line(4_637, 15), bad], 1);
            assert!(matches!(report.verdict(), Err(DemoError::Disagreement { disagreeing: 1, tenants: 2 })));
        }
    }

    #[test]
    fn a_report_about_nobody_proves_nothing() {
        assert!(Report::new(Vec::new(), 0).verdict().is_err());
    }

    #[test]
    fn long_names_are_shown_by_their_ends() {
        assert_eq!(short("h_01923f4a5b6c7d8e9fa0b1c2d3e4f506"), "h_…d3e4f506");
        assert_eq!(short("public"), "public");
        assert_eq!(line(1, 1).placement(), "database dev/h_…d3e4f506/public");
        assert_eq!(line(1, 1).row().len(), Line::COLUMNS.len());
        assert!((line(1, 1).request_p50_ms - 1.3).abs() < f64::EPSILON * 2.0);
    }
}
