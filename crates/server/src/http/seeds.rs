//! `/v1/seeds`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{ListQuery, Page, PushSeed, Seed};
use tenantry_control::records::SeedRecord;
use tenantry_control::{Caller, Control, seeds};
use tenantry_domain::SeedRef;

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// Register a seed
///
/// SQL that fills a tenant's home once: after its migrations, before anybody is let in, in one transaction as the home's
/// owner. The rules of migration files hold; where one is broken, `errors` names each line. A tenant gets the seed that
/// its creation names, else its plan's. From now on the name stands for this text.
#[utoipa::path(
    post,
    path = "/v1/seeds",
    operation_id = "push_seed",
    tag = "migrations",
    request_body = PushSeed,
    responses(
        (status = CREATED, description = "The seed is new", body = Seed,
            headers(("location" = String, description = "Where it is")),
            links(("seed" = (operation_id = "show_seed", parameters(("seed" = "$response.body#/id")))))),
        (status = OK, description = "The seed was known", body = Seed),
    ),
)]
pub(crate) async fn push(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<PushSeed>,
) -> Result<Response, Refusal> {
    let (seed, is_new) = seeds::push(&control, &caller, &body.name, &body.sql).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(LOCATION, format!("/v1/seeds/{}", seed.id))];
    Ok((status, location, Json(listed(seed))).into_response())
}

/// List seeds
///
/// Newest first, without their texts. Retired ones are listed too.
#[utoipa::path(
    get,
    path = "/v1/seeds",
    operation_id = "list_seeds",
    tag = "migrations",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<Seed>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Seed>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(seeds::list(&control, &caller, &page).await?, listed)))
}

/// Show a seed
#[utoipa::path(
    get,
    path = "/v1/seeds/{seed}",
    operation_id = "show_seed",
    tag = "migrations",
    params(("seed" = String, Path, description = "Digest, or name for the newest of that name")),
    responses((status = OK, description = "The seed with its text", body = Seed)),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(seed): Path<SeedRef>,
) -> Result<Json<Seed>, Refusal> {
    let seed = seeds::show(&control, &caller, &seed).await?;
    let sql = Some(seed.sql.clone());
    Ok(Json(Seed { sql, ..listed(seed) }))
}

/// Retire a seed
///
/// No new tenant gets it. Homes that are filled stay as they are, and provisions that have begun with it go on.
#[utoipa::path(
    delete,
    path = "/v1/seeds/{seed}",
    operation_id = "retire_seed",
    tag = "migrations",
    params(("seed" = String, Path, description = "Digest, or name for the newest of that name")),
    responses((status = NO_CONTENT, description = "No new tenant gets it")),
)]
pub(crate) async fn retire(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(seed): Path<SeedRef>,
) -> Result<StatusCode, Refusal> {
    seeds::retire(&control, &caller, &seed).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn listed(seed: SeedRecord) -> Seed {
    Seed {
        id: seed.id,
        name: seed.name,
        bytes: u64::try_from(seed.sql.len()).unwrap_or(u64::MAX),
        sql: None,
        created_at: seed.created_at,
        retired_at: seed.retired_at,
    }
}
