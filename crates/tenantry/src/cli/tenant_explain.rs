//! `tenantry tenant explain`.

use tenantry_api::explain::{ExplainedOperation, ExplainedResource, RouterStanding};
use tenantry_api::{Client, Explanation, TenantRef};

use super::Context;
use super::error::CliError;
use super::table::{Cell, Tabular};

pub(crate) async fn explain(context: &Context, client: &Client, tenant: &TenantRef) -> Result<(), CliError> {
    let told = client.explain_tenant(tenant).await?;
    context.output.composed(&told, |composition| {
        composition.fields(summary(&told));
        if !told.differences.is_empty() {
            let differences = told.differences.iter().map(|it| ("differs", Cell::verdict(it, false)));
            composition.fields(differences.collect());
        }
        if !told.routers.is_empty() {
            composition.list(&told.routers);
        }
        if !told.resources.is_empty() {
            composition.list(&told.resources);
        }
        composition.list(&told.operations);
        if let Some(newest) = told.operations.first() {
            composition.list(&newest.timeline);
        }
    })
}

/// Intended and observed, side by side.
fn summary(told: &Explanation) -> Vec<(&'static str, Cell)> {
    let (tenant, observed) = (&told.tenant, &told.observed);
    let is_as_intended = told.differences.is_empty() && observed.unseen.is_empty();
    let verdict = match (told.differences.len(), observed.unseen.len()) {
        (0, 0) => "as intended".to_owned(),
        (0, _) => "not all could be seen".to_owned(),
        (count, _) => format!("{count} difference(s)"),
    };
    let mut fields = vec![
        ("tenant", Cell::new(format!("{} ({})", tenant.slug, tenant.id))),
        ("verdict", Cell::verdict(&verdict, is_as_intended)),
        ("status", Cell::state(tenant.status)),
        ("status reason", Cell::optional(tenant.status_reason.as_ref())),
        ("plan", Cell::new(&tenant.plan)),
        ("generation", Cell::new(pair(tenant.generation, observed.stamped_generation))),
        ("schema version", Cell::new(pair(tenant.schema_version, observed.schema_version))),
        ("sessions", Cell::optional(observed.sessions)),
        ("bytes", Cell::optional(observed.size_bytes)),
        ("route", Cell::optional(told.route.as_ref().map(|it| format!("{} at version {}", it.state, it.version)))),
    ];
    if let Some(placement) = &told.placement {
        let place = format!("{} / {} / {}", placement.cluster_name, placement.database, placement.schema);
        fields.push(("place", Cell::new(place)));
        fields.push(("why there", Cell::new(&placement.reason)));
    }
    if let Some(adoption) = &told.adoption {
        fields.push(("adoption", Cell::new(&adoption.state)));
    }
    fields.extend(observed.unseen.iter().map(|sentence| ("unseen", Cell::new(sentence))));
    fields
}

/// The intended value, and the observed one where it was seen.
fn pair<T: Copy + ToString + PartialEq>(intended: T, observed: Option<T>) -> String {
    match observed {
        Some(observed) if observed == intended => format!("{} (seen on the cluster)", intended.to_string()),
        Some(observed) => format!("{} (on the cluster: {})", intended.to_string(), observed.to_string()),
        None => intended.to_string(),
    }
}

impl Tabular for RouterStanding {
    const COLUMNS: &'static [&'static str] = &["router", "applied", "has route", "reported"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.router),
            Cell::new(self.applied_version),
            Cell::verdict(if self.has_route { "yes" } else { "no" }, self.has_route),
            Cell::time(self.reported_at),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for ExplainedResource {
    const COLUMNS: &'static [&'static str] = &["resource", "name", "in", "state"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.kind), Cell::new(&self.name), Cell::optional(self.parent.as_ref()), Cell::new(&self.state)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for ExplainedOperation {
    const COLUMNS: &'static [&'static str] = &["operation", "kind", "state", "step", "created"];

    fn row(&self) -> Vec<Cell> {
        let operation = &self.operation;
        vec![
            Cell::new(operation.id),
            Cell::new(operation.kind),
            Cell::state(operation.state),
            Cell::optional(operation.step.as_ref()),
            Cell::time(operation.created_at),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}
