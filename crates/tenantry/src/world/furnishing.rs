//! What a newcomer finds in a world: a cluster to place tenants on, a schema that they start with, a token.

use std::time::Duration;

use tenantry_control::rollouts::CreateRollout;
use tenantry_control::tokens::CreateToken;
use tenantry_control::{Caller, Control, ControlError, clusters, migration_sets, rollouts, tokens};
use tenantry_domain::{
    ClusterLimits, ClusterName, DisplayName, Endpoint, RequestId, RolloutState, Scope, ScopeSet, Secret, Tenancy,
    TlsMode,
};
use tenantry_pglocal::Cluster;
use tenantry_store::{ClusterChange, ClusterRef, PageRequest, Store};
use uuid::Uuid;

use super::error::WorldError;
use super::narration::Narration;
use super::{WorldPlace, catalog, profile};
use crate::local_provider::Resumed;

/// The embedded server's name among the clusters, and the program's own among those who act.
const NAME: &str = "dev";
/// What the sample migration set is called.
pub(crate) const SAMPLE_SET: &str = "flights";
/// A rollout over no tenant takes as long as a wake-up.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(30);

/// Tells the catalog where the clusters of an earlier run listen now. One that could not be started is reported, and the
/// others are served.
pub(super) async fn relocate(
    control: &Control,
    resumed: Vec<Resumed>,
    narration: &Narration,
) -> Result<(), WorldError> {
    for Resumed { cluster, outcome } in resumed {
        match outcome {
            Ok(endpoint) => ensure_endpoint(control, &ClusterRef::Id(cluster), endpoint).await.map(drop)?,
            Err(error) => narration.warn(&format!("cluster {cluster} stays down, and so does its tenant: {error}")),
        }
    }
    Ok(())
}

/// Registers the embedded server as the shared cluster, or tells the catalog where it listens now. It is recognised by
/// its identity: its owner may have given it another name.
pub(super) async fn register(control: &Control, store: &Store, postgres: &Cluster) -> Result<(), WorldError> {
    let endpoint = Endpoint::new(postgres.host(), postgres.port())?;
    let identity = store.system_identifier().await?;
    let tx = store.begin().await?;
    let registered = tx.placement_candidates(None).await?;
    tx.commit().await?;
    if let Some(known) = registered.into_iter().find(|known| known.system_identifier == identity) {
        ensure_endpoint(control, &ClusterRef::Id(known.cluster.id), endpoint).await?;
        return Ok(());
    }
    let wish = clusters::RegisterCluster {
        name: ClusterName::parse(NAME)?,
        region: catalog::region()?,
        tenancy: Tenancy::Shared,
        endpoint,
        user: postgres.user().to_owned(),
        password: Secret::new(postgres.password().to_owned()),
        database: None,
        tls_mode: Some(TlsMode::Disable),
        tls_ca: None,
        limits: ClusterLimits::default(),
    };
    clusters::register(control, &caller(), wish).await?;
    Ok(())
}

/// Makes the catalog name this endpoint; false where it does not know the cluster. A private cluster is unknown to it
/// when the program ended between starting and recording one: the operation that wanted it goes on from there.
async fn ensure_endpoint(control: &Control, cluster: &ClusterRef, endpoint: Endpoint) -> Result<bool, WorldError> {
    let known = match clusters::show(control, &caller(), cluster).await {
        Err(ControlError::NotFound { .. }) => return Ok(false),
        found => found?,
    };
    if known.endpoint != endpoint {
        let change = ClusterChange { endpoint: Some(endpoint), ..ClusterChange::default() };
        clusters::update(control, &caller(), cluster, change, None).await?;
    }
    Ok(true)
}

/// Pushes the sample product's schema and rolls it out over the tenants that there are: none. A world whose owner has
/// promoted a set already, this one or another, keeps that.
pub(super) async fn promote_sample(control: &Control) -> Result<(), WorldError> {
    let caller = caller();
    let sets = migration_sets::list(control, &caller, &PageRequest::default()).await?;
    if sets.items.iter().any(|set| set.promoted_at.is_some()) {
        return Ok(());
    }
    let files: Vec<(String, String)> = tenantry_sample::migrations()
        .iter()
        .map(|(name, content)| ((*name).to_owned(), (*content).to_owned()))
        .collect();
    let (pushed, _) = migration_sets::push(control, &caller, SAMPLE_SET, &files).await?;
    let wish = CreateRollout::new(pushed.set.id);
    let rollout = match rollouts::create(control, &caller, wish).await {
        // One was begun before the program last ended; it goes on by itself.
        Err(ControlError::Conflict { .. }) => return Ok(()),
        begun => begun?,
    };
    let ended = rollouts::wait(control, &caller, rollout.id, PROMOTION_PATIENCE).await?;
    match ended.state {
        RolloutState::Succeeded => Ok(()),
        state => Err(WorldError::NotPromoted { state }),
    }
}

/// The token of the earlier run while it may still do everything, else a new one.
pub(super) async fn token(control: &Control, place: &WorldPlace) -> Result<Secret, WorldError> {
    let earlier = match place {
        WorldPlace::Directory(directory) => profile::earlier_token(directory),
        WorldPlace::Temporary => None,
    };
    if let Some(token) = earlier
        && let Some(owner) = tokens::authenticate(control, &token, request_id()).await?
        && owner.scopes.allows(Scope::Admin)
        && owner.tenant.is_none()
    {
        return Ok(token);
    }
    let wish = CreateToken {
        name: DisplayName::parse(NAME)?,
        scopes: ScopeSet::new([Scope::Admin]),
        tenant: None,
        expires_at: None,
    };
    let (_, token) = tokens::create(control, &caller(), wish).await?;
    Ok(token)
}

/// The program itself.
fn caller() -> Caller {
    Caller::system(NAME, request_id())
}

fn request_id() -> RequestId {
    RequestId::new(Uuid::now_v7())
}
