//! A rollout as a JUnit report, which CI shows as it shows tests: a suite per wave, a case per tenant.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};
use tenantry_api::{Client, ListTargets, ListTenants, Rollout, RolloutTarget};
use tenantry_domain::{RolloutState, Slug, TargetState, TenantId};

use crate::cli::error::CliError;
use crate::cli::paging::{self, ListOptions};
use crate::cli::reason;

/// Writes the report of a rollout that has ended, or rests. Tenants are named by their slugs where the token may see
/// tenants, else by their ids.
pub(super) async fn write(client: &Client, rollout: &Rollout, path: &Path) -> Result<(), CliError> {
    let everything = ListOptions::everything();
    let fetch = async |limit, cursor| {
        let list = ListTargets { limit: Some(limit), cursor, ..ListTargets::default() };
        client.list_rollout_targets(rollout.id, &list).await
    };
    let targets = paging::gather(&everything, fetch).await?.items;
    let fetch = async |limit, cursor| {
        let list = ListTenants { limit: Some(limit), cursor, ..ListTenants::default() };
        client.list_tenants(&list).await
    };
    let slugs = match paging::gather(&everything, fetch).await {
        Ok(tenants) => tenants.items.into_iter().map(|tenant| (tenant.id, tenant.slug)).collect(),
        Err(_) => HashMap::new(),
    };
    let message = || format!("cannot write {}; check that it may be written", path.display());
    let text = report(rollout, &targets, &slugs).to_string();
    let text = text.map_err(|error| CliError::Program { message: message(), source: io::Error::other(error) })?;
    tokio::fs::write(path, text).await.map_err(|source| CliError::Program { message: message(), source })
}

fn report(rollout: &Rollout, targets: &[RolloutTarget], slugs: &HashMap<TenantId, Slug>) -> Report {
    let mut report = Report::new(format!("rollout {}", rollout.id));
    let waves = rollout.waves.len();
    for ((wave, number), asked) in rollout.waves.iter().zip(1_u32..).zip(0..) {
        let mut suite = TestSuite::new(format!("wave {number} of {waves}: {}", wave.select));
        suite.add_property(Property::new("migration_set", rollout.migration_set.as_str()));
        suite.add_property(Property::new("rollout", rollout.id.to_string()));
        let cases = targets.iter().filter(|target| target.wave == asked).map(|target| case(rollout, target, slugs));
        suite.add_test_cases(cases);
        if !suite.test_cases.is_empty() {
            report.add_test_suite(suite);
        }
    }
    report
}

fn case(rollout: &Rollout, target: &RolloutTarget, slugs: &HashMap<TenantId, Slug>) -> TestCase {
    let status = match target.state {
        TargetState::Applied | TargetState::Already => TestCaseStatus::success(),
        TargetState::Failed | TargetState::Parked => failure(target),
        TargetState::Pending | TargetState::Running => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(match rollout.state {
                RolloutState::Failed => "not begun: the rollout stopped before",
                _ => "not done when this was written",
            });
            status
        }
        TargetState::Skipped => {
            let mut status = TestCaseStatus::skipped();
            status.set_message("the tenant went away, or the rollout was aborted");
            status
        }
    };
    let name = slugs.get(&target.tenant).map_or_else(|| target.tenant.to_string(), ToString::to_string);
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("wave {}", target.wave + 1));
    if let Some(milliseconds) = target.duration_ms {
        case.set_time(Duration::from_millis(milliseconds));
    }
    case
}

fn failure(target: &RolloutTarget) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    if let Some(error) = &target.error {
        let text = reason::of(error);
        status.set_message(text.lines().next().unwrap_or_default());
        status.set_type(error.get("sqlstate").and_then(|it| it.as_str()).unwrap_or("failed"));
        status.set_description(text);
    }
    status
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn each_tenant_is_a_case_with_postgresqls_own_words() {
        let counts = json!({ "applied": 1, "failed": 1, "pending": 1 });
        let wave = |select: &str| json!({ "select": select, "bake_seconds": 0, "error_budget": {}, "counts": counts });
        let rollout: Rollout = serde_json::from_value(json!({
            "id": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506", "migration_set": "0".repeat(64), "state": "failed",
            "waves": [wave("2"), wave("all")], "wave": 0, "limits": { "concurrency": 8 }, "error_budget": {},
            "counts": counts, "verify": false, "priority": 0, "created_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let id = |last: u8| format!("01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f5{last:02}");
        let target = |last, wave, state: &str, error| -> RolloutTarget {
            serde_json::from_value(json!({
                "tenant": id(last), "wave": wave, "state": state, "attempts": 1, "duration_ms": 12, "error": error,
            }))
            .unwrap()
        };
        let error = json!({ "message": "a < b", "file": "V4__x.sql", "line": 3, "sqlstate": "23514", "hint": "think" });
        let targets =
            [target(1, 0, "applied", json!(null)), target(2, 0, "failed", error), target(3, 1, "pending", json!(null))];
        let slugs = HashMap::from([(targets[0].tenant, Slug::parse("acme").unwrap())]);
        let text = report(&rollout, &targets, &slugs).to_string().unwrap();
        for expected in [
            r#"tests="3" skipped="1" failures="1""#,
            r#"<testsuite name="wave 1 of 2: 2""#,
            r#"<testcase name="acme" classname="wave 1" time="0.012""#,
            r#"<failure message="V4__x.sql:3: a &lt; b (SQLSTATE 23514)" type="23514">"#,
            "hint: think",
            r#"<skipped message="not begun: the rollout stopped before"/>"#,
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }
}
