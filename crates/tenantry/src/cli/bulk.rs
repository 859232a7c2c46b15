//! `tenantry tenant bulk`.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use tenantry_api::bulk::{CSV, JSON_LINES};
use tenantry_api::client::BulkStream;
use tenantry_api::{
    BulkAction, BulkChange, BulkLine, BulkOutcome, BulkQuery, BulkResult, BulkSummary, Client, GraceSeconds,
    ListTenants, WaitSeconds,
};
use tenantry_domain::{Note, PlanName, SuspensionReason};

use super::arguments::{future, words};
use super::error::CliError;
use super::filter::{FILTERS, FilterArguments};
use super::tenant::{grace, reasons};
use super::{Context, examples};

/// What the control plane takes in one call at most.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Many tenants in one call. Exits with 3 where some were refused or have failed.
#[derive(Debug, Subcommand)]
pub(crate) enum BulkCommand {
    /// Create a tenant for each row of a file
    #[command(after_help = examples!(
        "tenantry tenant bulk create --file tenants.csv --key spring-import",
        "tenantry tenant bulk create --file - --format ndjson --wait 60 < tenants.ndjson",
        "",
        "The first line of CSV names its columns: slug, name, plan, region, isolation, parent, cluster, seed,",
        "no_seed, trial_ends_at, label.<key>, override.<limit>. Only slug is needed. Where the call breaks off, repeat",
        "it with the same --key: no tenant is made twice.",
    ))]
    Create(CreateArguments),
    /// Give another plan to every tenant that the filters find
    #[command(after_help = examples!(
        "tenantry tenant bulk change-plan team --plan developer --label pilot --dry-run",
        "tenantry tenant bulk change-plan team --plan developer --label pilot",
    ))]
    ChangePlan {
        /// The plan that they get
        to: PlanName,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Shut out every tenant that the filters find; those that are suspended already stay as they are
    #[command(after_help = examples!(
        "tenantry tenant bulk suspend --label tier=free --dry-run",
        "tenantry tenant bulk suspend --reason payment --note 'unpaid since May' --until 30d --label overdue --wait 60",
        "tenantry tenant bulk suspend --below acme      # everything under it, but not itself",
    ))]
    Suspend {
        /// Why
        #[arg(long, default_value = "admin", value_parser = words::<SuspensionReason>(reasons()))]
        reason: SuspensionReason,
        /// More about it, for people
        #[arg(long)]
        note: Option<Note>,
        /// When it ends by itself, or for how long it lasts; never unless given
        #[arg(long, value_name = "TIME", value_parser = future)]
        until: Option<Timestamp>,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Let every suspended tenant that the filters find in again
    #[command(after_help = examples!(
        "tenantry tenant bulk resume --label overdue --dry-run",
        "tenantry tenant bulk resume --status suspended --label overdue --wait 60 --output json",
    ))]
    Resume {
        /// Leave those suspended that were suspended together with one of them
        #[arg(long)]
        alone: bool,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Delete every tenant that the filters find, with all their data
    #[command(after_help = examples!("tenantry tenant bulk delete --label env=test --dry-run"))]
    Delete {
        /// For how long that can be taken back, such as 30m or 14d; 0 for not at all; 7 days unless configured otherwise
        #[arg(long, value_name = "SPAN", value_parser = grace)]
        grace: Option<GraceSeconds>,
        #[command(flatten)]
        change: ChangeArguments,
    },
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// Values separated by commas, under a heading
    Csv,
    /// A JSON object in each line
    Ndjson,
}

/// A file of rows.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// The file; `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// How it is written; by its ending unless given, CSV where that does not tell
    #[arg(long, value_enum)]
    format: Option<RowFormat>,
    /// Stands for this import: repeated under the same key, it makes no tenant twice; drawn unless given
    #[arg(long)]
    key: Option<String>,
    /// Wait for each tenant, so many seconds at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(0..=60))]
    wait: Option<u8>,
}

/// Filters are joined by "and"; at least one is needed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("bulk_filter").required(true).multiple(true).args(FILTERS))]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Wait for each tenant, so many seconds at most
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u8).range(0..=60))]
    wait: Option<u8>,
}

impl BulkCommand {
    pub(crate) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        match self {
            Self::Create(arguments) => create(context, client, arguments).await,
            Self::ChangePlan { to, change } => {
                let asking = format!("get the plan {to}");
                change.run(context, client, BulkAction::ChangePlan { plan: to }, &asking).await
            }
            Self::Suspend { reason, note, until, change } => {
                change.run(context, client, BulkAction::Suspend { reason, note, until }, "are shut out").await
            }
            Self::Resume { alone, change } => {
                change.run(context, client, BulkAction::Resume { subtree: !alone }, "are let in again").await
            }
            Self::Delete { grace, change } => {
                change.run(context, client, BulkAction::Delete { grace }, "are deleted with all their data").await
            }
        }
    }
}

async fn create(context: &Context, client: &Client, arguments: CreateArguments) -> Result<(), CliError> {
    let CreateArguments { file, format, key, wait } = arguments;
    let media_type = match format.unwrap_or_else(|| format_of(&file)) {
        RowFormat::Csv => CSV,
        RowFormat::Ndjson => JSON_LINES,
    };
    let rows = read(file)?;
    let key = key.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let stream = client.create_tenants(media_type, rows, &key, &query(wait)).await?;
    let again = format!("repeat it with --key {key}");
    show(context, stream, None, &again).await
}

impl ChangeArguments {
    async fn run(self, context: &Context, client: &Client, action: BulkAction, asking: &str) -> Result<(), CliError> {
        let (dry_run, yes, wait) = (self.dry_run, self.yes, self.wait);
        let filter = ListTenants::from(self.filter);
        let counting = BulkChange { action: action.clone(), filter: filter.clone(), dry_run: true, expected: None };
        let mut counted = client.change_tenants(&counting, &BulkQuery::default()).await?;
        let Some(BulkLine::Summary(summary)) = counted.next().await? else { return Err(broken_off("try again")) };
        if dry_run || summary.rows == 0 {
            let sentence = format!("{} tenants would be reached.", summary.rows);
            return context.output.done(&BulkLine::Summary(summary), &sentence);
        }
        if !yes {
            confirm(summary.rows, asking)?;
        }
        let change = BulkChange { action, filter, dry_run: false, expected: Some(summary.rows) };
        let stream = client.change_tenants(&change, &query(wait)).await?;
        show(context, stream, Some(summary.rows), "look with --dry-run how many are left, and try again").await
    }
}

/// Prints results as they come: each as a line of JSON, or only what went wrong and the sum.
async fn show(context: &Context, mut stream: BulkStream, rows: Option<u64>, again: &str) -> Result<(), CliError> {
    let progress = progress(rows);
    let mut summary: Option<BulkSummary> = None;
    while let Some(line) = stream.next().await? {
        progress.inc(1);
        match &line {
            BulkLine::Result(result) => {
                if context.output.is_json() {
                    context.output.entry(&line, "")?;
                } else if matches!(result.outcome, BulkOutcome::Refused | BulkOutcome::Failed) {
                    progress.suspend(|| context.output.entry(&line, &describe(result)))?;
                }
            }
            BulkLine::Summary(end) => summary = Some(*end),
        }
    }
    progress.finish_and_clear();
    let Some(summary) = summary else { return Err(broken_off(again)) };
    let sentence = format!(
        "{} tenants: {} done, {} begun, {} known, {} refused, {} failed.",
        summary.rows, summary.done, summary.accepted, summary.known, summary.refused, summary.failed
    );
    context.output.entry(&BulkLine::Summary(summary), &sentence)?;
    if summary.is_well() {
        return Ok(());
    }
    Err(CliError::Bulk { failures: summary.refused + summary.failed, rows: summary.rows })
}

fn describe(result: &BulkResult) -> String {
    let slug = result.slug.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let reason = match (&result.problem, &result.operation) {
        (Some(problem), _) => problem.detail.clone(),
        (None, Some(operation)) => operation.error.as_ref().map(super::reason::of).unwrap_or_default(),
        (None, None) => String::new(),
    };
    format!("row {} {slug}: {reason}", result.row)
}

fn broken_off(again: &str) -> CliError {
    CliError::Unsuccessful { message: format!("the answer broke off before its end; {again}") }
}

fn query(wait: Option<u8>) -> BulkQuery {
    BulkQuery { wait: wait.and_then(|seconds| WaitSeconds::new(seconds.into()).ok()) }
}

fn format_of(file: &Path) -> RowFormat {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("ndjson" | "jsonl") => RowFormat::Ndjson,
        _ => RowFormat::Csv,
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, CliError> {
    let mut rows = Vec::new();
    let read = if path.as_os_str() == "-" {
        io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut rows)
    } else {
        std::fs::File::open(&path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut rows))
    };
    match read {
        Ok(_) => Ok(rows),
        Err(source) => Err(CliError::File { what: "the rows", path, source }),
    }
}

/// Has the number typed. Where nobody can be asked, `--yes` is needed.
fn confirm(rows: u64, asking: &str) -> Result<(), CliError> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(CliError::usage(format!("{rows} tenants {asking}; add --yes where nobody can be asked")));
    }
    let mut stderr = io::stderr().lock();
    let mut answer = String::new();
    write!(stderr, "{rows} tenants {asking}. Type their number to go on: ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(CliError::Output)?;
    if answer.trim() == rows.to_string() {
        Ok(())
    } else {
        Err(CliError::usage(format!("nothing was changed: that is not {rows}")))
    }
}

/// A bar on standard error where the number is known; nothing where that is no terminal.
fn progress(rows: Option<u64>) -> ProgressBar {
    let bar = rows.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template =
        if rows.is_some() { "{bar:40} {pos}/{len} {eta:.dim}" } else { "{spinner:.green} {pos} {elapsed:.dim}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
