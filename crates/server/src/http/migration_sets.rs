//! `/v1/migration-sets`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use tenantry_api::{ListQuery, Migration, MigrationSet, Page, PushMigrationSet, Repeatable};
use tenantry_control::migration_sets::MigrationSetDetail;
use tenantry_control::records::{MigrationSetRecord, StoredMigration, requires_app};
use tenantry_control::{Caller, Control, migration_sets};
use tenantry_domain::{DisplayName, InvalidName, MigrationSetId, SchemaVersion};

use super::convert;
use super::extract::{Json, Path, Query};
use super::problem::Refusal;

/// Register a migration set
///
/// Checks the files and keeps them under the digest of their content; the same content is kept once. Where a rule is
/// broken, `errors` names each file and line.
#[utoipa::path(
    post,
    path = "/v1/migration-sets",
    operation_id = "push_migration_set",
    tag = "migrations",
    request_body = PushMigrationSet,
    responses(
        (status = CREATED, description = "The set is new", body = MigrationSet,
            headers(("location" = String, description = "Where it is")),
            links(
                ("set" = (operation_id = "show_migration_set", parameters(("set" = "$response.body#/id")))),
                ("rollout" = (operation_id = "create_rollout",
                    request_body = "{\"migration_set\": \"{$response.body#/id}\"}")),
            )),
        (status = OK, description = "The set was known", body = MigrationSet),
    ),
)]
pub(crate) async fn push(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<PushMigrationSet>,
) -> Result<Response, Refusal> {
    let files: Vec<_> = body.files.into_iter().map(|file| (file.name, file.content)).collect();
    let (set, is_new) = migration_sets::push(&control, &caller, body.name.as_str(), &files).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(LOCATION, format!("/v1/migration-sets/{}", set.set.id))];
    Ok((status, location, Json(detailed(set)?)).into_response())
}

/// List migration sets
///
/// The newest first, without their migrations.
#[utoipa::path(
    get,
    path = "/v1/migration-sets",
    operation_id = "list_migration_sets",
    tag = "migrations",
    params(ListQuery),
    responses((status = OK, description = "One page", body = Page<MigrationSet>)),
)]
pub(crate) async fn list(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<MigrationSet>>, Refusal> {
    let page = convert::page_request(query.limit, query.cursor);
    let sets = migration_sets::list(&control, &caller, &page).await?;
    let items = sets
        .items
        .into_iter()
        .map(|set| shown(set, None, None))
        .collect::<Result<_, _>>()
        .map_err(Refusal::internal)?;
    Ok(Json(Page { items, next: sets.next }))
}

/// Show a migration set
#[utoipa::path(
    get,
    path = "/v1/migration-sets/{set}",
    operation_id = "show_migration_set",
    tag = "migrations",
    params(("set" = String, Path, description = "Its digest")),
    responses((status = OK, description = "The set with its migrations", body = MigrationSet)),
)]
pub(crate) async fn show(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Path(set): Path<MigrationSetId>,
) -> Result<Json<MigrationSet>, Refusal> {
    Ok(Json(detailed(migration_sets::show(&control, &caller, &set).await?)?))
}

fn detailed(detail: MigrationSetDetail) -> Result<MigrationSet, Refusal> {
    let migrations = detail.migrations.into_iter().map(migration).collect();
    let repeatables = detail.repeatables.into_iter().map(repeatable).collect();
    shown(detail.set, Some(migrations), Some(repeatables)).map_err(Refusal::internal)
}

/// The name came in as a display name, so it is one; if it is not, somebody else wrote the catalog.
fn shown(
    set: MigrationSetRecord,
    migrations: Option<Vec<Migration>>,
    repeatables: Option<Vec<Repeatable>>,
) -> Result<MigrationSet, InvalidName> {
    Ok(MigrationSet {
        id: set.id,
        name: DisplayName::parse(&set.name)?,
        latest_version: set.latest_version,
        created_at: set.created_at,
        promoted_at: set.promoted_at,
        migrations,
        repeatables,
    })
}

pub(super) fn repeatable(file: StoredMigration) -> Repeatable {
    Repeatable {
        name: file.name,
        checksum: Migration::checksum_text(file.checksum),
        transactional: file.transactional,
        phase: file.phase,
    }
}

pub(super) fn migration(migration: StoredMigration) -> Migration {
    Migration {
        version: SchemaVersion(migration.version),
        name: migration.name,
        checksum: Migration::checksum_text(migration.checksum),
        transactional: migration.transactional,
        requires_app: requires_app(&migration.sql),
        reversible: migration.down.is_some(),
        phase: migration.phase,
    }
}
