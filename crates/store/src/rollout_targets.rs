//! The table `rollout_target`: the tenants of a rollout. Claims are in `rollout_claims`.

use std::time::Duration;

use serde_json::{Value, json};
use tenantry_domain::{ClusterId, EventKind, HomeId, RolloutId, SchemaVersion, TargetState, TenantId};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connection::Connection;
use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::events::NewEvent;
use crate::filter::Filter;
use crate::rollouts::announce;
use crate::row::{execute, get, parsed, query};
use crate::store::Store;
use crate::transaction::Tx;

/// One tenant of a rollout, as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutTarget {
    /// Which tenant.
    pub tenant: TenantId,
    /// In which wave.
    pub wave: u32,
    /// Where it stands.
    pub state: TargetState,
    /// The version that it had when it became a target.
    pub from_version: SchemaVersion,
    /// The version that it was brought to.
    pub to_version: Option<SchemaVersion>,
    /// Attempts so far.
    pub attempts: u32,
    /// Why it failed.
    pub error: Option<Value>,
    /// How long it took, all attempts together.
    pub duration_ms: Option<u64>,
}

/// A target that a worker may migrate until its lease runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedTarget {
    /// Which tenant.
    pub tenant: TenantId,
    /// The home that it lives in.
    pub home: HomeId,
    /// The cluster of that home.
    pub cluster: ClusterId,
    /// The version that it had when it became a target.
    pub from_version: SchemaVersion,
    /// How often it has stepped aside since it was last taken up.
    pub deferrals: u32,
}

/// What came of a claimed target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetResult {
    /// Which tenant.
    pub tenant: TenantId,
    /// The home that was migrated.
    pub home: HomeId,
    /// A finished state, or `pending`: it steps aside and is taken up again later.
    pub state: TargetState,
    /// When that is, where it steps aside.
    pub retry_in: Option<Duration>,
    /// The version that it has now, where that is known.
    pub to_version: Option<SchemaVersion>,
    /// The digest of the repeatable files that it has now, where it was brought to others.
    pub repeatables: Option<String>,
    /// Attempts in this claim.
    pub attempts: u32,
    /// Why it failed.
    pub error: Option<Value>,
    /// How long it took.
    pub duration: Duration,
}

impl Store {
    /// A page of a rollout's targets, by tenant.
    pub async fn targets(
        &self,
        rollout: RolloutId,
        states: &[TargetState],
        page: &PageRequest,
    ) -> Result<Page<RolloutTarget>, StoreError> {
        let mut conditions = Filter::default();
        conditions.and("rollout = ?", rollout.as_uuid(), Type::UUID);
        if !states.is_empty() {
            let states: Vec<&'static str> = states.iter().map(|state| state.as_str()).collect();
            conditions.and("state = ANY (?)", states, Type::TEXT_ARRAY);
        }
        if let Some(after) = page.after_id()? {
            conditions.and("tenant > ?", after, Type::UUID);
        }
        let client = self.client().await?;
        let rows = conditions.query(&client, "SELECT * FROM rollout_target", "ORDER BY tenant", page.probe()).await?;
        let targets = rows.iter().map(read_target).collect::<Result<_, _>>()?;
        Ok(page.page(targets, |target: &RolloutTarget| target.tenant.to_string()))
    }
}

impl Tx {
    /// Writes what came of claimed targets: the targets, the schema versions of tenants and homes, and news for routers. A
    /// result whose claim went to somebody else is dropped; the tenants of those taken are returned.
    pub async fn finish_targets(
        &mut self,
        rollout: RolloutId,
        owner: Uuid,
        results: &[TargetResult],
    ) -> Result<Vec<TenantId>, StoreError> {
        let taken = write_results(self.client()?, rollout, owner, results).await?;
        let changed = raise_versions(self.client()?, results, &taken).await?;
        announce(self.client()?, rollout).await?;
        let event = NewEvent {
            kind: EventKind::TenantMigrated,
            tenant: None,
            cluster: None,
            operation: None,
            detail: json!({ "rollout": rollout }),
        };
        self.emit_to_all(&event, &changed).await?;
        for tenant in changed {
            self.touch_route(tenant).await?;
        }
        Ok(taken.into_iter().map(TenantId::new).collect())
    }

    /// Makes every tenant that lives in a home and is behind the set a target, unless it is one already; says how many are
    /// new. Those that have the set are only counted, by [`Tx::count_already`], unless the rollout verifies. One
    /// that was skipped because it was going away, and was restored since, is a target again. New ones are in the last wave.
    pub async fn add_targets(&self, rollout: RolloutId) -> Result<u64, StoreError> {
        let back = execute(
            self.client()?,
            "UPDATE rollout_target SET state = 'pending', updated_at = now()
               FROM rollout JOIN migration_set ON migration_set.id = rollout.migration_set, tenant
              WHERE rollout_target.rollout = $1 AND rollout.id = $1 AND rollout_target.state = 'skipped'
                AND tenant.id = rollout_target.tenant AND tenant.status IN ('active', 'suspended', 'moving')
                AND is_behind(tenant.schema_version, tenant.repeatables, latest_version, migration_set.repeatables)",
            &[&rollout.as_uuid()],
        )
        .await?;
        // Those that are targets already are told by the key alone. Asked for beforehand, the planner, to whom the table may
        // look empty, reads all rows so far again for each.
        let new = execute(
            self.client()?,
            "INSERT INTO rollout_target (rollout, tenant, wave, cluster, database_name, from_version)
             SELECT rollout.id, tenant.id, jsonb_array_length(rollout.waves) - 1, home.cluster, home.database_name,
                    tenant.schema_version
               FROM rollout JOIN migration_set ON migration_set.id = rollout.migration_set, tenant
               JOIN placement ON placement.tenant = tenant.id AND placement.until IS NULL
               JOIN home ON home.id = placement.home
              WHERE rollout.id = $1 AND tenant.status IN ('active', 'suspended', 'moving')
                AND (is_behind(tenant.schema_version, tenant.repeatables, latest_version, migration_set.repeatables)
                     OR rollout.verify)
             ON CONFLICT (rollout, tenant) DO NOTHING",
            &[&rollout.as_uuid()],
        )
        .await?;
        Ok(back + new)
    }

    /// Counts the live tenants that have the rollout's version and are no targets of it.
    pub async fn count_already(&self, rollout: RolloutId) -> Result<(), StoreError> {
        execute(
            self.client()?,
            "UPDATE rollout SET already = (
                    SELECT count(*) FROM tenant
                     WHERE tenant.status IN ('active', 'suspended', 'moving')
                       AND NOT is_behind(tenant.schema_version, tenant.repeatables,
                                         migration_set.latest_version, migration_set.repeatables)) - (
                    SELECT count(*) FROM rollout_target AS known JOIN tenant ON tenant.id = known.tenant
                     WHERE known.rollout = rollout.id AND tenant.status IN ('active', 'suspended', 'moving')
                       AND NOT is_behind(tenant.schema_version, tenant.repeatables,
                                         migration_set.latest_version, migration_set.repeatables))
               FROM migration_set WHERE rollout.id = $1 AND migration_set.id = rollout.migration_set",
            &[&rollout.as_uuid()],
        )
        .await
        .map(drop)
    }
}

/// The tenants whose results were taken: those that the owner still holds.
async fn write_results(
    client: &Connection,
    rollout: RolloutId,
    owner: Uuid,
    results: &[TargetResult],
) -> Result<Vec<Uuid>, StoreError> {
    let tenants: Vec<Uuid> = results.iter().map(|result| result.tenant.as_uuid()).collect();
    let states: Vec<&str> = results.iter().map(|result| result.state.as_str()).collect();
    let versions: Vec<Option<i64>> = results.iter().map(|result| result.to_version.map(|version| version.0)).collect();
    let attempts: Vec<i32> = results.iter().map(|it| i32::try_from(it.attempts).unwrap_or(i32::MAX)).collect();
    let errors: Vec<Option<&Value>> = results.iter().map(|result| result.error.as_ref()).collect();
    let retries: Vec<Option<f64>> =
        results.iter().map(|result| result.retry_in.map(|span| span.as_secs_f64())).collect();
    let durations: Vec<i64> =
        results.iter().map(|result| i64::try_from(result.duration.as_millis()).unwrap_or(i64::MAX)).collect();
    // The planner, to whom the table may look empty, is not to see that all are of one rollout: it would read all of its
    // targets for each batch.
    let rows = query(
        client,
        "UPDATE rollout_target AS target
            SET state = result.state, to_version = result.to_version, error = result.error,
                attempts = target.attempts + result.attempts,
                duration_ms = coalesce(target.duration_ms, 0) + result.duration_ms,
                due_at = now() + make_interval(secs => result.retry_in),
                deferrals = CASE WHEN result.state = 'pending' THEN target.deferrals + 1 ELSE target.deferrals END,
                lease_owner = NULL, lease_until = NULL, updated_at = now()
           FROM (SELECT $1::uuid AS rollout, *
                   FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::integer[], $7::jsonb[], $8::bigint[], $9::double precision[])
                            AS result (tenant, state, to_version, attempts, error, duration_ms, retry_in) OFFSET 0) AS result
          WHERE target.rollout = result.rollout AND target.tenant = result.tenant AND target.lease_owner = $2
         RETURNING target.tenant",
        &[&rollout.as_uuid(), &owner, &tenants, &states, &versions, &attempts, &errors, &durations, &retries],
    )
    .await?;
    rows.iter().map(|row| get(row, "tenant")).collect()
}

/// Raises the versions of homes and of the tenants that live in them; says which tenants changed.
pub(crate) async fn raise_versions(
    client: &Connection,
    results: &[TargetResult],
    taken: &[Uuid],
) -> Result<Vec<TenantId>, StoreError> {
    let (mut homes, mut versions, mut repeatables) = (Vec::new(), Vec::new(), Vec::new());
    for result in results {
        if let Some(version) = result.to_version
            && taken.contains(&result.tenant.as_uuid())
        {
            homes.push(result.home.as_uuid());
            versions.push(version.0);
            repeatables.push(result.repeatables.as_deref());
        }
    }
    if homes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = query(
        client,
        "WITH reached AS (SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS reached (home, version, files)),
              raised AS (UPDATE home SET schema_version = version, repeatables = coalesce(files, repeatables) FROM reached
                          WHERE home.id = reached.home AND is_behind(schema_version, repeatables, version, coalesce(files, '')))
         UPDATE tenant SET schema_version = version, repeatables = coalesce(files, repeatables),
                           updated_at = clock_timestamp()
           FROM reached JOIN placement ON placement.home = reached.home AND placement.until IS NULL
          WHERE tenant.id = placement.tenant AND is_behind(schema_version, repeatables, version, coalesce(files, ''))
         RETURNING tenant.id",
        &[&homes, &versions, &repeatables],
    )
    .await?;
    rows.iter().map(|row| get(row, "id").map(TenantId::new)).collect()
}

fn read_target(row: &Row) -> Result<RolloutTarget, StoreError> {
    let number = |column| u32::try_from(get::<i32>(row, column)?).map_err(StoreError::internal);
    Ok(RolloutTarget {
        tenant: TenantId::new(get(row, "tenant")?),
        wave: number("wave")?,
        state: parsed(row, "state")?,
        from_version: SchemaVersion(get(row, "from_version")?),
        to_version: get::<Option<i64>>(row, "to_version")?.map(SchemaVersion),
        attempts: number("attempts")?,
        error: get(row, "error")?,
        duration_ms: get::<Option<i64>>(row, "duration_ms")?
            .map(u64::try_from)
            .transpose()
            .map_err(StoreError::internal)?,
    })
}
