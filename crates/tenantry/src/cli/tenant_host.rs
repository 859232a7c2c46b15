//! `tenantry tenant host`.

use clap::{Args, Subcommand};
use serde_json::json;
use tenantry_api::{Client, ListQuery, TenantHost, TenantRef};
use tenantry_domain::HostName;

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// DNS names of a tenant's own, besides its sub-domain.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantHostCommand {
    /// Give a tenant a host that no tenant has
    #[command(after_help = examples!(
        "tenantry tenant host add acme app.acme.com",
        "",
        "Nobody verifies that the name is the tenant's: see to it before you add it. Routers know it within a moment.",
    ))]
    Add(HostArguments),
    /// List a tenant's hosts
    #[command(after_help = examples!(
        "tenantry tenant host list acme",
        "tenantry tenant host list acme --all --output json",
    ))]
    List {
        /// Its slug or id
        tenant: TenantRef,
        #[command(flatten)]
        paging: ListOptions,
    },
    /// Take a host away from a tenant
    #[command(after_help = examples!("tenantry tenant host remove acme app.acme.com"))]
    Remove(HostArguments),
}

/// Which host, and whose.
#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// The tenant's slug or id
    tenant: TenantRef,
    /// The name in lower case, without a port: at least two DNS labels
    host: HostName,
}

impl TenantHostCommand {
    pub(crate) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        match self {
            Self::Add(HostArguments { tenant, host }) => {
                context.output.object(&client.add_tenant_host(&tenant, &host).await?)
            }
            Self::List { tenant, paging } => {
                let fetch = async |limit, cursor| {
                    client.list_tenant_hosts(&tenant, &ListQuery { limit: Some(limit), cursor }).await
                };
                context.output.list(&paging::gather(&paging, fetch).await?)
            }
            Self::Remove(HostArguments { tenant, host }) => {
                client.remove_tenant_host(&tenant, &host).await?;
                let json = json!({ "tenant": tenant, "removed": host });
                context.output.done(&json, &format!("{host} leads to tenant {tenant} no longer."))
            }
        }
    }
}

impl Tabular for TenantHost {
    const COLUMNS: &'static [&'static str] = &["host", "created"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.host), Cell::time(self.created_at)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("host", Cell::new(&self.host)),
            ("tenant", Cell::new(self.tenant)),
            ("created", Cell::time(self.created_at)),
        ]
    }
}
