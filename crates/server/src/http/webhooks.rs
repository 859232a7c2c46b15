//! `/v1/webhooks`.

use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{
    CreateWebhook, ListDeliveries, ListQuery, Page, RotateWebhookSecret, SecretText, UpdateWebhook, WaitQuery, Webhook,
    WebhookDelivery, WebhookWithSecret,
};
use tenantry_control::records::{DeliveryRecord, WebhookChange, WebhookRecord};
use tenantry_control::{Caller, Control, webhooks};
use tenantry_domain::{DeliveryId, DeliveryState, WebhookId};

use super::convert;
use super::etag::{IfMatch, etag};
use super::extract::{Json, NoBody, Path, Paths, Query};
use super::idempotency::ShownOnce;
use super::problem::Refusal;

/// Create a webhook
///
/// From now on its URL is sent every event that it wants, as JSON by POST: `{version, id, type, at, sequence, tenant,
/// cluster, operation, detail}`, without what does not apply. An answer of 2xx takes the event; anything else is tried
/// again with growing pauses for a day. Events come at least once, always with the same header `Tenantry-Delivery`;
/// those of one tenant come in their order unless one is refused again and again (`sequence` tells the order then).
///
/// Each request is signed: `Tenantry-Signature: t=<unix seconds>,v1=<hex>`, where `v1` is the HMAC-SHA256 of
/// `<t>.<body>` under the secret, which only this answer shows. While a rotation overlaps there are two `v1`; either will
/// do. Compare in constant time, and refuse a `t` that is older than some minutes.
#[utoipa::path(
    post,
    path = "/v1/webhooks",
    operation_id = "create_webhook",
    tag = "webhooks",
    request_body = CreateWebhook,
    responses(
        (status = CREATED, description = "The webhook and its secret", body = WebhookWithSecret,
            headers(("location" = String, description = "Where it is")),
            links(
                ("test" = (operation_id = "test_webhook", parameters(("webhook" = "$response.body#/id")))),
                ("deliveries" = (operation_id = "list_deliveries", parameters(("webhook" = "$response.body#/id")))),
            )),
    ),
)]
pub(crate) async fn create(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<CreateWebhook>,
) -> Result<Response, Refusal> {
    let wish = webhooks::CreateWebhook { url: body.url, description: body.description, events: body.events };
    let (webhook, secret) = webhooks::create(&control, &caller, wish).await?;
    let location = [(LOCATION, format!("/v1/webhooks/{}", webhook.id))];
    let once = shown_once(&webhook, "made");
    let body = WebhookWithSecret { webhook: shown(webhook), secret: SecretText::new(secret) };
    Ok((StatusCode::CREATED, once, location, Json(body)).into_response())
}

/// List webhooks
///
/// Oldest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/webhooks",
    operation_id = "list_webhooks",
    tag = "webhooks",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<Webhook>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Webhook>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(webhooks::list(&control, &caller, &page).await?, shown)))
}

/// Show a webhook
#[utoipa::path(
    get,
    path = "/v1/webhooks/{webhook}",
    operation_id = "show_webhook",
    tag = "webhooks",
    params(("webhook" = Uuid, Path, description = "Its id")),
    responses(
        (status = OK, description = "The webhook", body = Webhook,
            headers(("etag" = String, description = "Its version, for `If-Match`")),
            links(("deliveries" = (operation_id = "list_deliveries", parameters(("webhook" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
) -> Result<Response, Refusal> {
    let webhook = webhooks::show(&control, &caller, id).await?;
    Ok((etag(webhook.updated_at), Json(shown(webhook))).into_response())
}

/// Change a webhook
///
/// Absent fields stay. While it is disabled no event is queued for it, and what is pending waits; enabling it sends that
/// at once, unless it was given up after a day.
#[utoipa::path(
    patch,
    path = "/v1/webhooks/{webhook}",
    operation_id = "update_webhook",
    tag = "webhooks",
    params(
        ("webhook" = Uuid, Path, description = "Its id"),
        ("if-match" = Option<String>, Header, description = "Change only this version (`ETag`)"),
    ),
    request_body = UpdateWebhook,
    responses(
        (status = OK, description = "The webhook after the change", body = Webhook,
            headers(("etag" = String, description = "Its new version"))),
    ),
)]
pub(crate) async fn update(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
    IfMatch(if_match): IfMatch,
    Json(body): Json<UpdateWebhook>,
) -> Result<Response, Refusal> {
    let UpdateWebhook { url, description, events, enabled } = body;
    let change = WebhookChange { url, description, events, enabled };
    let webhook = webhooks::update(&control, &caller, id, change, if_match).await?;
    Ok((etag(webhook.updated_at), Json(shown(webhook))).into_response())
}

/// Delete a webhook
///
/// Nothing more is sent to it, and its deliveries are forgotten.
#[utoipa::path(
    delete,
    path = "/v1/webhooks/{webhook}",
    operation_id = "delete_webhook",
    tag = "webhooks",
    params(("webhook" = Uuid, Path, description = "Its id")),
    responses((status = NO_CONTENT, description = "It is gone")),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
) -> Result<StatusCode, Refusal> {
    webhooks::delete(&control, &caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rotate a webhook's secret
///
/// The answer bears the new secret, this once. For a while events are signed with both, so that a receiver can change
/// over without refusing one. Rotating twice within that time ends the oldest at once.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/rotate-secret",
    operation_id = "rotate_webhook_secret",
    tag = "webhooks",
    params(("webhook" = Uuid, Path, description = "Its id")),
    request_body = RotateWebhookSecret,
    responses((status = OK, description = "The webhook and its new secret", body = WebhookWithSecret)),
)]
pub(crate) async fn rotate_secret(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
    Json(body): Json<RotateWebhookSecret>,
) -> Result<Response, Refusal> {
    let overlap = body.overlap_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let (webhook, secret) = webhooks::rotate_secret(&control, &caller, id, overlap).await?;
    let once = shown_once(&webhook, "rotated the secret of");
    let body = WebhookWithSecret { webhook: shown(webhook), secret: SecretText::new(secret) };
    Ok((once, Json(body)).into_response())
}

/// Test a webhook
///
/// Sends it the event `webhook.test`. With `wait`, the answer is held until it was tried once.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/test",
    operation_id = "test_webhook",
    tag = "webhooks",
    params(("webhook" = Uuid, Path, description = "Its id"), WaitQuery),
    responses(
        (status = OK, description = "It was taken, or given up", body = WebhookDelivery),
        (status = ACCEPTED, description = "It is still to be sent, for the first time or again", body = WebhookDelivery),
    ),
)]
pub(crate) async fn test(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
    Query(query): Query<WaitQuery>,
    _: NoBody,
) -> Result<Response, Refusal> {
    let delivery = webhooks::test(&control, &caller, id).await?;
    answer(&control, &caller, delivery, query).await
}

/// List a webhook's deliveries
///
/// Newest first. What was delivered or given up is kept for a week.
#[utoipa::path(
    get,
    path = "/v1/webhooks/{webhook}/deliveries",
    operation_id = "list_deliveries",
    tag = "webhooks",
    params(("webhook" = Uuid, Path, description = "Its id"), ListDeliveries),
    responses((status = OK, description = "One page", body = Page<WebhookDelivery>)),
)]
pub(crate) async fn deliveries(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<WebhookId>,
    Query(query): Query<ListDeliveries>,
) -> Result<Json<Page<WebhookDelivery>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let deliveries = webhooks::deliveries(&control, &caller, id, &query.state.0, &page).await?;
    Ok(Json(convert::page(deliveries, delivery)))
}

/// Redeliver an event
///
/// Sends it again at once under the same delivery id, whether it was taken, given up, or is still being tried.
#[utoipa::path(
    post,
    path = "/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver",
    operation_id = "redeliver",
    tag = "webhooks",
    params(
        ("webhook" = Uuid, Path, description = "The webhook's id"),
        ("delivery" = Uuid, Path, description = "The delivery's id"),
        WaitQuery,
    ),
    responses(
        (status = OK, description = "It was taken, or given up", body = WebhookDelivery),
        (status = ACCEPTED, description = "It is still to be sent, for the first time or again", body = WebhookDelivery),
    ),
)]
pub(crate) async fn redeliver(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Paths(id, delivery): Paths<WebhookId, DeliveryId>,
    Query(query): Query<WaitQuery>,
    _: NoBody,
) -> Result<Response, Refusal> {
    let delivery = webhooks::redeliver(&control, &caller, id, delivery).await?;
    answer(&control, &caller, delivery, query).await
}

async fn answer(
    control: &Control,
    caller: &Caller,
    queued: DeliveryRecord,
    query: WaitQuery,
) -> Result<Response, Refusal> {
    let record = match query.wait {
        Some(wait) => webhooks::wait(control, caller, queued.webhook, queued.id, wait.as_duration()).await?,
        None => queued,
    };
    let status = match record.state {
        DeliveryState::Pending => StatusCode::ACCEPTED,
        DeliveryState::Delivered | DeliveryState::Failed => StatusCode::OK,
    };
    Ok((status, Json(delivery(record))).into_response())
}

fn shown_once(webhook: &WebhookRecord, did: &str) -> Extension<ShownOnce> {
    Extension(ShownOnce(format!(
        "This key {did} webhook {} already, whose secret was shown once; rotate the secret under a new key to get another.",
        webhook.id
    )))
}

fn shown(webhook: WebhookRecord) -> Webhook {
    Webhook {
        id: webhook.id,
        url: webhook.url,
        description: webhook.description,
        events: webhook.events,
        enabled: webhook.enabled,
        disabled_reason: webhook.disabled_reason,
        failing_since: webhook.failing_since,
        previous_secret_until: webhook.previous_secret_until,
        created_at: webhook.created_at,
        updated_at: webhook.updated_at,
    }
}

fn delivery(record: DeliveryRecord) -> WebhookDelivery {
    WebhookDelivery {
        id: record.id,
        webhook: record.webhook,
        event: record.event,
        kind: record.kind,
        tenant: record.tenant,
        state: record.state,
        attempts: record.attempts,
        queued_at: record.queued_at,
        next_attempt_at: (record.state == DeliveryState::Pending).then_some(record.next_attempt_at),
        attempted_at: record.attempted_at,
        status: record.status,
        error: record.error,
        response: record.response,
        duration_ms: record.duration_ms,
        finished_at: record.finished_at,
    }
}
