//! The tenants that a rollout could not migrate, with PostgreSQL's own words.

use serde::Serialize;
use tenantry_api::{Client, CommaSeparated, ListTargets, PageLimit, RolloutTarget, TenantRef};
use tenantry_domain::{RolloutId, Slug, TargetState};

use crate::cli::error::CliError;
use crate::cli::reason;
use crate::cli::table::{Cell, Tabular};

/// Most failures that are shown. A fleet fails for few reasons; whoever wants every target asks for the JSON of the API.
const SHOWN_MAX: usize = 100;
/// Of how many of them the slug is looked up: a call each.
const NAMED_MAX: usize = 20;

/// A target that failed, under the name that people know.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    slug: Option<Slug>,
    #[serde(flatten)]
    target: RolloutTarget,
}

impl Failure {
    /// Whether the tenant's own history is not the set's.
    pub(super) fn has_diverged(&self) -> bool {
        self.target.error.as_ref().is_some_and(|error| error["diverged"] == true)
    }
}

/// The failed and parked targets of a rollout, as many as are shown.
pub(super) async fn of(client: &Client, rollout: RolloutId) -> Result<Vec<Failure>, CliError> {
    let list = ListTargets {
        state: CommaSeparated(vec![TargetState::Failed, TargetState::Parked]),
        limit: PageLimit::new(SHOWN_MAX as u64).ok(),
        cursor: None,
    };
    let targets = client.list_rollout_targets(rollout, &list).await?.items;
    let mut failures = Vec::with_capacity(targets.len());
    for (index, target) in targets.into_iter().enumerate() {
        // A token that may migrate need not be one that may see tenants: the id stands in then.
        let slug = if index < NAMED_MAX {
            client.show_tenant(&TenantRef::Id(target.tenant)).await.ok().map(|tenant| tenant.value.slug)
        } else {
            None
        };
        failures.push(Failure { slug, target });
    }
    Ok(failures)
}

impl Tabular for Failure {
    const COLUMNS: &'static [&'static str] = &["tenant", "state", "from", "attempts", "error"];

    fn row(&self) -> Vec<Cell> {
        let target = &self.target;
        vec![
            self.slug.as_ref().map_or_else(|| Cell::new(target.tenant), Cell::new),
            Cell::state(target.state),
            Cell::optional(target.from_version),
            Cell::new(target.attempts),
            Cell::optional(target.error.as_ref().map(reason::of)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::table;

    #[test]
    fn a_failure_shows_file_line_and_postgresqls_message() {
        let target = serde_json::from_value(json!({
            "tenant": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506", "wave": 0, "state": "failed", "from_version": 11,
            "to_version": 12, "attempts": 1, "duration_ms": 7,
            "error": { "message": "column \"x\" does not exist", "file": "V12__x.sql", "line": 3, "sqlstate": "42703" },
        }));
        let failure = Failure { slug: Slug::parse("acme").ok(), target: target.expect("a target") };
        let text = table::list(std::slice::from_ref(&failure), false);
        assert!(text.contains("acme"), "{text}");
        assert!(text.contains("V12__x.sql:3: column \"x\" does not exist (SQLSTATE 42703)"), "{text}");
        let json = serde_json::to_value(&failure).expect("serialises");
        assert_eq!((&json["slug"], &json["attempts"]), (&json!("acme"), &json!(1)));
    }
}
