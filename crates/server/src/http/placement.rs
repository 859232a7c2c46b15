//! `/v1/placement`.

use axum::extract::{Extension, State};
use tenantry_api::{
    ConsideredCluster, ExplainPlacement, ExplainPlacementQuery, Placement, PlacementCluster, PlacementRefusal,
    ProviderOffer,
};
use tenantry_control::candidates::{Choice, HomePlan};
use tenantry_control::placement::{Considered, Decision};
use tenantry_control::{Caller, Control, placements};
use tenantry_domain::{ClusterId, Limits, PlanName, Region};

use super::convert;
use super::extract::{Json, Query};
use super::problem::Refusal;

/// Most clusters in one answer.
const CONSIDERED_MAX: usize = 200;

/// Explain a placement
///
/// Where a home would go now, and of every other cluster why not. Changes nothing and promises nothing.
#[utoipa::path(
    post,
    path = "/v1/placement/explain",
    operation_id = "explain_placement",
    tag = "clusters",
    request_body = ExplainPlacement,
    responses((status = OK, description = "The decision with its reasons", body = Placement)),
)]
pub(crate) async fn explain(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<ExplainPlacement>,
) -> Result<Json<Placement>, Refusal> {
    answer(&control, &caller, body).await
}

/// Explain a placement, asked in the query
///
/// As the POST, for a browser.
#[utoipa::path(
    get,
    path = "/v1/placement/explain",
    operation_id = "explain_placement_query",
    tag = "clusters",
    params(ExplainPlacementQuery),
    responses((status = OK, description = "The decision with its reasons", body = Placement)),
)]
pub(crate) async fn explain_query(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ExplainPlacementQuery>,
) -> Result<Json<Placement>, Refusal> {
    let question = query.into_question().map_err(|error| Refusal::invalid("?labels", error.to_string()))?;
    answer(&control, &caller, question).await
}

async fn answer(control: &Control, caller: &Caller, body: ExplainPlacement) -> Result<Json<Placement>, Refusal> {
    let question = placements::ExplainPlacement {
        plan: body.plan,
        region: body.region,
        isolation: body.isolation,
        cluster: body.cluster.map(convert::cluster_ref),
        parent: body.parent.map(convert::tenant_ref),
        labels: body.labels,
        overrides: body.overrides,
        affinity: body.affinity,
    };
    let explained = placements::explain(control, caller, &question).await?;
    Ok(Json(placement(explained.plan.name, explained.region, explained.limits, explained.home)))
}

/// A decision as the contract shows it.
pub(crate) fn placement(plan: PlanName, region: Region, limits: Limits, home: HomePlan) -> Placement {
    let reason = home.choice.is_none().then(|| home.explain());
    let started = match home.choice {
        Some(Choice::Started(provider)) => Some(provider),
        Some(Choice::Cluster(_)) | None => None,
    };
    let chosen = match home.choice {
        Some(Choice::Cluster(cluster)) => Some(cluster),
        Some(Choice::Started(_)) | None => None,
    };
    let total = home.decision.considered.len();
    Placement {
        plan,
        region,
        allowed_regions: home.wish.regions,
        isolation: home.wish.isolation,
        limits,
        is_possible: home.choice.is_some(),
        cluster: chosen.and_then(|id| named(&home.decision, id)),
        reason,
        considered: home
            .decision
            .considered
            .into_iter()
            .take(CONSIDERED_MAX)
            .map(|it| considered(it, chosen))
            .collect(),
        considered_total: u32::try_from(total).unwrap_or(u32::MAX),
        offers: home
            .offers
            .into_iter()
            .map(|offer| ProviderOffer {
                provider: offer.provider,
                is_chosen: started == Some(offer.provider),
                refusal: offer.refusal,
            })
            .collect(),
    }
}

/// A cluster of the decision by its names.
pub(crate) fn named(decision: &Decision, id: ClusterId) -> Option<PlacementCluster> {
    decision.considered.iter().find(|it| it.cluster == id).map(|it| PlacementCluster {
        id,
        name: it.name.clone(),
        region: it.region.clone(),
    })
}

fn considered(it: Considered, chosen: Option<ClusterId>) -> ConsideredCluster {
    let refusals = it
        .refusals
        .iter()
        .map(|refusal| PlacementRefusal { code: refusal.code().to_owned(), message: refusal.to_string() })
        .collect();
    ConsideredCluster {
        is_chosen: chosen == Some(it.cluster),
        cluster: PlacementCluster { id: it.cluster, name: it.name, region: it.region },
        refusals,
        fullness_permille: it.fullness_permille,
        alike: it.alike,
        is_near_parent: it.is_near,
    }
}
