//! Whether the catalog agrees with itself. Each check is one statement, and so sees one moment.

use tenantry_domain::{ClusterId, Generation, Home, HomeId, LoginSlot, TenantId, TenantStatus};
use uuid::Uuid;

use crate::cursor::{Page, PageRequest};
use crate::error::StoreError;
use crate::homes::{parse_slot, read_home};
use crate::row::{get, parsed, query, query_one};
use crate::store::Store;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogFinding {
    /// The check that found it.
    pub check: &'static str,
    /// About what.
    pub subject: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// A home in which a tenant lives while nobody works on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeAtRest {
    /// The home.
    pub home: Home,
    /// Which login role is in use.
    pub login: LoginSlot,
    /// Who lives there.
    pub tenant: TenantId,
    /// Its slug, for people.
    pub slug: String,
    /// What it is.
    pub status: TenantStatus,
    /// Since which generation it lives there.
    pub generation: Generation,
}

/// Names and statements, each of which answers with subject and message; the first hundred findings say enough.
const CHECKS: &[(&str, &str)] = &[
    (
        "parked_operations",
        "SELECT 'operation/' || id, kind || ' is parked at ' || coalesce(step, 'its start') || ': '
                || coalesce(error ->> 'message', 'no reason given') || '; retry, skip or abandon it'
           FROM operation WHERE state = 'parked' ORDER BY id LIMIT 100",
    ),
    (
        "stuck_operations",
        "SELECT 'operation/' || id, kind || ' is ' || state || ' and was due at ' || greatest(next_run_at, lease_until)
                || ', but nobody works on it; see that a control plane runs'
           FROM operation WHERE state IN ('queued', 'running', 'waiting', 'undoing')
            AND greatest(next_run_at, lease_until) < clock_timestamp() - interval '5 minutes' ORDER BY id LIMIT 100",
    ),
    (
        "unattended_tenants",
        "SELECT 'tenant/' || slug, 'it is ' || status || ', but no operation makes it anything else; delete or retry it'
           FROM tenant t WHERE status IN ('provisioning', 'deleting', 'moving')
            AND NOT EXISTS (SELECT FROM operation o WHERE o.id = t.operation AND o.finished_at IS NULL)
          ORDER BY id LIMIT 100",
    ),
    (
        "routes",
        "SELECT 'tenant/' || t.slug, format('the tenant is %s at generation %s, its route %s at %s', t.status, t.generation,
                coalesce(r.state, 'missing'), r.generation)
           FROM tenant t LEFT JOIN route r ON r.tenant = t.id
                LEFT JOIN placement p ON p.tenant = t.id AND p.until IS NULL
          WHERE t.status IN ('active', 'suspended', 'moving')
            AND (r.state, r.generation, r.home) IS DISTINCT FROM (t.status, t.generation, p.home)
             OR t.status = 'deleted' AND r.state <> 'removed' ORDER BY t.id LIMIT 100",
    ),
    (
        "planned_resources",
        "SELECT r.kind || '/' || r.name, 'it is planned, but the operation that would make it is over; delete its tenant'
           FROM resource r JOIN operation o ON o.id = r.operation LEFT JOIN home h ON h.id = r.home
          WHERE r.state = 'planned' AND o.finished_at IS NOT NULL
            AND NOT EXISTS (SELECT FROM operation later WHERE later.finished_at IS NULL
                               AND (later.tenant = o.tenant OR later.input ->> 'home' = r.home::text))
          ORDER BY r.id LIMIT 100",
    ),
    (
        "homes",
        "SELECT 'home/' || h.id, 'it is ' || h.state || ', but no tenant lives in it and nobody works on it'
           FROM home h WHERE h.state IN ('ready', 'claimed', 'retired')
            AND NOT EXISTS (SELECT FROM placement p WHERE p.home = h.id AND p.until IS NULL)
            AND NOT EXISTS (SELECT FROM operation o WHERE o.finished_at IS NULL
                               AND (o.tenant = h.tenant OR o.input ->> 'home' = h.id::text))
          ORDER BY h.id LIMIT 100",
    ),
    (
        "feed_clock",
        "SELECT 'feed', format('a route has version %s, the clock says %s', max(r.version), c.version)
           FROM feed_clock c, route r GROUP BY c.version HAVING max(r.version) > c.version",
    ),
    (
        "cluster_counts",
        "SELECT 'cluster/' || c.name, format('it counts %s homes and %s databases; there are %s and %s',
                c.homes, c.databases, n.homes, n.databases + s.number)
           FROM cluster c,
                LATERAL (SELECT count(*) AS homes, count(*) FILTER (WHERE h.shared_database IS NULL) AS databases
                           FROM home h WHERE h.cluster = c.id AND h.state <> 'released') AS n,
                LATERAL (SELECT count(*) AS number FROM shared_database d WHERE d.cluster = c.id) AS s
          WHERE c.retired_at IS NULL AND (c.homes, c.databases) <> (n.homes, n.databases + s.number) LIMIT 100",
    ),
    (
        "reconcilers",
        "SELECT 'reconciler/' || name, 'its last pass failed: ' || error FROM reconciler WHERE error IS NOT NULL LIMIT 100",
    ),
];

/// Rows that the checks look at.
const CHECKED: &str =
    "SELECT (SELECT count(*) FROM tenant) + (SELECT count(*) FROM operation WHERE finished_at IS NULL)
    + (SELECT count(*) FROM home WHERE state <> 'released') + (SELECT count(*) FROM route)
    + (SELECT count(*) FROM resource WHERE state <> 'dropped') + (SELECT count(*) FROM reconciler) AS checked";

impl Store {
    /// Everything in the catalog that contradicts itself or needs a person, and how many rows were looked at.
    pub async fn examine(&self) -> Result<(u64, Vec<CatalogFinding>), StoreError> {
        let client = self.client().await?;
        let mut findings = Vec::new();
        for (check, sql) in CHECKS {
            for row in query(&client, sql, &[]).await? {
                let text = |column| row.try_get::<usize, String>(column).map_err(StoreError::from);
                findings.push(CatalogFinding { check, subject: text(0)?, message: text(1)? });
            }
        }
        let checked: i64 = get(&query_one(&client, CHECKED, &[]).await?, "checked")?;
        Ok((checked.unsigned_abs(), findings))
    }

    /// A page of homes on a cluster whose tenants nobody works on, in the order of their ids.
    pub async fn homes_at_rest(&self, cluster: ClusterId, page: &PageRequest) -> Result<Page<HomeAtRest>, StoreError> {
        let rows = query(
            &*self.client().await?,
            "SELECT h.*, p.since, t.id AS tenant_id, t.slug, t.status
               FROM home h JOIN placement p ON p.home = h.id AND p.until IS NULL JOIN tenant t ON t.id = p.tenant
              WHERE h.cluster = $1 AND h.state = 'ready' AND t.status IN ('active', 'suspended')
                AND ($2::uuid IS NULL OR h.id > $2)
                AND NOT EXISTS (SELECT FROM operation o WHERE o.tenant = t.id AND o.finished_at IS NULL)
              ORDER BY h.id LIMIT $3",
            &[&cluster.as_uuid(), &page.after_id()?, &page.probe()],
        )
        .await?;
        let homes = rows.iter().map(|row| {
            Ok(HomeAtRest {
                home: read_home(row, HomeId::new(get::<Uuid>(row, "id")?), "cluster", "isolation")?,
                login: parse_slot(get(row, "login_slot")?)?,
                tenant: TenantId::new(get(row, "tenant_id")?),
                slug: get(row, "slug")?,
                status: parsed(row, "status")?,
                generation: Generation(get(row, "since")?),
            })
        });
        Ok(page.page(homes.collect::<Result<_, StoreError>>()?, |it: &HomeAtRest| it.home.id.to_string()))
    }
}
