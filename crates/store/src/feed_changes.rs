//! What a transaction does to the route feed, and the versions that its changes get when it commits.

use std::collections::HashMap;

use tenantry_domain::{ClusterId, Generation, HomeId, RouteState, TenantId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::connection::Connection;
use crate::error::StoreError;
use crate::transaction::Tx;

/// What the open transaction will do to the feed, kept until its commit. Later wishes for one tenant replace earlier
/// ones, so each tenant gets one version.
#[derive(Debug, Default)]
pub(crate) struct FeedChanges {
    routes: Vec<TenantId>,
    wishes: HashMap<TenantId, Wish>,
    clusters: Vec<ClusterId>,
}

#[derive(Debug, Clone, Copy)]
enum Wish {
    Publish { state: RouteState, generation: Generation, home: Option<HomeId> },
    Touch,
    Remove,
}

/// The clock is advanced first, which waits for every earlier change to commit; then each change takes its number. How
/// many there are is kept from the planner, who would plan anew each time.
const ADVANCE: &str = "
    WITH clock AS (
        UPDATE feed_clock SET version = version + $1 RETURNING version, version - $1 AS base
    ), change AS (
        SELECT * FROM unnest((SELECT $2::uuid[]), $3::text[], $4::bigint[], $5::uuid[]) WITH ORDINALITY
                   AS wish (tenant, state, generation, home, position)
    ), published AS (
        INSERT INTO route (tenant, version, state, generation, home, removed_at)
        SELECT tenant, base + position, state, generation, home, CASE state WHEN 'removed' THEN now() END
          FROM change CROSS JOIN clock WHERE state IS NOT NULL
        ON CONFLICT (tenant) DO UPDATE
           SET version = excluded.version, state = excluded.state, home = excluded.home,
               generation = CASE excluded.state WHEN 'removed' THEN route.generation ELSE excluded.generation END,
               removed_at = excluded.removed_at
    ), touched AS (
        UPDATE route SET version = base + position FROM change CROSS JOIN clock
         WHERE change.state IS NULL AND route.tenant = change.tenant AND route.state <> 'removed'
    ), moved AS (
        UPDATE cluster SET version = base + cardinality($2::uuid[]) + position
          FROM unnest((SELECT $6::uuid[])) WITH ORDINALITY AS wish (id, position) CROSS JOIN clock
         WHERE cluster.id = wish.id
    )
    SELECT pg_notify('tenantry', 'feed:' || version) FROM clock";

impl FeedChanges {
    pub(crate) fn is_empty(&self) -> bool {
        self.routes.is_empty() && self.clusters.is_empty()
    }

    fn wish(&mut self, tenant: TenantId, wish: Wish) {
        match (self.wishes.get(&tenant), wish) {
            (Some(_), Wish::Touch) => {}
            (Some(_), wish) => {
                self.wishes.insert(tenant, wish);
            }
            (None, wish) => {
                self.routes.push(tenant);
                self.wishes.insert(tenant, wish);
            }
        }
    }

    pub(crate) fn cluster(&mut self, cluster: ClusterId) {
        if !self.clusters.contains(&cluster) {
            self.clusters.push(cluster);
        }
    }

    /// Draws the versions and commits, in one round trip: the clock is held for as short as can be.
    pub(crate) async fn commit(self, client: &Connection) -> Result<(), StoreError> {
        let statement = client.prepare_cached(ADVANCE).await?;
        let count = i64::try_from(self.routes.len() + self.clusters.len()).map_err(StoreError::internal)?;
        let tenants: Vec<Uuid> = self.routes.iter().map(|tenant| tenant.as_uuid()).collect();
        let wishes: Vec<Wish> = self.routes.iter().map(|tenant| self.wishes[tenant]).collect();
        let states: Vec<Option<&str>> = wishes
            .iter()
            .map(|wish| match wish {
                Wish::Publish { state, .. } => Some(state.as_str()),
                Wish::Touch => None,
                Wish::Remove => Some("removed"),
            })
            .collect();
        let generations: Vec<i64> = wishes
            .iter()
            .map(|wish| match wish {
                Wish::Publish { generation, .. } => generation.0,
                Wish::Touch | Wish::Remove => 0,
            })
            .collect();
        let homes: Vec<Option<Uuid>> = wishes
            .iter()
            .map(|wish| match wish {
                Wish::Publish { home, .. } => home.map(HomeId::as_uuid),
                Wish::Touch | Wish::Remove => None,
            })
            .collect();
        let clusters: Vec<Uuid> = self.clusters.iter().map(|cluster| cluster.as_uuid()).collect();
        let parameters: [&(dyn ToSql + Sync); 6] = [&count, &tenants, &states, &generations, &homes, &clusters];
        // Polled in this order, and each is sent when it is first polled. Should the first fail, the COMMIT finds an
        // aborted transaction and rolls it back.
        let (advanced, committed) =
            futures::future::join(client.query(&statement, &parameters), client.batch_execute("COMMIT")).await;
        advanced?;
        Ok(committed?)
    }
}

impl Tx {
    /// Makes this the tenant's route at the commit. A generation lower than the published one fails the commit.
    #[allow(clippy::unused_async, reason = "writes of a transaction look alike, whenever they are sent")]
    pub async fn publish_route(
        &mut self,
        tenant: TenantId,
        state: RouteState,
        generation: Generation,
        home: Option<HomeId>,
    ) -> Result<(), StoreError> {
        self.feed().wish(tenant, Wish::Publish { state, generation, home });
        Ok(())
    }

    /// Tells routers at the commit that something behind the route changed: limits, schema version, credentials.
    #[allow(clippy::unused_async, reason = "writes of a transaction look alike, whenever they are sent")]
    pub async fn touch_route(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.feed().wish(tenant, Wish::Touch);
        Ok(())
    }

    /// Takes the tenant's route away at the commit; a mark stays, so that routers hear of it.
    #[allow(clippy::unused_async, reason = "writes of a transaction look alike, whenever they are sent")]
    pub async fn remove_route(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        self.feed().wish(tenant, Wish::Remove);
        Ok(())
    }
}
