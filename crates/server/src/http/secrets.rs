//! `/v1/secrets`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use tenantry_api::SecretsStatus;
use tenantry_api::secrets::{KeyReplica, MasterKey};
use tenantry_control::{Caller, Control, secrets};

use super::extract::Json;
use super::problem::Refusal;

/// Show how secrets are sealed
///
/// Which master keys there are, what each of them holds, and which replica has which. Needs the scope `admin`.
#[utoipa::path(
    get,
    path = "/v1/secrets",
    operation_id = "show_secrets",
    tag = "secrets",
    responses(
        (status = OK, description = "How they are sealed", body = SecretsStatus,
            links(("rotate" = (operation_id = "rotate_master_key")))),
    ),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SecretsStatus>, Refusal> {
    Ok(Json(shown(secrets::status(&control, &caller).await?)))
}

/// Rotate the master key
///
/// The newest master key in the configuration of the replicas wraps from now on, and what older ones hold is moved to it in
/// the background, without a pause for anybody; `pending` of `GET /v1/secrets` says how much is left, and
/// `is_removable` when a key can go. Refused while a live replica lacks the newest key. Needs the scope `admin`.
#[utoipa::path(
    post,
    path = "/v1/secrets/rotate-master",
    operation_id = "rotate_master_key",
    tag = "secrets",
    responses(
        (status = ACCEPTED, description = "How secrets are sealed now", body = SecretsStatus,
            links(("progress" = (operation_id = "show_secrets")))),
    ),
)]
pub(crate) async fn rotate(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
) -> Result<(StatusCode, Json<SecretsStatus>), Refusal> {
    Ok((StatusCode::ACCEPTED, Json(shown(secrets::rotate_master_key(&control, &caller).await?))))
}

fn shown(status: secrets::SecretsStatus) -> SecretsStatus {
    let (current_version, pending) = (status.current(), status.pending());
    let master_key = |key: tenantry_control::records::MasterKeyRecord| MasterKey {
        version: key.version,
        is_current: key.is_current,
        data_keys: key.data_keys,
        direct_secrets: key.direct_secrets,
        replicas: key.replicas,
        is_removable: key.is_removable,
        created_at: key.created_at,
    };
    let replica = |replica: tenantry_control::records::ReplicaRecord| KeyReplica {
        id: replica.id,
        versions: replica.master_key_versions,
        wraps_with: replica.wraps_with,
        seen_at: replica.seen_at,
    };
    SecretsStatus {
        current_version,
        pending,
        master_keys: status.master_keys.into_iter().map(master_key).collect(),
        replicas: status.replicas.into_iter().map(replica).collect(),
    }
}
