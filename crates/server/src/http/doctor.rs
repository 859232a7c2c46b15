//! `/v1/doctor`.

use axum::extract::{Extension, State};
use tenantry_api::{ClusterRef, DoctorFinding, DoctorQuery, DoctorReport};
use tenantry_control::{Caller, Control, doctor};

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// Examine the catalog
///
/// Whether it agrees with itself, and nothing is stuck, parked or failing, with the first round; then whether the chains of
/// the audit log are whole, which takes as many rounds as the log is long.
#[utoipa::path(
    get,
    path = "/v1/doctor",
    operation_id = "examine_catalog",
    tag = "service",
    params(DoctorQuery),
    responses((status = OK, description = "What is wrong, as far as this round went", body = DoctorReport)),
)]
pub(crate) async fn catalog(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<DoctorQuery>,
) -> Result<Json<DoctorReport>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(shown(doctor::catalog(&control, &caller, &page).await?)))
}

/// Examine a cluster
///
/// Whether what is on it is what the catalog says: objects with the first round, then the homes' stamps and logins.
#[utoipa::path(
    get,
    path = "/v1/clusters/{cluster}/doctor",
    operation_id = "examine_cluster",
    tag = "clusters",
    params(("cluster" = String, Path, description = "Id or name"), DoctorQuery),
    responses((status = OK, description = "What is wrong, as far as this round went", body = DoctorReport)),
)]
pub(crate) async fn cluster(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<ClusterRef>,
    Query(query): Query<DoctorQuery>,
) -> Result<Json<DoctorReport>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(shown(doctor::cluster(&control, &caller, &convert::cluster_ref(cluster), &page).await?)))
}

fn shown(report: doctor::Report) -> DoctorReport {
    let finding = |finding: doctor::Finding| DoctorFinding {
        check: finding.check.to_owned(),
        subject: finding.subject,
        message: finding.message,
    };
    DoctorReport {
        checked: report.checked,
        findings: report.findings.into_iter().map(finding).collect(),
        next: report.next,
    }
}
