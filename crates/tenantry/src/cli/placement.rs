//! `tenantry placement`.

use clap::{Args, Subcommand};
use tenantry_api::{ClusterRef, ConsideredCluster, ExplainPlacement, Placement, ProviderOffer, TenantRef};
use tenantry_domain::{Isolation, Labels, PlanName, Region};

use super::affinity::AffinityArguments;
use super::arguments::{Assignment, map_of, read_assignments, words};
use super::error::CliError;
use super::output::Composition;
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Where homes go.
#[derive(Debug, Subcommand)]
pub(crate) enum PlacementCommand {
    /// Say where a home would go now, and of every other cluster why not
    #[command(after_help = examples!(
        "tenantry placement explain --plan team --region eu",
        "tenantry placement explain --plan enterprise --isolation cluster --output json",
        "tenantry placement explain --region eu --label group=skyteam --strictly-apart group",
        "",
        "Exits with 1 where there is no place. `tenantry tenant create --dry-run` asks for one tenant in particular.",
    ))]
    Explain(Box<ExplainArguments>),
}

/// What is absent is filled in as for a new tenant.
#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The tenant's plan; `developer` unless given
    #[arg(long)]
    plan: Option<PlanName>,
    /// Where its data must be, a region or a region group; the control plane's default unless given
    #[arg(long)]
    region: Option<Region>,
    /// What it has to itself; the plan's unless given
    #[arg(long, value_parser = words::<Isolation>(Isolation::ALL.map(Isolation::as_str)))]
    isolation: Option<Isolation>,
    /// The only cluster that will do, by name or id
    #[arg(long)]
    cluster: Option<ClusterRef>,
    /// The tenant above it, by slug or id
    #[arg(long)]
    parent: Option<TenantRef>,
    /// A label that it bears; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Assignment>,
    /// A limit of its own in place of the plan's, such as `connections=50`; may be repeated
    #[arg(long = "override", value_name = "LIMIT=VALUE")]
    overrides: Vec<Assignment>,
    #[command(flatten)]
    affinity: AffinityArguments,
}

impl PlacementCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Explain(arguments) = self;
        let question = ExplainPlacement {
            labels: Labels::new(map_of(arguments.labels)).map_err(|error| CliError::usage(error.to_string()))?,
            overrides: read_assignments("--override", &arguments.overrides, &[])?,
            affinity: arguments.affinity.read()?,
            plan: arguments.plan,
            region: arguments.region,
            isolation: arguments.isolation,
            cluster: arguments.cluster,
            parent: arguments.parent,
        };
        let placement = context.client()?.explain_placement(&question).await?;
        context.output.composed(&placement, |composition| compose(composition, &placement))?;
        verdict(&placement)
    }
}

/// The whole decision for people.
pub(crate) fn compose(composition: &mut Composition, placement: &Placement) {
    let limits = serde_json::to_value(placement.limits).unwrap_or_default();
    let limits = limits.as_object().cloned().unwrap_or_default();
    let started = placement.offers.iter().find(|offer| offer.is_chosen);
    let goes_to = match (&placement.cluster, started) {
        (Some(cluster), _) => Cell::new(&cluster.name),
        (None, Some(offer)) => Cell::new(format!("a cluster that provider {} starts", offer.provider)),
        (None, None) => Cell::verdict("nowhere", false),
    };
    composition.fields(vec![
        ("goes to", goes_to),
        ("plan", Cell::new(&placement.plan)),
        ("isolation", Cell::new(placement.isolation)),
        ("region", Cell::new(&placement.region)),
        ("allowed regions", Cell::joined(&placement.allowed_regions)),
        ("limits", Cell::joined(limits.iter().map(|(name, value)| format!("{name}={value}")))),
    ]);
    composition.list(&placement.considered);
    if !placement.offers.is_empty() {
        composition.list(&placement.offers);
    }
}

/// Fails where there is no place, so that scripts can ask.
pub(crate) fn verdict(placement: &Placement) -> Result<(), CliError> {
    match &placement.reason {
        None => Ok(()),
        Some(reason) => Err(CliError::WouldFail { reason: format!("no cluster can take this tenant: {reason}") }),
    }
}

impl Tabular for ConsideredCluster {
    const COLUMNS: &'static [&'static str] = &["cluster", "region", "verdict", "full", "alike", "reasons"];

    fn row(&self) -> Vec<Cell> {
        let verdict = match (self.is_chosen, self.refusals.is_empty()) {
            (true, _) => Cell::verdict("chosen", true),
            (false, true) => Cell::new("would do"),
            (false, false) => Cell::verdict("refused", false),
        };
        vec![
            Cell::new(&self.cluster.name),
            Cell::new(&self.cluster.region),
            verdict,
            Cell::new(format!("{}.{} %", self.fullness_permille / 10, self.fullness_permille % 10)),
            Cell::new(self.alike),
            Cell::joined(self.refusals.iter().map(|refusal| &refusal.message)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for ProviderOffer {
    const COLUMNS: &'static [&'static str] = &["provider", "verdict", "reason"];

    fn row(&self) -> Vec<Cell> {
        let verdict = match (self.is_chosen, self.refusal.is_none()) {
            (true, _) => Cell::verdict("chosen", true),
            (false, true) => Cell::new("would do"),
            (false, false) => Cell::verdict("refused", false),
        };
        vec![Cell::new(self.provider), verdict, Cell::optional(self.refusal.as_ref())]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}
