//! What happens on "create tenant": from a reserved home to a published route.

use futures::future::BoxFuture;
use serde_json::json;
use tenantry_domain::{
    ClusterLimits, EventKind, Generation, Isolation, RouteState, SchemaVersion, SeedId, SeedRef, Tenancy, TenantId,
};
use tenantry_fleet::{ApplyOptions, FleetError, HomeSpec, RoleSecrets, SeedFile, Stamp};
use tenantry_store::{BaseState, HomeRecord, NewEvent, Operation, StoreError, TenantRef, Tx};
use tracing::warn;

use super::bases;
use super::provision_site::Site;
use super::release_home;
use super::reserve_home::{ProvisionProgress, record_home};
use crate::candidates::{Newcomer, wish_of};
use crate::clusters::{self, ClusterToRegister};
use crate::engine::step::{Effect, step};
use crate::engine::{Kind, Step, StepError, StepResult, Work};
use crate::migration_sets;
use crate::provider::{AcquiredCluster, ClusterRequest};
use crate::reconcilers::ROLE_CHANGES;
use crate::seeds;
use crate::warm_pool;

/// The kind `provision`.
pub(crate) struct ProvisionTenant;

impl Kind for ProvisionTenant {
    const CODE_VERSION: i32 = 1;
    type Progress = ProvisionProgress;
    const STEPS: &'static [Step<ProvisionProgress>] = &[
        step!("acquire_cluster", acquire_cluster, nothing),
        step!("ensure_base", ensure_base, nothing),
        step!("ensure_home", ensure_home, record_home_objects),
        step!("migrate", migrate, nothing),
        step!("seed", seed, record_seed),
        step!("publish_route", publish_route, record_publish_route),
    ];
    const PIVOT: Option<&'static str> = Some("publish_route");

    fn undo<'a>(work: &'a Work<'a>, _: &'a mut ProvisionProgress) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move { release_home::release(work, tenant_of(work)?).await })
    }

    fn record_end<'a>(
        work: &'a Work<'a>,
        _: &'a ProvisionProgress,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        Box::pin(async move {
            let tenant = tenant_of(work)?;
            tx.set_tenant_failed(tenant, reason).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(work.operation.id)).await?;
            tx.remove_route(tenant).await?;
            Ok(())
        })
    }

    /// Half a home serves nobody. It stays recorded, and goes with the tenant.
    fn record_abandoned<'a>(
        operation: &'a Operation,
        reason: &'a str,
        tx: &'a mut Tx,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(tenant) = operation.tenant else { return Ok(()) };
            tx.set_tenant_failed(tenant, reason).await?;
            tx.emit(&NewEvent::of_tenant(EventKind::TenantFailed, tenant).by(operation.id)).await?;
            tx.remove_route(tenant).await
        })
    }
}

fn tenant_of(work: &Work<'_>) -> Result<TenantId, StepError> {
    work.operation.tenant.ok_or_else(|| StepError::Failed { reason: "it names no tenant".to_owned() })
}

async fn site_of(work: &Work<'_>, progress: &ProvisionProgress) -> Result<Site, StepError> {
    let home = progress.home.ok_or_else(|| StepError::Failed { reason: "no home is reserved".to_owned() })?;
    Ok(Site::load(work.control, tenant_of(work)?, home).await?)
}

/// Isolation `cluster`: a server of the tenant's own, and on it a home.
async fn acquire_cluster(work: &Work<'_>, progress: &mut ProvisionProgress) -> StepResult {
    let Some(own) = progress.own_cluster.clone() else { return Ok(Effect::None) };
    if progress.home.is_some() {
        return Ok(Effect::None);
    }
    let tenant = work.control.store().tenant(&TenantRef::Id(tenant_of(work)?)).await?;
    let provider = work.control.provider(own.provider).ok_or_else(|| StepError::Failed {
        reason: format!("this control plane has no provider `{}`", own.provider),
    })?;
    let wish = {
        let tx = work.control.store().begin().await?;
        let plan = tx.plan(&tenant.plan).await?;
        wish_of(&tx, Newcomer::of(&tenant, &plan), own.pin).await?
    };
    let request = ClusterRequest { cluster: own.cluster, tenant: tenant.id, wish };
    let cluster = match provider.acquire(&request).await? {
        AcquiredCluster::Claimed(cluster) => cluster,
        AcquiredCluster::Started(started) => {
            let started = *started;
            let cluster = ClusterToRegister {
                id: own.cluster,
                name: started.name,
                region: started.region,
                tenancy: Tenancy::Dedicated,
                provider: own.provider,
                endpoint: started.endpoint,
                tls_mode: started.tls_mode,
                tls_ca: None,
                user: started.admin_user,
                password: started.admin_password,
                database: started.admin_database,
                limits: ClusterLimits { tenants: 1, ..ClusterLimits::default() },
                claimed_by: Some(tenant.id),
            };
            clusters::ensure_started_cluster(work.control, cluster).await?
        }
    };
    let mut tx = work.control.store().begin().await?;
    tx.guard(work.lease).await?;
    tx.cluster_resource_created(cluster).await?;
    let home = record_home(&mut tx, &tenant, cluster, request.wish.connections, work.operation.id).await?;
    progress.home = Some(home);
    let json = serde_json::to_value(&*progress).map_err(|error| StepError::Failed { reason: error.to_string() })?;
    tx.advance(work.lease, Some("acquire_cluster"), &json).await?;
    tx.commit().await?;
    Ok(Effect::Changed)
}

/// What the home is made from: a golden template for `database`, a shared database for `schema`.
async fn ensure_base(work: &Work<'_>, progress: &mut ProvisionProgress) -> StepResult {
    if progress.is_warm {
        return Ok(Effect::None);
    }
    let site = site_of(work, progress).await?;
    if site.has_base {
        // What is looked at for this is what the next step looks at, and it comes at once.
        progress.site = Some(Box::new(site));
        return Ok(Effect::None);
    }
    match site.home.home.isolation {
        Isolation::Database => {
            bases::ensure_template(work.control, &site.target, site.home.migration_set.as_ref()).await
        }
        Isolation::Schema => bases::ensure_shared_database(work.control, &site.target, &site.home).await,
        Isolation::Row | Isolation::Cluster => Ok(Effect::None),
    }
}

/// Roles, the database or schema, grants and the stamp of the first generation. A home that was made beforehand has all
/// but the stamp.
async fn ensure_home(work: &Work<'_>, progress: &mut ProvisionProgress) -> StepResult {
    let site = match progress.site.take() {
        Some(site) => *site,
        None => site_of(work, progress).await?,
    };
    let home = &site.home.home;
    let secrets = role_secrets(&site.home);
    let spec = HomeSpec {
        home,
        fence: work.fence(home.id),
        secrets: &secrets,
        limits: &site.limits,
        template: None,
        stamp: Some(Stamp { tenant: site.tenant, generation: Generation::FIRST, state: RouteState::Active }),
    };
    let fleet = work.control.fleet();
    if progress.is_warm {
        match fleet.claim_home(&site.target, &spec).await {
            // Doing it again costs as little as noting that it was done.
            Ok(()) => return Ok(Effect::None),
            Err(error) if error.is_retryable() || matches!(error, FleetError::StaleEpoch { .. }) => {
                return Err(error.into());
            }
            // Somebody was at it while it waited. Below, whatever is missing is made.
            Err(error) => {
                warn!(%error, home_id = %home.id, "a home made beforehand is not whole; making it whole");
                progress.is_warm = false;
            }
        }
    }
    let template = match home.isolation {
        Isolation::Database => Some(match site.template {
            // A home in the making keeps it from being retired.
            Some(template) if template.state == BaseState::Ready => template,
            _ => bases::ready_template(work.control, &site.target, site.home.migration_set.as_ref()).await?,
        }),
        Isolation::Row | Isolation::Schema | Isolation::Cluster => None,
    };
    let spec = HomeSpec { template: template.as_ref().map(|template| &template.name), ..spec };
    fleet.ensure_home(&site.target, &spec).await?;
    progress.is_to_be_pooled = home.isolation == Isolation::Schema && site.limits.shared_pooling == Some(true);
    // A template of the home's own set is at the end of that.
    progress.is_migrated = template.is_some();
    progress.schema_version = template.map_or(SchemaVersion::default(), |template| template.schema_version);
    Ok(Effect::Changed)
}

/// The passwords of a home's roles as the fleet takes them.
pub(crate) fn role_secrets(home: &HomeRecord) -> RoleSecrets {
    RoleSecrets {
        slot: home.login,
        login: home.secrets.login.clone(),
        read_only: home.secrets.read_only.clone(),
        migrator: home.secrets.migrator.clone(),
    }
}

async fn record_home_objects(work: &Work<'_>, progress: &ProvisionProgress, tx: &mut Tx) -> Result<(), StepError> {
    let detail = json!({ "home": progress.home });
    let created = async {
        match progress.home {
            Some(home) => tx.resources_of_home_created(home).await,
            None => Ok(()),
        }
    };
    let told = tx.record_event(work.operation.id, "home_made", Some("ensure_home"), &detail);
    let (created, told) = futures::join!(created, told);
    created?;
    Ok(told?)
}

/// Replays the set where the home is no clone of a template.
async fn migrate(work: &Work<'_>, progress: &mut ProvisionProgress) -> StepResult {
    if progress.is_migrated {
        return Ok(Effect::None);
    }
    let site = site_of(work, progress).await?;
    let Some(id) = &site.home.migration_set else { return Ok(Effect::None) };
    let set = migration_sets::load(work.control, id).await?;
    if progress.schema_version >= set.latest_version() {
        return Ok(Effect::None);
    }
    let options = ApplyOptions::default();
    let applied =
        work.control.fleet().apply(&site.target, &site.home.home, &site.home.secrets.migrator, &set, &options).await?;
    progress.schema_version = applied.to;
    Ok(Effect::Changed)
}

/// Fills the home, where a seed was chosen. The home itself tells whether it was filled, so a repetition does nothing.
async fn seed(work: &Work<'_>, progress: &mut ProvisionProgress) -> StepResult {
    let Some(id) = seed_of(work)? else { return Ok(Effect::None) };
    let site = site_of(work, progress).await?;
    let seed = work.control.store().seed(&SeedRef::Id(id)).await?;
    let checked = seeds::check(&seed.name, &seed.sql)?;
    let file = seeds::file_name(&seed.name);
    let file = SeedFile { digest: seed.id.as_str(), file: &file, checked: &checked };
    let filled = work
        .control
        .fleet()
        .seed(&site.target, &site.home.home, &site.home.secrets.migrator, file, &seeds::limits())
        .await;
    match filled.map_err(StepError::from) {
        Ok(_) => Ok(Effect::Changed),
        // Nobody else is in the home: what takes too long now takes too long each time, and is not waited out for long.
        Err(StepError::Again { reason, after, is_busy: _ }) => Err(StepError::Again { reason, after, is_busy: false }),
        Err(error) => Err(error),
    }
}

fn seed_of(work: &Work<'_>) -> Result<Option<SeedId>, StepError> {
    let seed = work.operation.input.get("seed").cloned().unwrap_or_default();
    serde_json::from_value(seed)
        .map_err(|error| StepError::Failed { reason: format!("its seed does not parse: {error}") })
}

async fn record_seed(work: &Work<'_>, progress: &ProvisionProgress, tx: &mut Tx) -> Result<(), StepError> {
    let detail = json!({ "home": progress.home, "seed": seed_of(work)? });
    tx.record_event(work.operation.id, "home_filled", Some("seed"), &detail).await?;
    Ok(())
}

async fn publish_route(_: &Work<'_>, _: &mut ProvisionProgress) -> StepResult {
    Ok(Effect::Changed)
}

/// The pivot: from here on the tenant is served.
async fn record_publish_route(work: &Work<'_>, progress: &ProvisionProgress, tx: &mut Tx) -> Result<(), StepError> {
    let tenant = tenant_of(work)?;
    let home = progress.home.ok_or_else(|| StepError::Failed { reason: "no home is reserved".to_owned() })?;
    let event = NewEvent::of_tenant(EventKind::TenantActivated, tenant).by(work.operation.id);
    let poked = async {
        match (progress.is_warm, progress.is_to_be_pooled) {
            (true, _) => tx.poke_reconciler(warm_pool::NAME).await,
            (false, true) => tx.poke_reconciler(ROLE_CHANGES).await,
            (false, false) => Ok(()),
        }
    };
    // Sent together, and in this order: the event tells of the tenant as it is then.
    let (ready, placed, active, told, poked) = futures::join!(
        tx.home_ready(home, progress.schema_version),
        tx.open_placement(tenant, home, Generation::FIRST),
        tx.set_tenant_active(tenant, Generation::FIRST, progress.schema_version),
        tx.emit(&event),
        poked,
    );
    ready?;
    placed?;
    active?;
    told?;
    poked?;
    tx.publish_route(tenant, RouteState::Active, Generation::FIRST, Some(home)).await?;
    Ok(())
}

async fn nothing(_: &Work<'_>, _: &ProvisionProgress, _: &mut Tx) -> Result<(), StepError> {
    Ok(())
}
