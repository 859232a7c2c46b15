//! `tenantry tenant adopt`, `adopt-confirm` and `adopt-cancel`.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use tenantry_api::adoption::AdoptionSeverity;
use tenantry_api::{AdoptTenant, AdoptionFinding, AdoptionReport, Client, ClusterRef, DecideOperation, TenantRef};
use tenantry_domain::{DatabaseName, DisplayName, Labels, PlanName, Reason, SchemaName, SchemaVersion, Slug};

use super::Context;
use super::arguments::{Assignment, map_of};
use super::error::CliError;
use super::table::{Cell, Tabular};
use super::tenant::finish;
use super::waiting::WaitOptions;

/// Slug, cluster and database are needed.
#[derive(Debug, Args)]
pub(crate) struct AdoptArguments {
    /// The tenant's name in URLs and hosts: a DNS label, never given twice
    #[arg(long)]
    slug: Slug,
    /// The cluster that the database is on, by name or id
    #[arg(long)]
    cluster: ClusterRef,
    /// The database
    #[arg(long, value_parser = DatabaseName::parse)]
    database: DatabaseName,
    /// The schema, if only that becomes the tenant's; the whole database unless given
    #[arg(long, value_parser = SchemaName::parse)]
    schema: Option<SchemaName>,
    /// The version of the promoted migration set that the tables are at already
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(0..))]
    baseline_version: Option<i64>,
    /// The tenant's name for people; the slug unless given
    #[arg(long)]
    name: Option<DisplayName>,
    /// Its plan; `developer` unless given
    #[arg(long)]
    plan: Option<PlanName>,
    /// The tenant above it, by slug or id
    #[arg(long)]
    parent: Option<TenantRef>,
    /// A mark for selecting; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Assignment>,
    /// Only look and tell what would be found
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which tenant, and how sure.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which tenant, and why.
#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// Why; kept in the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
    #[command(flatten)]
    waiting: WaitOptions,
}

pub(crate) async fn adopt(context: &Context, client: &Client, arguments: AdoptArguments) -> Result<(), CliError> {
    let labels = Labels::new(map_of(arguments.labels)).map_err(|error| CliError::usage(error.to_string()))?;
    let adopt = AdoptTenant {
        slug: arguments.slug,
        name: arguments.name,
        plan: arguments.plan,
        parent: arguments.parent,
        labels,
        cluster: arguments.cluster,
        database: arguments.database,
        schema: arguments.schema,
        baseline_version: arguments.baseline_version.map(SchemaVersion),
    };
    if arguments.dry_run {
        let report = client.preview_adoption(&adopt).await?;
        return context.output.composed(&report, |composition| {
            composition.object(&report);
            if !report.findings.is_empty() {
                composition.list(&report.findings);
            }
        });
    }
    let begun = client.adopt_tenant(&adopt, None).await?;
    let slug = begun.tenant.slug.clone();
    finish(context, client, begun, &arguments.waiting).await?;
    context.output.note(&format!(
        "Those who had rights before still have them. Once your programs use the tenant: tenantry tenant adopt-confirm \
         {slug}; to put everything back: tenantry tenant adopt-cancel {slug}"
    ));
    Ok(())
}

pub(crate) async fn confirm(context: &Context, client: &Client, arguments: ConfirmArguments) -> Result<(), CliError> {
    if !arguments.yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
        let slug = client.show_tenant(&arguments.tenant).await?.value.slug;
        ask(slug.as_str())?;
    }
    let begun = client.confirm_adoption(&arguments.tenant, None).await?;
    finish(context, client, begun, &arguments.waiting).await
}

pub(crate) async fn cancel(context: &Context, client: &Client, arguments: CancelArguments) -> Result<(), CliError> {
    let decision = DecideOperation { reason: arguments.reason };
    let begun = client.cancel_adoption(&arguments.tenant, &decision, None).await?;
    finish(context, client, begun, &arguments.waiting).await
}

/// Has the slug typed: rights that were taken are not given back.
fn ask(slug: &str) -> Result<(), CliError> {
    let mut stderr = io::stderr().lock();
    let mut answer = String::new();
    write!(stderr, "The old owners lose their rights, and their sessions end. Type {slug} to go on: ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(CliError::Output)?;
    if answer.trim() == slug {
        Ok(())
    } else {
        Err(CliError::usage(format!("nothing was confirmed: that is not `{slug}`")))
    }
}

impl Tabular for AdoptionReport {
    const COLUMNS: &'static [&'static str] = &["possible", "isolation", "objects", "bytes", "begins at", "set is at"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::verdict(if self.is_possible { "yes" } else { "no" }, self.is_possible),
            Cell::new(self.isolation),
            Cell::new(self.objects),
            Cell::new(self.size_bytes),
            Cell::new(self.schema_version),
            Cell::optional(self.latest_version),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for AdoptionFinding {
    const COLUMNS: &'static [&'static str] = &["weight", "what", "message", "advice"];

    fn row(&self) -> Vec<Cell> {
        let weight = match self.severity {
            AdoptionSeverity::Blocker => Cell::verdict("blocker", false),
            AdoptionSeverity::Warning => Cell::new("warning"),
        };
        vec![weight, Cell::new(&self.code), Cell::new(&self.message), Cell::new(&self.advice)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}
