//! `tenantry router`.

use clap::{Args, Subcommand};
use tenantry_api::{ListRouters, Router, RouterLease};

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Routers that follow the route feed.
#[derive(Debug, Subcommand)]
pub(crate) enum RouterCommand {
    /// List routers by name: since when each is connected, what it has applied, how far it is behind
    #[command(after_help = examples!(
        "tenantry router list",
        "tenantry router list --connected",
        "tenantry router list --gone --output json   # those that are not connected, with their last reports",
    ))]
    List(ListArguments),
}

/// Which ones.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Those alone that follow the feed now
    #[arg(long, conflicts_with = "gone")]
    connected: bool,
    /// Those alone that do not
    #[arg(long)]
    gone: bool,
    #[command(flatten)]
    paging: ListOptions,
}

impl RouterCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::List(ListArguments { connected, gone, paging }) = self;
        let client = context.client()?;
        let connected = (connected || gone).then_some(connected);
        let fetch =
            async |limit, cursor| client.list_routers(&ListRouters { connected, limit: Some(limit), cursor }).await;
        context.output.list(&paging::gather(&paging, fetch).await?)
    }
}

impl Tabular for Router {
    const COLUMNS: &'static [&'static str] = &["router", "connected since", "applied", "lag", "reported"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.router),
            Cell::optional_time(self.connected_since),
            Cell::new(self.applied_version),
            Cell::new(self.lag),
            Cell::time(self.reported_at),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let lease = |lease: &RouterLease| {
            let connections = lease.connections.map_or_else(|| "none".to_owned(), |it| it.to_string());
            format!("{connections} on {} (holds {}, wants {})", lease.cluster, lease.held, lease.wanted)
        };
        let leases: Vec<String> = self.leases.iter().map(lease).collect();
        vec![
            ("router", Cell::new(&self.router)),
            ("connected since", Cell::optional_time(self.connected_since)),
            ("replica", Cell::optional(self.replica.as_ref())),
            ("applied", Cell::new(self.applied_version)),
            ("lag", Cell::new(self.lag)),
            ("leases", Cell::new(leases.join(", "))),
            ("reported", Cell::time(self.reported_at)),
        ]
    }
}
