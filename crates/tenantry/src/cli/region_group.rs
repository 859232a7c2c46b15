//! `tenantry region-group`.

use clap::Subcommand;
use serde_json::json;
use tenantry_api::{ListQuery, PutRegionGroup, RegionGroup};
use tenantry_domain::{GroupRegions, Region};

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Names for several regions, any of which will do for a tenant that names the group as its region.
#[derive(Debug, Subcommand)]
pub(crate) enum RegionGroupCommand {
    /// Make a group, or give it these members in place of those it has
    #[command(after_help = examples!(
        "tenantry region-group put eu eu-central-1 eu-west-1",
        "",
        "A region in which a tenant of the group lives cannot leave it.",
    ))]
    Put {
        /// Its name, which no region has
        group: Region,
        /// All its members
        #[arg(required = true, value_name = "REGION")]
        regions: Vec<Region>,
    },
    /// List groups
    #[command(after_help = examples!("tenantry region-group list"))]
    List(ListOptions),
    /// Show one group
    #[command(after_help = examples!("tenantry region-group show eu"))]
    Show {
        /// Its name
        group: Region,
    },
    /// Forget a group that no tenant names
    #[command(after_help = examples!("tenantry region-group delete eu"))]
    Delete {
        /// Its name
        group: Region,
    },
}

impl RegionGroupCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Put { group, regions } => {
                let regions = GroupRegions::new(regions.into_iter().collect());
                let regions = regions.map_err(|error| CliError::usage(error.to_string()))?;
                let put = client.put_region_group(&group, &PutRegionGroup { regions }, None).await?;
                context.output.object(&put.value)
            }
            Self::List(options) => {
                let fetch =
                    async |limit, cursor| client.list_region_groups(&ListQuery { limit: Some(limit), cursor }).await;
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Show { group } => context.output.object(&client.show_region_group(&group).await?.value),
            Self::Delete { group } => {
                client.delete_region_group(&group).await?;
                context.output.done(&json!({ "deleted": group }), &format!("Region group {group} is forgotten."))
            }
        }
    }
}

impl Tabular for RegionGroup {
    const COLUMNS: &'static [&'static str] = &["name", "regions", "updated"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.name), Cell::joined(self.regions.as_set()), Cell::time(self.updated_at)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("name", Cell::new(&self.name)),
            ("regions", Cell::joined(self.regions.as_set())),
            ("created", Cell::time(self.created_at)),
            ("updated", Cell::time(self.updated_at)),
        ]
    }
}
