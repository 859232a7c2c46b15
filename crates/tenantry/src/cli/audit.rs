//! `tenantry audit`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tenantry_api::{AuditEntry, ListAuditLog, TenantRef};

use super::arguments::past;
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Who did what to what.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries, the newest first
    #[command(after_help = examples!(
        "tenantry audit list --tenant acme",
        "tenantry audit list --since 24h --action tenant.delete",
        "tenantry audit list --all --output json   # with what each object was before and after",
    ))]
    List(ListArguments),
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// About this tenant, by slug or id
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// With this action, such as `tenant.create`
    #[arg(long)]
    action: Option<String>,
    /// By this actor
    #[arg(long)]
    actor: Option<String>,
    /// Not before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
    #[command(flatten)]
    paging: ListOptions,
}

impl AuditCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        let Self::List(arguments) = self;
        let ListArguments { tenant, action, actor, since, until, paging } = arguments;
        let filter = ListAuditLog { tenant, action, actor, since, until, limit: None, cursor: None };
        let fetch = async |limit, cursor| {
            client.list_audit_log(&ListAuditLog { limit: Some(limit), cursor, ..filter.clone() }).await
        };
        context.output.list(&paging::gather(&paging, fetch).await?)
    }
}

impl Tabular for AuditEntry {
    const COLUMNS: &'static [&'static str] = &["at", "actor", "action", "target", "request"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::time(self.at),
            Cell::new(&self.actor),
            Cell::new(&self.action),
            Cell::new(&self.target),
            Cell::optional(self.request_id.as_ref()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("at", Cell::time(self.at)),
            ("actor", Cell::new(&self.actor)),
            ("action", Cell::new(&self.action)),
            ("target", Cell::new(&self.target)),
            ("request", Cell::optional(self.request_id.as_ref())),
            ("operation", Cell::optional(self.operation)),
            ("before", Cell::optional(self.before.as_ref())),
            ("after", Cell::optional(self.after.as_ref())),
            ("hash", Cell::new(&self.hash)),
        ]
    }
}
