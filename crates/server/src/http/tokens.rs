//! `/v1/tokens`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{CreateToken, CreatedToken, ListQuery, Page, SecretText, Token};
use tenantry_control::records::TokenRecord;
use tenantry_control::{Caller, Control, tokens};
use tenantry_domain::TokenId;

use super::convert;
use super::extract::{Json, Path, Query};
use super::idempotency::ShownOnce;
use super::problem::Refusal;

/// Create a token
///
/// The answer bears its secret, this once. Nobody grants more than they hold. Repeating the request under its
/// `Idempotency-Key` makes no second token, but does not show the secret again either.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "create_token",
    tag = "tokens",
    request_body = CreateToken,
    responses(
        (status = CREATED, description = "The token and its secret", body = CreatedToken,
            headers(("location" = String, description = "Where it is")),
            links(("delete" = (operation_id = "delete_token", parameters(("token" = "$response.body#/id")))))),
    ),
)]
pub(crate) async fn create(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<CreateToken>,
) -> Result<Response, Refusal> {
    let wish = tokens::CreateToken {
        name: body.name,
        scopes: body.scopes,
        tenant: body.tenant.map(convert::tenant_ref),
        expires_at: body.expires_at,
    };
    let (token, secret) = tokens::create(&control, &caller, wish).await?;
    let location = [(LOCATION, format!("/v1/tokens/{}", token.id))];
    let shown_once = Extension(ShownOnce(format!(
        "This key made token {} already, whose secret was shown once; delete that token and make another under a new key.",
        token.id
    )));
    let body = CreatedToken { token: shown(token), secret: SecretText::new(secret) };
    Ok((StatusCode::CREATED, shown_once, location, Json(body)).into_response())
}

/// List tokens
///
/// Oldest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "list_tokens",
    tag = "tokens",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<Token>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<Token>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    Ok(Json(convert::page(tokens::list(&control, &caller, &page).await?, shown)))
}

/// Delete a token
///
/// It is no longer accepted from now on. Streams that it opened end within half a minute.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{token}",
    operation_id = "delete_token",
    tag = "tokens",
    params(("token" = Uuid, Path, description = "Its id")),
    responses((status = NO_CONTENT, description = "It is no longer accepted")),
)]
pub(crate) async fn delete(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(token): Path<TokenId>,
) -> Result<StatusCode, Refusal> {
    tokens::revoke(&control, &caller, token).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(token: TokenRecord) -> Token {
    Token {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        tenant: token.tenant,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    }
}
