//! Taking a world down, and proving that nothing is left of it.

use tenantry_api::{CommaSeparated, ListTenants, Tenant};
use tenantry_domain::TenantStatus;
use tenantry_testkit::eventually;

use super::World;
use crate::traces::Traces;

impl World<'_> {
    /// Deletes every tenant, those below others first, and removes every cluster. Fails where an operation is unfinished, or where a database or
    /// role is left that was made for this world.
    pub async fn end(self) {
        let mut living = self.living().await;
        while !living.is_empty() {
            let has_children = |tenant: &Tenant| living.iter().any(|other| other.parent == Some(tenant.id));
            let (above, leaves): (Vec<_>, Vec<_>) = living.clone().into_iter().partition(|tenant| has_children(tenant));
            for tenant in leaves {
                self.delete(&tenant).await;
            }
            living = above;
        }
        for managed in &self.clusters {
            self.client.cordon_cluster(&managed.cluster.id.into()).await.expect("a cordoned cluster");
        }
        let catalog = self.catalog_client().await;
        // A cordoned cluster keeps no homes for tenants to come.
        eventually("the warm pool is empty", async || {
            let sql = "SELECT NOT EXISTS (SELECT FROM home WHERE tenant IS NULL AND state <> 'released')
                          AND NOT EXISTS (SELECT FROM operation WHERE finished_at IS NULL AND state <> 'parked'
                                             AND kind IN ('prepare_home', 'drop_home'))";
            catalog.query_one(sql, &[]).await.expect("a look at the homes").get(0)
        })
        .await;
        let sql =
            "SELECT kind || ' ' || state || ' at ' || coalesce(step, 'its start') || ': ' || coalesce(error::text, '')
                   FROM operation WHERE finished_at IS NULL";
        let rows = catalog.query(sql, &[]).await.expect("a look at the operations");
        let unfinished: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert!(unfinished.is_empty(), "operations are left: {unfinished:?}");

        self.assert_nothing_orphaned().await;
        let prefixes = Traces::prefixes(&catalog).await;
        for managed in &self.clusters {
            let cluster = managed.cluster.id.into();
            let removed = self.client.delete_cluster(&cluster).await;
            removed.unwrap_or_else(|error| panic!("{}: {error}", managed.cluster.name));
            let server = self.root(&managed.cluster, "postgres").await;
            let left = Traces::on_server(&server, &prefixes, &managed.admin.login.name).await;
            assert!(left.is_empty(), "left on {}: {left:?}", managed.cluster.name);
        }
        drop(catalog);
        for replica in self.replicas {
            replica.stop().await;
        }
        drop(self.store);
        self.homes.end().await;
        self.catalog.end().await;
    }

    /// Every tenant that is not deleted, whatever else it is.
    async fn living(&self) -> Vec<Tenant> {
        let mut living = Vec::new();
        let mut list = ListTenants {
            status: CommaSeparated(vec![
                TenantStatus::Active,
                TenantStatus::Failed,
                TenantStatus::Suspended,
                TenantStatus::Deleting,
            ]),
            ..ListTenants::default()
        };
        loop {
            let page = self.client.list_tenants(&list).await.expect("a page of tenants");
            living.extend(page.items);
            if page.next.is_none() {
                return living;
            }
            list.cursor = page.next;
        }
    }
}
