//! `tenantry orphan`.

use clap::{Args, Subcommand};
use tenantry_api::{ClusterRef, ListOrphans, Orphan};
use tenantry_domain::{OrphanId, OrphanKind, OrphanVerdict};

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// What the catalog and the clusters disagree on.
#[derive(Debug, Subcommand)]
pub(crate) enum OrphanCommand {
    /// List what stands, the newest first
    #[command(after_help = examples!(
        "tenantry orphan list",
        "tenantry orphan list --verdict ours --output json",
        "tenantry orphan list --gone   # with what is settled, for 30 days",
    ))]
    List(ListArguments),
    /// Show one
    Show(OrphanArguments),
    /// Look at every cluster now
    Scan,
    /// Remove one that is ours before its delay is over
    #[command(after_help = examples!(
        "tenantry orphan remove 0192f00d-0000-7000-8000-000000000000",
    ))]
    Remove(OrphanArguments),
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// On this cluster, by name or id
    #[arg(long)]
    cluster: Option<ClusterRef>,
    /// Of this kind: database, role, schema, slot, backend or directory
    #[arg(long)]
    kind: Option<OrphanKind>,
    /// With this verdict: ours, foreign or missing
    #[arg(long)]
    verdict: Option<OrphanVerdict>,
    /// Those that are settled too
    #[arg(long)]
    gone: bool,
    #[command(flatten)]
    paging: ListOptions,
}

/// Which one.
#[derive(Debug, Args)]
pub(crate) struct OrphanArguments {
    /// Its id, as the list shows it
    orphan: OrphanId,
}

impl OrphanCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::List(ListArguments { cluster, kind, verdict, gone, paging }) => {
                let gone = gone.then_some(true);
                let filter = ListOrphans { cluster, kind, verdict, gone, limit: None, cursor: None };
                let fetch = async |limit, cursor| {
                    client.list_orphans(&ListOrphans { limit: Some(limit), cursor, ..filter.clone() }).await
                };
                context.output.list(&paging::gather(&paging, fetch).await?)
            }
            Self::Show(arguments) => context.output.object(&client.show_orphan(arguments.orphan).await?),
            Self::Scan => {
                client.scan_orphans().await?;
                let json = serde_json::json!({ "scan": "asked for" });
                context.output.done(&json, "Every cluster is looked at; `tenantry orphan list` shows what is found.")
            }
            Self::Remove(arguments) => context.output.object(&client.remove_orphan(arguments.orphan).await?),
        }
    }
}

impl Tabular for Orphan {
    const COLUMNS: &'static [&'static str] = &["id", "verdict", "kind", "name", "cluster", "since", "removed after"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.id),
            Cell::verdict(self.verdict.as_str(), self.gone_at.is_some()),
            Cell::new(self.kind),
            Cell::new(&self.name),
            Cell::new(self.cluster),
            Cell::time(self.first_seen),
            Cell::optional_time(self.removable_after),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("cluster", Cell::new(self.cluster)),
            ("kind", Cell::new(self.kind)),
            ("name", Cell::new(&self.name)),
            ("parent", Cell::optional(self.parent.as_ref())),
            ("verdict", Cell::verdict(self.verdict.as_str(), self.gone_at.is_some())),
            ("reason", Cell::new(&self.reason)),
            ("first seen", Cell::time(self.first_seen)),
            ("last seen", Cell::time(self.last_seen)),
            ("removed after", Cell::optional_time(self.removable_after)),
            ("gone at", Cell::optional_time(self.gone_at)),
            ("removed", Cell::new(self.removed)),
            ("error", Cell::optional(self.error.as_ref())),
        ]
    }
}
