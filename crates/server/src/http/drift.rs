//! `/v1/drift`.

use std::time::Duration;

use axum::extract::{Extension, State};
use tenantry_api::tenant::LabelSelector;
use tenantry_api::{
    CheckDrift, CheckedDrift, Drift, DriftDifference, DriftObjects, ListDrift, Page, TenantRef, WaitQuery, WaitSeconds,
};
use tenantry_control::drift::{self, DriftSelection};
use tenantry_control::records::{DriftListFilter, DriftRecord};
use tenantry_control::{Caller, Control, ControlError};
use tenantry_domain::DriftFilter;

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// Tenants that one call looks at, unless it says otherwise.
const LIMIT: u32 = 50;
/// How long one call begins with more tenants, unless it says otherwise.
const WAIT: Duration = Duration::from_secs(20);

/// List drift
///
/// What the last look at each tenant's schema found, the oldest tenants first. No home is connected to.
#[utoipa::path(
    get,
    path = "/v1/drift",
    operation_id = "list_drift",
    tag = "migrations",
    params(ListDrift),
    responses((status = OK, description = "One page", body = Page<Drift>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListDrift>,
) -> Result<Json<Page<Drift>>, Refusal> {
    let filter = DriftListFilter {
        tenant: convert::tenant_filter(&control, &caller, "?tenant", query.tenant).await?,
        in_drift: query.state == Some(DriftFilter::Drifted),
    };
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(drift::list(&control, &caller, &filter, &page).await?, without_differences)))
}

/// Show a tenant's drift
///
/// With the objects that differ from what its migrations make.
#[utoipa::path(
    get,
    path = "/v1/drift/{tenant}",
    operation_id = "show_drift",
    tag = "migrations",
    params(("tenant" = String, Path, description = "Id or slug")),
    responses(
        (status = OK, description = "What the last look found", body = Drift,
            links(("tenant" = (operation_id = "show_tenant", parameters(("tenant" = "$response.body#/tenant")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(tenant): Path<TenantRef>,
) -> Result<Json<Drift>, Refusal> {
    let record = drift::show(&control, &caller, &convert::tenant_ref(tenant)).await?;
    let differences = record.found.as_ref().map(|found| &found.differences);
    let differences = differences.cloned().map(serde_json::from_value::<Vec<DriftDifference>>).transpose();
    let differences = differences.map_err(|error| ControlError::Internal(Box::new(error)))?;
    Ok(Json(Drift { differences: Some(differences.unwrap_or_default()), ..without_differences(record) }))
}

/// Look for drift now
///
/// Compares the schema of each chosen tenant with what its migrations make, in one query for each. Begins with no more
/// tenants once `wait` is over (20 seconds unless given), and answers with those that were looked at; `next` goes on with
/// the others. A tenant that could not be looked at says why in `error`.
#[utoipa::path(
    post,
    path = "/v1/drift",
    operation_id = "check_drift",
    tag = "migrations",
    params(WaitQuery),
    request_body = CheckDrift,
    responses((status = OK, description = "They were looked at", body = CheckedDrift)),
)]
pub(crate) async fn check(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<WaitQuery>,
    Json(body): Json<CheckDrift>,
) -> Result<Json<CheckedDrift>, Refusal> {
    let wish = drift::CheckDrift {
        limit: body.limit.map_or(LIMIT, |limit| limit.get().into()),
        cursor: body.cursor.clone(),
        selection: selection(body)?,
    };
    let patience = query.wait.map_or(WAIT, WaitSeconds::as_duration);
    let checked = Box::pin(drift::check(&control, &caller, &wish, patience)).await?;
    let items = checked.items.into_iter().map(without_differences).collect();
    Ok(Json(CheckedDrift { items, next: checked.next, left: checked.left }))
}

/// The one choice that the body makes.
fn selection(body: CheckDrift) -> Result<DriftSelection, Refusal> {
    let tenants =
        body.tenants.map(|tenants| Ok(DriftSelection::Tenants(tenants.into_iter().map(convert::tenant_ref).collect())));
    let label = body.label.map(|label| {
        let label: LabelSelector = label
            .parse()
            .map_err(|error: tenantry_domain::InvalidName| Refusal::invalid("/label", error.to_string()))?;
        Ok(DriftSelection::Label(label.key, label.value))
    });
    let all = body.all.then_some(Ok(DriftSelection::All));
    let sample = body.sample.map(|sample| Ok(DriftSelection::Sample(sample.get())));
    let mut choices = [tenants, label, all, sample].into_iter().flatten();
    match (choices.next(), choices.next()) {
        (Some(only), None) => only,
        _ => Err(Refusal::invalid("", "give one of `tenants`, `label`, `all` and `sample`".to_owned())),
    }
}

fn without_differences(record: DriftRecord) -> Drift {
    let found = record.found;
    let of = |number: fn(&tenantry_control::records::DriftFinding) -> u32| found.as_ref().map_or(0, number);
    Drift {
        tenant: record.tenant,
        slug: record.slug,
        home: record.home,
        version: found.as_ref().map(|found| found.version),
        state: found.as_ref().map(|found| found.state),
        in_drift: found.as_ref().is_some_and(|found| found.state.is_in_drift()),
        objects: DriftObjects {
            missing: of(|found| found.missing),
            unexpected: of(|found| found.unexpected),
            changed: of(|found| found.changed),
        },
        reason: found.as_ref().and_then(|found| found.reason.clone()),
        fingerprint: found.map(|found| found.fingerprint),
        since: record.since,
        checked_at: record.checked_at,
        attempted_at: record.attempted_at,
        error: record.error,
        differences: None,
    }
}
