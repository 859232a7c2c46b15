//! The product's HTTP service: translation between requests and the modules beside it.

use crate::delays::{self, Delay, NewDelay, Recorded};
use crate::flights::{self, Flight, FlightDetail, ListFlights, SearchFlights};
use crate::page::Page;
use crate::problem::Problem;
use crate::statistics::{self, Period, Statistics};
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, FromRequestParts};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router as Routes};
use tenantry_router::{Router, Tenant, TenantLimitLayer, TenantSources};

/// What the largest request body may have: a delay with its note.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The product's routes. Each request's tenant is looked for in the given places and found through the router.
///
/// `GET /flights` (`date`, `origin`, `destination`, `limit`, `after`), `GET /flights/search` (`q`, `limit`, `after`),
/// `GET /flights/{id}`, `POST /flights/{id}/delays`, `GET /statistics` (`since`, `until`), and `GET /health`, which needs no
/// tenant. Each tenant is held to the limits of its plan. Whatever is refused is answered with a problem document.
pub fn service(router: Router, sources: TenantSources) -> Routes {
    let limits = TenantLimitLayer::new(router.clone(), sources.clone());
    Routes::new()
        .route("/health", get(health))
        .route("/flights", get(list_flights))
        .route("/flights/search", get(search_flights))
        .route("/flights/{id}", get(show_flight))
        .route("/flights/{id}/delays", post(create_delay))
        .route("/statistics", get(show_statistics))
        .route_layer(limits)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Product { router, sources })
}

/// What the extractor of the tenant needs.
#[derive(Clone, FromRef)]
struct Product {
    router: Router,
    sources: TenantSources,
}

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Problem))]
struct Query<T>(T);

#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Problem))]
struct Path<T>(T);

#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Problem))]
struct Body<T>(T);

async fn health() -> StatusCode {
    StatusCode::NO_CONTENT
}

async fn list_flights(tenant: Tenant, Query(query): Query<ListFlights>) -> Result<Json<Page<Flight>>, Problem> {
    let client = tenant.client().await?;
    Ok(Json(flights::list(&client, &query).await?))
}

async fn search_flights(tenant: Tenant, Query(query): Query<SearchFlights>) -> Result<Json<Page<Flight>>, Problem> {
    let client = tenant.client().await?;
    Ok(Json(flights::search(&client, &query).await?))
}

async fn show_flight(tenant: Tenant, Path(id): Path<i64>) -> Result<Json<FlightDetail>, Problem> {
    let client = tenant.client().await?;
    flights::show(&client, id).await?.map(Json).ok_or_else(|| unknown_flight(id))
}

async fn create_delay(
    tenant: Tenant,
    Path(id): Path<i64>,
    Body(delay): Body<NewDelay>,
) -> Result<(StatusCode, Json<Delay>), Problem> {
    let client = tenant.client().await?;
    match delays::record(&client, id, delay).await? {
        Recorded::Delay(delay) => Ok((StatusCode::CREATED, Json(delay))),
        Recorded::UnknownFlight => Err(unknown_flight(id)),
        Recorded::CancelledFlight => {
            Err(Problem::invalid_state(format!("flight {id} is cancelled and cannot be late: report on another")))
        }
    }
}

async fn show_statistics(tenant: Tenant, Query(period): Query<Period>) -> Result<Json<Statistics>, Problem> {
    let client = tenant.client().await?;
    Ok(Json(statistics::compute(&client, period).await?))
}

async fn unknown_path() -> Problem {
    Problem::not_found("there is nothing at this path: see /flights, /flights/search and /statistics")
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request",
        "this path takes another method: see the allow header",
    )
}

fn unknown_flight(id: i64) -> Problem {
    Problem::not_found(format!("the airline has no flight {id}: take an id of the list"))
}
