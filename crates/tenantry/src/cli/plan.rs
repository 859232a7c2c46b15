//! `tenantry plan`.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use tenantry_api::{Client, CreatePlan, ListQuery, Patch, Plan, UpdatePlan};
use tenantry_domain::{Isolation, PlanName, Price, SeedName};

use super::affinity::{self, AffinityArguments};
use super::arguments::{Assignment, read_assignments, words};
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Quotas, features, default isolation and limits that tenants get.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// Create a plan
    #[command(after_help = examples!(
        "tenantry plan create starter --isolation schema --limit connections=10 --limit statement_timeout_ms=30000",
        "tenantry plan create business --isolation database --quota seats=100 --feature sso --feature export \\",
        "    --currency EUR --monthly-minor 4900",
        "",
        "Limits: connections, pool_size, connections_per_second, requests_per_second, requests_per_minute,",
        "concurrent_requests, queued_requests, statement_timeout_ms, idle_in_transaction_timeout_ms,",
        "transaction_timeout_ms, temporary_tables, shared_pooling.",
    ))]
    Create(Box<CreateArguments>),
    /// List plans
    #[command(after_help = examples!("tenantry plan list"))]
    List(ListOptions),
    /// Show one plan
    #[command(after_help = examples!("tenantry plan show team"))]
    Show {
        /// Its name
        plan: PlanName,
    },
    /// Change a plan; new limits reach its tenants within seconds
    #[command(after_help = examples!(
        "tenantry plan update team --limit connections=50 --remove-limit requests_per_second",
        "tenantry plan update team --quota seats=200 --add-feature sso --remove-feature beta",
        "tenantry plan update team --currency EUR --monthly-minor 5900",
    ))]
    Update(Box<UpdateArguments>),
    /// Delete a plan that no tenant has
    #[command(after_help = examples!("tenantry plan delete starter"))]
    Delete {
        /// Its name
        plan: PlanName,
    },
}

/// Name and isolation are needed.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Its name, unique
    plan: PlanName,
    /// What a tenant of the plan has to itself
    #[arg(long, value_parser = words::<Isolation>(Isolation::ALL.map(Isolation::as_str)))]
    isolation: Isolation,
    /// A limit, such as `connections=50`; may be repeated
    #[arg(long = "limit", value_name = "LIMIT=VALUE")]
    limits: Vec<Assignment>,
    /// A product quota, such as `seats=100`; may be repeated
    #[arg(long = "quota", value_name = "NAME=NUMBER")]
    quotas: Vec<Assignment>,
    /// A product feature that is on; may be repeated
    #[arg(long = "feature", value_name = "NAME")]
    features: Vec<String>,
    /// The name of the seed that homes of new tenants are filled with
    #[arg(long)]
    seed: Option<SeedName>,
    #[command(flatten)]
    price: PriceArguments,
    #[command(flatten)]
    affinity: AffinityArguments,
}

/// What is not named stays.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("plan_change").required(true).multiple(true).args([
    "isolation", "limits", "removed_limits", "quotas", "removed_quotas", "added_features", "removed_features",
    "seed", "no_seed", "currency", "monthly_minor", "yearly_minor", "setup_minor", "apart", "strictly_apart",
    "with_parent", "remove_affinity",
]))]
pub(crate) struct UpdateArguments {
    /// Its name
    plan: PlanName,
    /// What new tenants of the plan have to themselves
    #[arg(long, value_parser = words::<Isolation>(Isolation::ALL.map(Isolation::as_str)))]
    isolation: Option<Isolation>,
    /// A limit to set, such as `connections=50`; may be repeated
    #[arg(long = "limit", value_name = "LIMIT=VALUE")]
    limits: Vec<Assignment>,
    /// A limit to remove, so that there is no such ceiling; may be repeated
    #[arg(long = "remove-limit", value_name = "LIMIT")]
    removed_limits: Vec<String>,
    /// A quota to set, such as `seats=100`; may be repeated
    #[arg(long = "quota", value_name = "NAME=NUMBER")]
    quotas: Vec<Assignment>,
    /// A quota to remove; may be repeated
    #[arg(long = "remove-quota", value_name = "NAME")]
    removed_quotas: Vec<String>,
    /// A feature to switch on; may be repeated
    #[arg(long = "add-feature", value_name = "NAME")]
    added_features: Vec<String>,
    /// A feature to switch off; may be repeated
    #[arg(long = "remove-feature", value_name = "NAME")]
    removed_features: Vec<String>,
    /// The name of another seed for new tenants
    #[arg(long)]
    seed: Option<SeedName>,
    /// Give new tenants no seed
    #[arg(long, conflicts_with = "seed")]
    no_seed: bool,
    #[command(flatten)]
    price: PriceArguments,
    #[command(flatten)]
    affinity: AffinityArguments,
    /// Remove all wishes about neighbours
    #[arg(long, conflicts_with_all = ["apart", "strictly_apart", "with_parent"])]
    remove_affinity: bool,
}

/// Price fields, for showing and for billing elsewhere.
#[derive(Debug, Args)]
struct PriceArguments {
    /// ISO 4217 code of the price's currency, such as EUR
    #[arg(long)]
    currency: Option<String>,
    /// Price of a month, in the currency's smallest unit
    #[arg(long, value_name = "AMOUNT")]
    monthly_minor: Option<i64>,
    /// Price of a year, in the currency's smallest unit
    #[arg(long, value_name = "AMOUNT")]
    yearly_minor: Option<i64>,
    /// Price of the beginning, in the currency's smallest unit
    #[arg(long, value_name = "AMOUNT")]
    setup_minor: Option<i64>,
}

impl PriceArguments {
    fn over(self, current: Price) -> Price {
        Price {
            currency: self.currency.or(current.currency),
            monthly_minor: self.monthly_minor.or(current.monthly_minor),
            yearly_minor: self.yearly_minor.or(current.yearly_minor),
            setup_minor: self.setup_minor.or(current.setup_minor),
        }
    }
}

impl PlanCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Create(arguments) => create(context, &client, *arguments).await,
            Self::List(options) => {
                let fetch = async |limit, cursor| client.list_plans(&ListQuery { limit: Some(limit), cursor }).await;
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Show { plan } => context.output.object(&client.show_plan(&plan).await?.value),
            Self::Update(arguments) => update(context, &client, *arguments).await,
            Self::Delete { plan } => {
                client.delete_plan(&plan).await?;
                context.output.done(&json!({ "deleted": plan }), &format!("Plan {plan} is deleted."))
            }
        }
    }
}

async fn create(context: &Context, client: &Client, arguments: CreateArguments) -> Result<(), CliError> {
    let create = CreatePlan {
        name: arguments.plan,
        isolation: arguments.isolation,
        quotas: read_assignments("--quota", &arguments.quotas, &[])?,
        features: arguments.features,
        limits: read_assignments("--limit", &arguments.limits, &[])?,
        price: arguments.price.over(Price::default()),
        seed: arguments.seed,
        affinity: arguments.affinity.read()?,
    };
    context.output.object(&client.create_plan(&create).await?)
}

/// Features and prices are whole in the contract, so they are read first and the change holds for what was read.
async fn update(context: &Context, client: &Client, arguments: UpdateArguments) -> Result<(), CliError> {
    let current = client.show_plan(&arguments.plan).await?;
    let quotas: BTreeMap<String, Option<i64>> =
        read_assignments("--quota", &arguments.quotas, &arguments.removed_quotas)?;
    let limits = if arguments.limits.is_empty() && arguments.removed_limits.is_empty() {
        Patch::Keep
    } else {
        Patch::Set(read_assignments("--limit", &arguments.limits, &arguments.removed_limits)?)
    };
    let mut features = current.value.features.clone();
    features.retain(|feature| !arguments.removed_features.contains(feature));
    for feature in arguments.added_features {
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    let price = arguments.price.over(current.value.price.clone());
    let affinity = arguments.affinity.read()?;
    let affinity = match (arguments.remove_affinity, affinity.is_empty()) {
        (true, _) => Patch::Clear,
        (false, true) => Patch::Keep,
        (false, false) => Patch::Set(current.value.affinity.clone().overridden_by(affinity)),
    };
    let update = UpdatePlan {
        isolation: arguments.isolation,
        quotas: if quotas.is_empty() { Patch::Keep } else { Patch::Set(quotas) },
        features: (features != current.value.features).then_some(features),
        limits,
        price: if price == current.value.price { Patch::Keep } else { Patch::Set(price) },
        seed: match (arguments.seed, arguments.no_seed) {
            (Some(seed), _) => Patch::Set(seed),
            (None, true) => Patch::Clear,
            (None, false) => Patch::Keep,
        },
        affinity,
    };
    context.output.object(&client.update_plan(&arguments.plan, &update, current.etag.as_deref()).await?.value)
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
        let currency = self.price.currency.as_deref().unwrap_or("");
        let price = [
            ("a month", self.price.monthly_minor),
            ("a year", self.price.yearly_minor),
            ("to begin with", self.price.setup_minor),
        ];
        let price = price.into_iter().filter_map(|(what, amount)| Some(format!("{} {currency} {what}", amount?)));
        vec![
            ("name", Cell::new(&self.name)),
            ("isolation", Cell::new(self.isolation)),
            ("connections", Cell::optional(limits.connections)),
            ("pool size", Cell::optional(limits.pool_size)),
            ("connections per second", Cell::optional(limits.connections_per_second)),
            ("requests per second", Cell::optional(limits.requests_per_second)),
            ("requests per minute", Cell::optional(limits.requests_per_minute)),
            ("concurrent requests", Cell::optional(limits.concurrent_requests)),
            ("queued requests", Cell::optional(limits.queued_requests)),
            ("statement timeout, ms", Cell::optional(limits.statement_timeout_ms)),
            ("idle in transaction, ms", Cell::optional(limits.idle_in_transaction_timeout_ms)),
            ("transaction timeout, ms", Cell::optional(limits.transaction_timeout_ms)),
            ("temporary tables", Cell::optional(limits.temporary_tables)),
            ("shared pooling", Cell::optional(limits.shared_pooling)),
            ("quotas", Cell::joined(self.quotas.iter().map(|(name, value)| format!("{name}={value}")))),
            ("features", Cell::joined(&self.features)),
            ("seed", Cell::optional(self.seed.as_ref())),
            ("price, smallest unit", Cell::joined(price)),
            ("neighbours", affinity::cell(&self.affinity)),
            ("created", Cell::time(self.created_at)),
            ("updated", Cell::time(self.updated_at)),
        ]
    }
}
