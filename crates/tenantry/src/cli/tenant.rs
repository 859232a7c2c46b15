//! `tenantry tenant`.

mod lifecycle;

use std::collections::BTreeMap;

use clap::{ArgGroup, Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use tenantry_api::{
    Client, ClusterRef, CreateTenant, EffectivePlan, HealthCheck, LabelsPatch, ListTenants, Operation, OverridesPatch,
    Patch, Tenant, TenantRef, TenantWithOperation, UpdateTenant,
};
use tenantry_domain::{
    DisplayName, Isolation, Labels, LimitValue, Origin, Overrides, PlanName, Region, SchemaVersion, SeedRef, Slug,
};

pub(crate) use self::lifecycle::{grace, reasons};
use super::affinity::{self, AffinityArguments};
use super::arguments::{Assignment, future, map_of, read_assignments, words};
use super::bulk::BulkCommand;
use super::error::CliError;
use super::filter::FilterArguments;
use super::paging::{self, ListOptions};
use super::placement;
use super::table::{Cell, Tabular};
use super::tenant_adopt::{self, AdoptArguments, CancelArguments, ConfirmArguments};
use super::tenant_explain;
use super::tenant_host::TenantHostCommand;
use super::waiting::{self, WaitOptions};
use super::{Context, examples};

/// Customers, each with a PostgreSQL home of its own.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant and wait until its home is ready
    #[command(after_help = examples!(
        "tenantry tenant create acme",
        "tenantry tenant create acme --plan team --region eu-central-1 --label tier=gold",
        "tenantry tenant create acme --isolation cluster --no-wait",
        "tenantry tenant create acme --region eu --label group=skyteam --apart group --dry-run   # where, and why there",
        "tenantry tenant create acme --override connections=50 --override temporary_tables=true",
        "tenantry tenant create acme --plan trial --no-seed     # empty, although the plan has a seed",
    ))]
    Create(Box<CreateArguments>),
    /// List tenants
    #[command(after_help = examples!(
        "tenantry tenant list --status active,suspended --plan team",
        "tenantry tenant list --label tier=gold --all --output json",
        "tenantry tenant list --schema-version-below 12      # who is behind",
    ))]
    List(Box<ListArguments>),
    /// Show one tenant
    #[command(after_help = examples!("tenantry tenant show acme"))]
    Show {
        /// Its slug or id
        tenant: TenantRef,
    },
    /// Change name, plan, labels, parent, trial, neighbours, or limits, quotas and features of its own
    #[command(after_help = examples!(
        "tenantry tenant update acme --name 'Acme Airlines' --plan team",
        "tenantry tenant update acme --label tier=gold --remove-label pilot",
        "tenantry tenant update acme --override connections=100 --remove-override pool_size",
        "tenantry tenant update acme --quota seats=500 --feature sso=true --remove-feature beta",
        "tenantry tenant update acme-berlin --parent acme",
        "tenantry tenant update acme --trial-ends 14d     # counted from now",
        "tenantry tenant update acme --label group=skyteam --strictly-apart group     # for wherever it goes next",
    ))]
    Update(Box<UpdateArguments>),
    /// Show every limit, quota and feature that holds for a tenant, and where it comes from
    #[command(after_help = examples!("tenantry tenant effective-plan acme"))]
    EffectivePlan {
        /// Its slug or id
        tenant: TenantRef,
    },
    /// Explain a tenant: intended and observed state, placement, operations, what each router has
    #[command(after_help = examples!(
        "tenantry tenant explain acme",
        "tenantry tenant explain acme --output json",
    ))]
    Explain {
        /// Its slug or id
        tenant: TenantRef,
    },
    /// Make a database or schema that is there already a tenant, without copying it
    #[command(after_help = examples!(
        "tenantry tenant adopt --cluster eu-1 --database acme_prod --slug acme --plan team --dry-run",
        "tenantry tenant adopt --cluster eu-1 --database acme_prod --slug acme --plan team --baseline-version 14",
        "tenantry tenant adopt --cluster eu-1 --database old --schema acme --slug acme",
        "",
        "Those who had rights before keep them until you decide: adopt-confirm or adopt-cancel.",
    ))]
    Adopt(Box<AdoptArguments>),
    /// Make an adoption final: the old owners lose their rights, and their sessions end
    #[command(after_help = examples!("tenantry tenant adopt-confirm acme --yes"))]
    AdoptConfirm(ConfirmArguments),
    /// Put back everything as it was before an adoption; no tenant is left
    #[command(after_help = examples!("tenantry tenant adopt-cancel acme --reason 'the wrong database'"))]
    AdoptCancel(CancelArguments),
    /// Show how a tenant is: every check, whether it is well, and why; the exit status says so too
    #[command(after_help = examples!(
        "tenantry tenant health acme",
        "tenantry tenant health acme --output json | jq '.checks[] | select(.ok | not)'",
    ))]
    Health {
        /// Its slug or id
        tenant: TenantRef,
    },
    /// Give a tenant's roles other passwords; clients of routers see no error
    #[command(after_help = examples!("tenantry tenant rotate-credentials acme"))]
    RotateCredentials {
        /// Its slug or id
        tenant: TenantRef,
        #[command(flatten)]
        waiting: WaitOptions,
    },
    /// Shut a tenant out until it is resumed, or until a time
    #[command(after_help = examples!(
        "tenantry tenant suspend acme",
        "tenantry tenant suspend acme --reason payment --note 'invoice 4711' --until 2027-01-31T00:00:00Z",
        "tenantry tenant suspend acme --subtree      # and everything below it",
    ))]
    Suspend(lifecycle::SuspendArguments),
    /// Let a suspended tenant in again
    #[command(after_help = examples!(
        "tenantry tenant resume acme                 # and those that were suspended together with it",
        "tenantry tenant resume acme --alone",
    ))]
    Resume(lifecycle::ResumeArguments),
    /// Delete a tenant with all its data, once its grace period is over
    #[command(after_help = examples!(
        "tenantry tenant delete acme                 # asks first, on a terminal; can be restored for 7 days",
        "tenantry tenant delete acme --yes --grace 30d",
        "tenantry tenant delete acme --yes --grace 0    # at once, without a way back",
    ))]
    Delete(lifecycle::DeleteArguments),
    /// Take a deletion back, as long as its grace period lasts
    #[command(after_help = examples!("tenantry tenant restore acme"))]
    Restore(lifecycle::RestoreArguments),
    /// Create or change many tenants in one call
    #[command(subcommand)]
    Bulk(BulkCommand),
    /// DNS names of a tenant's own: add, list, remove
    #[command(subcommand)]
    Host(TenantHostCommand),
    /// Forget a deleted tenant, which frees its slug
    #[command(after_help = examples!("tenantry tenant purge acme"))]
    Purge {
        /// Its slug or id
        tenant: TenantRef,
    },
}

/// Only the slug is needed.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Its name in URLs and hosts: a DNS label, never given twice
    slug: Slug,
    /// Its name for people; the slug unless given
    #[arg(long)]
    name: Option<DisplayName>,
    /// Its plan; `developer` unless given
    #[arg(long)]
    plan: Option<PlanName>,
    /// Where its data must be, a region or a region group; the control plane's default unless given
    #[arg(long)]
    region: Option<Region>,
    /// What it has to itself; the plan's unless given
    #[arg(long, value_parser = words::<Isolation>(Isolation::ALL.map(Isolation::as_str)))]
    isolation: Option<Isolation>,
    /// The seed that its home is filled with, by name or digest; the plan's unless given
    #[arg(long)]
    seed: Option<SeedRef>,
    /// Fill its home with nothing, although its plan names a seed
    #[arg(long, conflicts_with = "seed")]
    no_seed: bool,
    /// The cluster to place it on, by name or id; chosen unless given
    #[arg(long)]
    cluster: Option<ClusterRef>,
    /// The tenant above it, by slug or id
    #[arg(long)]
    parent: Option<TenantRef>,
    /// A mark for selecting; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Assignment>,
    /// A limit of its own in place of the plan's, such as `connections=50`; may be repeated
    #[arg(long = "override", value_name = "LIMIT=VALUE")]
    overrides: Vec<Assignment>,
    /// A quota of its own, such as `seats=100`; may be repeated
    #[arg(long = "quota", value_name = "NAME=NUMBER")]
    quotas: Vec<Assignment>,
    /// A feature of its own, such as `sso=true`; may be repeated
    #[arg(long = "feature", value_name = "NAME=true|false")]
    features: Vec<Assignment>,
    #[command(flatten)]
    affinity: AffinityArguments,
    /// Check and decide everything, show what it comes to, and create nothing
    #[arg(long, conflicts_with_all = ["wait", "no_wait", "timeout"])]
    dry_run: bool,
    /// End of its trial, or how long it lasts
    #[arg(long, value_name = "TIME", value_parser = future)]
    trial_ends: Option<Timestamp>,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    filter: FilterArguments,
    /// Whose schema is below this version
    #[arg(long, value_name = "VERSION")]
    schema_version_below: Option<i64>,
    #[command(flatten)]
    paging: ListOptions,
}

/// What is not named stays.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args([
    "name", "plan", "labels", "removed_labels", "overrides", "removed_overrides", "quotas", "removed_quotas",
    "features", "removed_features", "parent", "no_parent", "trial_ends", "no_trial", "apart", "strictly_apart",
    "with_parent", "remove_affinity",
]))]
pub(crate) struct UpdateArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// Its new name for people
    #[arg(long)]
    name: Option<DisplayName>,
    /// Its new plan; its isolation stays
    #[arg(long)]
    plan: Option<PlanName>,
    /// A label to set; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Assignment>,
    /// A label to remove; may be repeated
    #[arg(long = "remove-label", value_name = "KEY")]
    removed_labels: Vec<String>,
    /// A limit of its own to set, such as `connections=50`; may be repeated
    #[arg(long = "override", value_name = "LIMIT=VALUE")]
    overrides: Vec<Assignment>,
    /// A limit of its own to remove, so that the plan's holds again; may be repeated
    #[arg(long = "remove-override", value_name = "LIMIT")]
    removed_overrides: Vec<String>,
    /// A quota of its own to set, such as `seats=100`; may be repeated
    #[arg(long = "quota", value_name = "NAME=NUMBER")]
    quotas: Vec<Assignment>,
    /// A quota of its own to remove, so that the plan's holds again; may be repeated
    #[arg(long = "remove-quota", value_name = "NAME")]
    removed_quotas: Vec<String>,
    /// A feature to switch on or off for it, such as `sso=true`; may be repeated
    #[arg(long = "feature", value_name = "NAME=true|false")]
    features: Vec<Assignment>,
    /// A feature of its own to remove, so that the plan's holds again; may be repeated
    #[arg(long = "remove-feature", value_name = "NAME")]
    removed_features: Vec<String>,
    /// Another tenant above it, by slug or id
    #[arg(long, conflicts_with = "no_parent")]
    parent: Option<TenantRef>,
    /// No tenant above it
    #[arg(long)]
    no_parent: bool,
    /// Another end of its trial, or how long it lasts from now on
    #[arg(long, value_name = "TIME", value_parser = future, conflicts_with = "no_trial")]
    trial_ends: Option<Timestamp>,
    /// No trial
    #[arg(long)]
    no_trial: bool,
    #[command(flatten)]
    affinity: AffinityArguments,
    /// Remove its own wishes about neighbours, so that its plan's hold again
    #[arg(long, conflicts_with_all = ["apart", "strictly_apart", "with_parent"])]
    remove_affinity: bool,
}

impl TenantCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Create(arguments) => create(context, &client, *arguments).await,
            Self::Explain { tenant } => tenant_explain::explain(context, &client, &tenant).await,
            Self::Adopt(arguments) => tenant_adopt::adopt(context, &client, *arguments).await,
            Self::AdoptConfirm(arguments) => tenant_adopt::confirm(context, &client, arguments).await,
            Self::AdoptCancel(arguments) => tenant_adopt::cancel(context, &client, arguments).await,
            Self::List(arguments) => list(context, &client, *arguments).await,
            Self::Show { tenant } => context.output.object(&client.show_tenant(&tenant).await?.value),
            Self::Update(arguments) => update(context, &client, *arguments).await,
            Self::EffectivePlan { tenant } => context.output.object(&client.effective_plan(&tenant).await?),
            Self::Health { tenant } => health(context, &client, &tenant).await,
            Self::RotateCredentials { tenant, waiting } => {
                let begun = client.rotate_credentials(&tenant, None).await?;
                finish(context, &client, begun, &waiting).await
            }
            Self::Bulk(command) => command.run(context, &client).await,
            Self::Host(command) => command.run(context, &client).await,
            Self::Suspend(arguments) => arguments.run(context, &client).await,
            Self::Resume(arguments) => arguments.run(context, &client).await,
            Self::Delete(arguments) => arguments.run(context, &client).await,
            Self::Restore(arguments) => arguments.run(context, &client).await,
            Self::Purge { tenant } => {
                client.purge_tenant(&tenant).await?;
                let json = json!({ "purged": tenant });
                context.output.done(&json, &format!("Tenant {tenant} is forgotten; its slug is free."))
            }
        }
    }
}

async fn create(context: &Context, client: &Client, arguments: CreateArguments) -> Result<(), CliError> {
    let labels = Labels::new(map_of(arguments.labels)).map_err(|error| CliError::usage(error.to_string()))?;
    let create = CreateTenant {
        slug: arguments.slug,
        name: arguments.name,
        plan: arguments.plan,
        region: arguments.region,
        isolation: arguments.isolation,
        parent: arguments.parent,
        labels,
        overrides: Overrides {
            limits: read_assignments("--override", &arguments.overrides, &[])?,
            quotas: read_assignments("--quota", &arguments.quotas, &[])?,
            features: read_assignments("--feature", &arguments.features, &[])?,
        },
        trial_ends_at: arguments.trial_ends,
        cluster: arguments.cluster,
        seed: arguments.seed,
        no_seed: arguments.no_seed,
        affinity: arguments.affinity.read()?,
    };
    if arguments.dry_run {
        return preview(context, client, &create).await;
    }
    let begun = client.create_tenant(&create, None).await?;
    finish(context, client, begun, &arguments.waiting).await
}

/// Shows what would come of it; fails where nothing would.
async fn preview(context: &Context, client: &Client, create: &CreateTenant) -> Result<(), CliError> {
    let preview = client.preview_tenant(create).await?;
    context.output.composed(&preview, |composition| {
        composition.fields(vec![
            ("slug", Cell::new(&preview.slug)),
            ("name", Cell::new(&preview.name)),
            ("parent", Cell::optional(preview.parent)),
        ]);
        placement::compose(composition, &preview.placement);
    })?;
    placement::verdict(&preview.placement)
}

async fn list(context: &Context, client: &Client, arguments: ListArguments) -> Result<(), CliError> {
    let filter = ListTenants {
        schema_version_below: arguments.schema_version_below.map(SchemaVersion),
        ..arguments.filter.into()
    };
    let fetch =
        async |limit, cursor| client.list_tenants(&ListTenants { limit: Some(limit), cursor, ..filter.clone() }).await;
    context.output.list(&paging::gather(&arguments.paging, fetch).await?)
}

async fn update(context: &Context, client: &Client, arguments: UpdateArguments) -> Result<(), CliError> {
    let mut labels: BTreeMap<_, _> =
        map_of(arguments.labels).into_iter().map(|(key, value)| (key, Some(value))).collect();
    labels.extend(arguments.removed_labels.into_iter().map(|key| (key, None)));
    let labels = if labels.is_empty() {
        Patch::Keep
    } else {
        Patch::Set(LabelsPatch::new(labels).map_err(|error| CliError::usage(error.to_string()))?)
    };
    let mut overrides: OverridesPatch =
        read_assignments("--override", &arguments.overrides, &arguments.removed_overrides)?;
    overrides.quotas = changes_of("--quota", &arguments.quotas, &arguments.removed_quotas)?;
    overrides.features = changes_of("--feature", &arguments.features, &arguments.removed_features)?;
    let overrides = if overrides == OverridesPatch::default() { Patch::Keep } else { Patch::Set(overrides) };
    let wishes = arguments.affinity.read()?;
    let (affinity, version) = match (arguments.remove_affinity, wishes.is_empty()) {
        (true, _) => (Patch::Clear, None),
        (false, true) => (Patch::Keep, None),
        (false, false) => {
            // They are sent as a whole, so what is there must still be it when they arrive.
            let current = client.show_tenant(&arguments.tenant).await?;
            (Patch::Set(current.value.affinity.overridden_by(wishes)), current.etag)
        }
    };
    let update = UpdateTenant {
        name: arguments.name,
        plan: arguments.plan,
        labels,
        overrides,
        parent: patch(arguments.parent, arguments.no_parent),
        trial_ends_at: patch(arguments.trial_ends, arguments.no_trial),
        affinity,
    };
    context.output.object(&client.update_tenant(&arguments.tenant, &update, version.as_deref()).await?.value)
}

/// Values by name to set, or to remove by null.
fn changes_of<T: serde::de::DeserializeOwned>(
    what: &str,
    set: &[Assignment],
    removed: &[String],
) -> Result<Patch<BTreeMap<String, Option<T>>>, CliError> {
    if set.is_empty() && removed.is_empty() {
        return Ok(Patch::Keep);
    }
    Ok(Patch::Set(read_assignments(what, set, removed)?))
}

fn patch<T>(value: Option<T>, is_removed: bool) -> Patch<T> {
    if is_removed { Patch::Clear } else { value.map_or(Patch::Keep, Patch::Set) }
}

/// Shows every check, and fails where one is not well.
async fn health(context: &Context, client: &Client, tenant: &TenantRef) -> Result<(), CliError> {
    let health = client.tenant_health(tenant).await?;
    context.output.composed(&health, |composition| {
        let limit = health.connections.limit.map_or_else(|| "no ceiling".to_owned(), |limit| limit.to_string());
        let connections = health.connections.now.map(|now| format!("{now} of {limit}"));
        composition.fields(vec![
            ("tenant", Cell::new(health.tenant)),
            ("status", Cell::state(health.status)),
            ("healthy", Cell::verdict(if health.healthy { "yes" } else { "no" }, health.healthy)),
            ("schema version", Cell::optional(health.schema_version)),
            ("size, bytes", Cell::optional(health.size_bytes)),
            ("connections", Cell::optional(connections)),
            (
                "last operation",
                Cell::optional(health.last_operation.as_ref().map(|it| format!("{} {}", it.kind, it.state))),
            ),
        ]);
        composition.list(&health.checks);
    })?;
    if health.healthy {
        Ok(())
    } else {
        Err(CliError::Unsuccessful { message: format!("tenant {tenant} is not well; the checks say why") })
    }
}

/// Waits as long as asked and shows the tenant as it is then.
pub(crate) async fn finish(
    context: &Context,
    client: &Client,
    begun: TenantWithOperation,
    options: &WaitOptions,
) -> Result<(), CliError> {
    let ended = match options.patience() {
        Some(patience) => {
            let operation = waiting::for_operation(client, begun.operation.id, patience).await?;
            let tenant = client.show_tenant(&TenantRef::Id(begun.tenant.id)).await?.value;
            TenantWithOperation { tenant, operation }
        }
        None => begun,
    };
    show(context, &ended)
}

/// The tenant, and the work on it.
fn show(context: &Context, work: &TenantWithOperation) -> Result<(), CliError> {
    context.output.composed(work, |composition| {
        composition.fields(fields_of(&work.tenant, &work.operation));
    })
}

fn fields_of(tenant: &Tenant, operation: &Operation) -> Vec<(&'static str, Cell)> {
    let mut fields = tenant.fields();
    fields.push(("operation", Cell::new(operation.id)));
    fields.push(("operation state", Cell::state(operation.state)));
    fields
}

impl Tabular for Tenant {
    const COLUMNS: &'static [&'static str] =
        &["slug", "status", "plan", "isolation", "region", "schema", "generation", "created", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.slug),
            Cell::state(self.status),
            Cell::new(&self.plan),
            Cell::new(self.isolation),
            Cell::new(&self.region),
            Cell::new(self.schema_version),
            Cell::new(self.generation),
            Cell::time(self.created_at),
            Cell::new(self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let overrides = serde_json::to_value(&self.overrides).unwrap_or_default();
        let overrides = overrides.as_object().cloned().unwrap_or_default();
        vec![
            ("slug", Cell::new(&self.slug)),
            ("id", Cell::new(self.id)),
            ("name", Cell::new(&self.name)),
            ("status", Cell::state(self.status)),
            ("status reason", Cell::optional(self.status_reason.as_ref())),
            ("suspended by", Cell::optional(self.suspension.as_ref().map(|it| &it.by))),
            ("suspended since", Cell::optional_time(self.suspension.as_ref().map(|it| it.since))),
            ("suspended until", Cell::optional_time(self.suspension.as_ref().and_then(|it| it.until))),
            ("can be restored until", Cell::optional_time(self.deletes_at)),
            ("plan", Cell::new(&self.plan)),
            ("isolation", Cell::new(self.isolation)),
            ("region", Cell::new(&self.region)),
            ("cluster", Cell::optional(self.cluster)),
            ("schema version", Cell::new(self.schema_version)),
            ("generation", Cell::new(self.generation)),
            ("parent", Cell::optional(self.parent)),
            ("hosts", Cell::joined(&self.hosts)),
            ("labels", Cell::joined(self.labels.as_map().iter().map(|(key, value)| format!("{key}={value}")))),
            ("overrides", Cell::joined(overrides.iter().map(|(name, value)| format!("{name}={value}")))),
            ("neighbours", affinity::cell(&self.affinity)),
            ("trial ends", Cell::optional_time(self.trial_ends_at)),
            ("created", Cell::time(self.created_at)),
            ("updated", Cell::time(self.updated_at)),
        ]
    }
}

impl Tabular for EffectivePlan {
    const COLUMNS: &'static [&'static str] = &["tenant", "plan"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(self.tenant), Cell::new(&self.plan)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let limit = |value: Option<LimitValue>| match value {
            Some(LimitValue::Number(number)) => number.to_string(),
            Some(LimitValue::Switch(is_on)) => is_on.to_string(),
            None => "none".to_owned(),
        };
        vec![
            ("tenant", Cell::new(self.tenant)),
            ("plan", Cell::new(&self.plan)),
            ("limits", lines(self.limits.iter().map(|(name, it)| (name, limit(it.value), it.origin)))),
            ("quotas", lines(self.quotas.iter().map(|(name, it)| (name, it.value.to_string(), it.origin)))),
            ("features", lines(self.features.iter().map(|(name, it)| (name, it.value.to_string(), it.origin)))),
        ]
    }
}

impl Tabular for HealthCheck {
    const COLUMNS: &'static [&'static str] = &["check", "ok", "why"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.name), Cell::verdict(if self.ok { "yes" } else { "no" }, self.ok), Cell::new(&self.why)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![("check", Cell::new(&self.name)), ("ok", Cell::new(self.ok)), ("why", Cell::new(&self.why))]
    }
}

/// Values with where they come from; what the plan says needs no mention.
fn lines<'a>(values: impl Iterator<Item = (&'a String, String, Origin)>) -> Cell {
    Cell::joined(values.map(|(name, value, origin)| match origin {
        Origin::Plan => format!("{name}={value}"),
        Origin::Override => format!("{name}={value} (override)"),
    }))
}
