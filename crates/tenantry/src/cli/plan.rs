//! `tenantry plan`.

use clap::Subcommand;
use tenantry_api::{ListQuery, Plan};
use tenantry_domain::PlanName;

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Quotas, features, default isolation and limits that tenants get.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// List plans
    #[command(after_help = examples!("tenantry plan list"))]
    List(ListOptions),
    /// Show one plan
    #[command(after_help = examples!("tenantry plan show team"))]
    Show {
        /// Its name
        plan: PlanName,
    },
}

impl PlanCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::List(options) => {
                let fetch = async |limit, cursor| client.list_plans(&ListQuery { limit: Some(limit), cursor }).await;
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Show { plan } => context.output.object(&client.show_plan(&plan).await?),
        }
    }
}

impl Tabular for Plan {
    const COLUMNS: &'static [&'static str] = &["name", "isolation", "connections", "pool size", "features"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::new(self.isolation),
            Cell::optional(self.limits.connections),
            Cell::optional(self.limits.pool_size),
            Cell::joined(&self.features),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let limits = &self.limits;
        let price = self.price.monthly_minor.map(|minor| {
            let currency = self.price.currency.as_deref().unwrap_or("").to_owned();
            format!("{minor} {currency} a month, in its smallest unit")
        });
        vec![
            ("name", Cell::new(&self.name)),
            ("isolation", Cell::new(self.isolation)),
            ("connections", Cell::optional(limits.connections)),
            ("pool size", Cell::optional(limits.pool_size)),
            ("requests per second", Cell::optional(limits.requests_per_second)),
            ("statement timeout, ms", Cell::optional(limits.statement_timeout_ms)),
            ("idle in transaction, ms", Cell::optional(limits.idle_in_transaction_timeout_ms)),
            ("temporary tables", Cell::optional(limits.temporary_tables)),
            ("quotas", Cell::joined(self.quotas.iter().map(|(name, value)| format!("{name}={value}")))),
            ("features", Cell::joined(&self.features)),
            ("price", Cell::optional(price)),
        ]
    }
}
