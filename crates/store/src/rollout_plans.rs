//! Whom a rollout would reach, and in which wave. Nothing is written here.

use serde_json::json;
use tenantry_domain::{Home, HomeId, MigrationSetId, SchemaVersion, Slug, TenantId, WaveSelection, Waves};
use uuid::Uuid;

use crate::error::StoreError;
use crate::homes::read_home;
use crate::row::{get, parsed, query, query_one};
use crate::store::Store;
use crate::transaction::Tx;

/// Whom a rollout to a set would reach now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolloutProspect {
    /// Those that are behind the set, or all where their own histories are asked, in the order in which waves take them.
    pub tenants: Vec<ProspectiveTarget>,
    /// How many tenants are there already, and are not asked.
    pub already: u64,
}

/// A tenant that a rollout would migrate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProspectiveTarget {
    /// Which tenant.
    pub tenant: TenantId,
    /// The version that it has.
    pub from_version: SchemaVersion,
    /// In which wave, from 0.
    pub wave: usize,
}

/// Where a tenant that would be migrated lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProspectiveHome {
    /// Which tenant.
    pub tenant: TenantId,
    /// As people call it.
    pub slug: Slug,
    /// Its home.
    pub home: Home,
}

impl Tx {
    /// Whom a rollout to the set would reach in which wave. Who comes first where a wave takes a number or a share is drawn
    /// by the hash of tenant and set: spread over the fleet, others for each set, and the same however often it is asked.
    pub async fn rollout_prospect(
        &self,
        set: &MigrationSetId,
        waves: &Waves,
        verify: bool,
    ) -> Result<RolloutProspect, StoreError> {
        let (mut labels, mut plans, mut regions) = (Vec::new(), Vec::new(), Vec::new());
        for wave in waves.as_slice() {
            let (label, plan, region) = match &wave.select {
                WaveSelection::Label { key, value } => (Some(json!({ key.as_str(): value })), None, None),
                WaveSelection::Plan(plan) => (None, Some(plan.as_str()), None),
                WaveSelection::Region(region) => (None, None, Some(region.as_str())),
                WaveSelection::Tenants(_) | WaveSelection::Percent(_) | WaveSelection::All => (None, None, None),
            };
            labels.push(label);
            plans.push(plan);
            regions.push(region);
        }
        // One row of arrays: a fleet of a hundred thousand is a few megabytes in one answer.
        let row = query_one(
            self.client()?,
            "WITH live AS (
                 SELECT tenant.*, $5 OR is_behind(tenant.schema_version, tenant.repeatables,
                                                  migration_set.latest_version, migration_set.repeatables) AS is_target
                   FROM migration_set CROSS JOIN tenant
                   JOIN placement ON placement.tenant = tenant.id AND placement.until IS NULL
                  WHERE migration_set.id = $1 AND tenant.status IN ('active', 'suspended', 'moving')
             ), target AS (
                 SELECT id, schema_version, md5($1 || id::text) AS draw,
                        (SELECT bit_or(1::bigint << (number - 1)::integer)
                           FROM unnest($2::jsonb[], $3::text[], $4::text[]) WITH ORDINALITY
                                AS wave (label, plan, region, number)
                          WHERE (wave.label IS NULL OR live.labels @> wave.label)
                            AND (wave.plan IS NULL OR live.plan = wave.plan)
                            AND (wave.region IS NULL OR live.region = wave.region)) AS meant
                   FROM live WHERE is_target
             )
             SELECT coalesce(array_agg(id ORDER BY draw, id), '{}') AS tenants,
                    coalesce(array_agg(schema_version ORDER BY draw, id), '{}') AS versions,
                    coalesce(array_agg(coalesce(meant, 0) ORDER BY draw, id), '{}') AS meant,
                    (SELECT count(*) FROM live WHERE NOT is_target) AS already
               FROM target",
            &[&set.as_str(), &labels, &plans, &regions, &verify],
        )
        .await?;
        let tenants: Vec<Uuid> = get(&row, "tenants")?;
        let versions: Vec<i64> = get(&row, "versions")?;
        let meant: Vec<u64> = get::<Vec<i64>>(&row, "meant")?.into_iter().map(i64::cast_unsigned).collect();
        let spread = waves.spread(&meant);
        let tenants = tenants.into_iter().zip(versions).zip(spread).map(|((tenant, version), wave)| {
            ProspectiveTarget { tenant: TenantId::new(tenant), from_version: SchemaVersion(version), wave }
        });
        let already = u64::try_from(get::<i64>(&row, "already")?).map_err(StoreError::internal)?;
        Ok(RolloutProspect { tenants: tenants.collect(), already })
    }
}

impl Store {
    /// Where some tenants live, those that live nowhere left out; in no particular order.
    pub async fn prospective_homes(&self, tenants: &[TenantId]) -> Result<Vec<ProspectiveHome>, StoreError> {
        let ids: Vec<Uuid> = tenants.iter().map(|tenant| tenant.as_uuid()).collect();
        let rows = query(
            &*self.client().await?,
            "SELECT tenant.id, tenant.slug, home.id AS home, home.cluster, home.isolation, home.database_name,
                    home.schema_name FROM tenant
               JOIN placement ON placement.tenant = tenant.id AND placement.until IS NULL
               JOIN home ON home.id = placement.home
              WHERE tenant.id = ANY ($1)",
            &[&ids],
        )
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ProspectiveHome {
                    tenant: TenantId::new(get(row, "id")?),
                    slug: parsed(row, "slug")?,
                    home: read_home(row, HomeId::new(get(row, "home")?), "cluster", "isolation")?,
                })
            })
            .collect()
    }
}
