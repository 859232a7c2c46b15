//! Drift: tenants whose schema is not what their migrations make.

use clap::{ArgGroup, Args};
use serde::Serialize;
use tenantry_api::tenant::LabelSelector;
use tenantry_api::{CheckDrift, Client, Drift, DriftDifference, ListDrift, SampleSize, TenantRef, WaitSeconds};
use tenantry_domain::{DriftFilter, DriftState};

use super::progress::Progress;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::paging::{self, ListOptions};
use crate::cli::table::{Cell, Tabular};

/// Tenants that one call names.
const NAMED_MAX: usize = 200;
/// How long one call begins with more tenants: the shorter, the smoother the progress.
const WAIT_SECONDS: u64 = 5;
/// Tenants whose objects are told, a call each.
const EXPLAINED_MAX: usize = 100;

/// Whom to look at, and how much to say.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").multiple(false).args(["tenants", "all", "label", "sample"]))]
pub(crate) struct DriftArguments {
    /// Look at these, by slug or id
    #[arg(value_name = "TENANT")]
    tenants: Vec<TenantRef>,
    /// Look at everybody
    #[arg(long)]
    all: bool,
    /// Look at those that bear a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Option<LabelSelector>,
    /// Look at so many that were not looked at for the longest time
    #[arg(long, value_name = "NUMBER", value_parser = sample)]
    sample: Option<SampleSize>,
    /// Tell every object that differs, with what is expected and what is found
    #[arg(long)]
    explain: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// How many were looked at.
    checked: usize,
    /// How many of them are in drift.
    in_drift: usize,
    /// How many could not be looked at.
    unchecked: usize,
    items: Vec<Drift>,
}

pub(super) async fn drift(context: &Context, arguments: DriftArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let is_named = !arguments.tenants.is_empty();
    let is_look = is_named || arguments.all || arguments.label.is_some() || arguments.sample.is_some();
    let explain = arguments.explain;
    let mut items = if is_look { look(context, &client, arguments).await? } else { known(&client).await? };
    if explain {
        for item in items.iter_mut().filter(|item| item.in_drift).take(EXPLAINED_MAX) {
            *item = client.show_drift(&item.tenant.into()).await?;
        }
    }
    let unchecked = items.iter().filter(|item| is_look && item.error.is_some()).count();
    let in_drift = items.iter().filter(|item| item.in_drift).count();
    let report = Report { checked: items.len() - unchecked, in_drift, unchecked, items };
    show(context.output, &report, is_named, explain)?;
    if !is_look {
        context.output.note("That is what was found last; --all, --label, --sample or names look now.");
    }
    if report.in_drift > 0 {
        return Err(CliError::Drift { in_drift: report.in_drift, is_explained: explain });
    }
    match report.unchecked {
        0 => Ok(()),
        unchecked => Err(CliError::Unsuccessful { message: format!("{unchecked} tenants could not be looked at") }),
    }
}

/// What the last looks found, of those in drift.
async fn known(client: &Client) -> Result<Vec<Drift>, CliError> {
    let fetch = async |limit, cursor| {
        let list = ListDrift { state: Some(DriftFilter::Drifted), limit: Some(limit), cursor, ..ListDrift::default() };
        client.list_drift(&list).await
    };
    Ok(paging::gather(&ListOptions::everything(), fetch).await?.items)
}

/// Looks now, in as many calls as it takes.
async fn look(context: &Context, client: &Client, arguments: DriftArguments) -> Result<Vec<Drift>, CliError> {
    let wait = WaitSeconds::new(WAIT_SECONDS).ok();
    let others = CheckDrift {
        all: arguments.all,
        label: arguments.label.map(|label| label.to_string()),
        sample: arguments.sample,
        ..CheckDrift::default()
    };
    let mut choices: Vec<CheckDrift> = arguments
        .tenants
        .chunks(NAMED_MAX)
        .map(|tenants| CheckDrift { tenants: Some(tenants.to_vec()), ..CheckDrift::default() })
        .collect();
    if choices.is_empty() {
        choices.push(others);
    }
    let (mut items, mut later) = (Vec::new(), arguments.tenants.len());
    let mut progress = Progress::new(context.output);
    for mut check in choices {
        later -= check.tenants.as_ref().map_or(0, Vec::len);
        loop {
            let checked = client.check_drift(&check, wait).await;
            let checked = checked.inspect_err(|_| progress.clear())?;
            items.extend(checked.items);
            let done = items.len() as u64;
            let drifted = items.iter().filter(|item| item.in_drift).count();
            progress.tell(done, done + checked.left + later as u64, format!("{drifted} in drift"));
            check.cursor = checked.next;
            if check.cursor.is_none() {
                break;
            }
        }
    }
    progress.clear();
    Ok(items)
}

/// Of many, those are shown that somebody has to look after; of a few that were named, all.
fn show(output: Output, report: &Report, is_named: bool, explain: bool) -> Result<(), CliError> {
    let shown: Vec<Drift> =
        report.items.iter().filter(|item| is_named || item.in_drift || item.error.is_some()).cloned().collect();
    output.composed(report, |parts| {
        parts.fields(vec![
            ("looked at", Cell::new(report.checked)),
            ("in drift", Cell::new(report.in_drift)),
            ("not looked at", Cell::new(report.unchecked)),
        ]);
        if !shown.is_empty() {
            parts.list(&shown);
        }
        if explain {
            for item in shown.iter().filter(|item| item.in_drift) {
                parts.text(&explained(item));
            }
        }
    })?;
    if explain && report.in_drift > EXPLAINED_MAX && !output.is_json() {
        output.note(&format!("Objects are told of {EXPLAINED_MAX} tenants only; name others to see theirs."));
    }
    Ok(())
}

/// A tenant's objects, one by one.
fn explained(item: &Drift) -> String {
    let mut text = format!("{}: {}\n", item.slug, item.reason.as_deref().unwrap_or_default());
    let differences = item.differences.as_deref().unwrap_or_default();
    for difference in differences {
        text.push_str(&told(difference));
    }
    let objects = item.objects;
    let all = u64::from(objects.missing) + u64::from(objects.unexpected) + u64::from(objects.changed);
    let untold = all.saturating_sub(differences.len() as u64);
    if untold > 0 {
        text.push_str(&format!("  and {untold} more objects\n"));
    }
    text
}

fn told(difference: &DriftDifference) -> String {
    let word = match (&difference.expected, &difference.found) {
        (Some(_), None) => "missing",
        (None, Some(_)) => "unexpected",
        _ => "changed",
    };
    let mut text = format!("  {word} {} {}\n", difference.kind.replace('_', " "), difference.name);
    for (side, definition) in [("expected", &difference.expected), ("found", &difference.found)] {
        if let Some(definition) = definition {
            let definition = definition.trim().replace('\n', "\n              ");
            text.push_str(&format!("    {side:<8}  {definition}\n"));
        }
    }
    text
}

fn sample(text: &str) -> Result<SampleSize, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    SampleSize::new(number).map_err(|error| error.to_string())
}

impl Tabular for Drift {
    const COLUMNS: &'static [&'static str] =
        &["tenant", "state", "version", "missing", "unexpected", "changed", "since", "reason"];

    fn row(&self) -> Vec<Cell> {
        let reason = self.error.as_ref().or(self.reason.as_ref().filter(|_| self.state == Some(DriftState::Diverged)));
        vec![
            Cell::new(&self.slug),
            self.state
                .map_or_else(|| Cell::optional(None::<String>), |state| Cell::verdict(state.as_str(), !self.in_drift)),
            Cell::optional(self.version),
            Cell::new(self.objects.missing),
            Cell::new(self.objects.unexpected),
            Cell::new(self.objects.changed),
            Cell::optional_time(self.since),
            Cell::optional(reason),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(expected: Option<&str>, found: Option<&str>) -> DriftDifference {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let (kind, name) = ("materialized_view".to_owned(), "big".to_owned());
        DriftDifference { kind, name, expected: owned(expected), found: owned(found) }
    }

    #[test]
    fn an_object_is_told_with_what_is_expected_and_what_is_found() {
        let text = told(&difference(Some("SELECT 1\nFROM a"), Some("SELECT 2")));
        let wanted =
            "  changed materialized view big\n    expected  SELECT 1\n              FROM a\n    found     SELECT 2\n";
        assert_eq!(text, wanted);
        assert!(told(&difference(Some("SELECT 1"), None)).starts_with("  missing materialized view big\n"));
        assert!(told(&difference(None, Some("SELECT 1"))).starts_with("  unexpected materialized view big\n"));
    }
}
