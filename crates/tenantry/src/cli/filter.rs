//! Choosing tenants by what they are.

use clap::Args;
use tenantry_api::tenant::LabelSelector;
use tenantry_api::{ClusterRef, CommaSeparated, ListTenants, TenantRef};
use tenantry_domain::{Isolation, PlanName, Region, TenantStatus};

use super::arguments::words;

/// The arguments of [`FilterArguments`], for commands where one is needed, or none may be.
pub(crate) const FILTERS: [&str; 9] =
    ["status", "plan", "region", "isolation", "cluster", "parent", "below", "labels", "slug_prefix"];

/// Joined by "and".
#[derive(Debug, Clone, Args)]
pub(crate) struct FilterArguments {
    /// In one of these statuses
    #[arg(long, value_delimiter = ',', value_parser = words::<TenantStatus>(TenantStatus::ALL.iter().map(|it| it.as_str())))]
    status: Vec<TenantStatus>,
    /// On this plan
    #[arg(long)]
    plan: Option<PlanName>,
    /// In this region
    #[arg(long)]
    region: Option<Region>,
    /// With this isolation
    #[arg(long, value_parser = words::<Isolation>(Isolation::ALL.map(Isolation::as_str)))]
    isolation: Option<Isolation>,
    /// On this cluster, by name or id
    #[arg(long)]
    cluster: Option<ClusterRef>,
    /// Directly under this tenant, by slug or id
    #[arg(long)]
    parent: Option<TenantRef>,
    /// Anywhere under this tenant, by slug or id
    #[arg(long)]
    below: Option<TenantRef>,
    /// Bearing a label: KEY, or KEY=VALUE; may be repeated
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<LabelSelector>,
    /// Whose slug begins so
    #[arg(long, value_name = "PREFIX")]
    slug_prefix: Option<String>,
}

impl From<FilterArguments> for ListTenants {
    fn from(arguments: FilterArguments) -> Self {
        Self {
            status: CommaSeparated(arguments.status),
            plan: arguments.plan,
            region: arguments.region,
            isolation: arguments.isolation,
            cluster: arguments.cluster,
            parent: arguments.parent,
            below: arguments.below,
            labels: CommaSeparated(arguments.labels),
            slug_prefix: arguments.slug_prefix,
            ..Self::default()
        }
    }
}
