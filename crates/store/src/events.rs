//! The table `webhook_event`: what happened, written together with the change it tells of.

use serde_json::{Value, json};
use tenantry_domain::{ClusterId, EventId, EventKind, OperationId, TenantId, WebhookId};
use uuid::Uuid;

use crate::error::StoreError;
use crate::row::query;
use crate::transaction::Tx;

/// What the one who delivers is woken as, in the catalog's notifications.
pub const WEBHOOKS_WAKE: &str = "webhooks";

/// Something that happened, to be told to whoever wants to hear of it.
///
/// What it is about (tenant, cluster, operation) is described as it is in this transaction, so emit after the change.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// What.
    pub kind: EventKind,
    /// To which tenant.
    pub tenant: Option<TenantId>,
    /// To which cluster.
    pub cluster: Option<ClusterId>,
    /// By or to which operation.
    pub operation: Option<OperationId>,
    /// What else there is to know: an object, free of secrets.
    pub detail: Value,
}

impl NewEvent {
    /// Something that happened to a tenant.
    pub fn of_tenant(kind: EventKind, tenant: TenantId) -> Self {
        Self { kind, tenant: Some(tenant), cluster: None, operation: None, detail: json!({}) }
    }

    /// Something that happened to a cluster.
    pub fn of_cluster(kind: EventKind, cluster: ClusterId) -> Self {
        Self { kind, tenant: None, cluster: Some(cluster), operation: None, detail: json!({}) }
    }

    /// The same, by that operation.
    #[must_use]
    pub fn by(self, operation: OperationId) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// The same, with more to know.
    #[must_use]
    pub fn with(self, detail: Value) -> Self {
        Self { detail, ..self }
    }
}

impl Tx {
    /// Tells every webhook that wants to hear of it, once this commits. Writes nothing where none does.
    pub async fn emit(&self, event: &NewEvent) -> Result<(), StoreError> {
        insert(self, event, &[event.tenant], None).await
    }

    /// The same thing happened to many tenants.
    pub async fn emit_to_all(&self, event: &NewEvent, tenants: &[TenantId]) -> Result<(), StoreError> {
        if tenants.is_empty() {
            return Ok(());
        }
        let tenants: Vec<Option<TenantId>> = tenants.iter().copied().map(Some).collect();
        insert(self, event, &tenants, None).await
    }

    /// Something for one webhook alone, whatever it wants to hear of.
    pub async fn emit_only_to(&self, event: &NewEvent, webhook: WebhookId) -> Result<(), StoreError> {
        insert(self, event, &[event.tenant], Some(webhook)).await
    }
}

async fn insert(
    tx: &Tx,
    event: &NewEvent,
    tenants: &[Option<TenantId>],
    only: Option<WebhookId>,
) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = tenants.iter().map(|_| EventId::new(Uuid::now_v7()).as_uuid()).collect();
    let tenants: Vec<Option<Uuid>> = tenants.iter().map(|tenant| tenant.map(TenantId::as_uuid)).collect();
    query(
        tx.client()?,
        "WITH wanted AS (
             SELECT id FROM webhook
              WHERE enabled AND CASE WHEN $7::uuid IS NULL THEN events = '{}' OR $1 = ANY (events) ELSE id = $7 END
         ), happened AS (
             INSERT INTO webhook_event (id, kind, tenant, cluster, operation, about, detail)
             SELECT new.id, $1, new.tenant, $4, $5,
                    jsonb_strip_nulls(jsonb_build_object(
                        'tenant', (SELECT jsonb_build_object(
                                'id', t.id, 'slug', t.slug, 'name', t.name, 'status', t.status,
                                'status_reason', t.status_reason, 'plan', t.plan, 'region', t.region,
                                'isolation', t.isolation, 'parent', t.parent, 'labels', t.labels,
                                'schema_version', t.schema_version, 'generation', t.generation)
                           FROM tenant t WHERE t.id = new.tenant),
                        'cluster', (SELECT jsonb_build_object('id', c.id, 'name', c.name, 'region', c.region)
                           FROM cluster c WHERE c.id = $4),
                        'operation', (SELECT jsonb_build_object('id', o.id, 'kind', o.kind, 'state', o.state, 'step', o.step)
                           FROM operation o WHERE o.id = $5))),
                    $6
               FROM unnest($2::uuid[], $3::uuid[]) AS new (id, tenant)
              WHERE EXISTS (SELECT FROM wanted)
             RETURNING id, tenant, sequence
         ), queued AS (
             INSERT INTO webhook_delivery (id, webhook, event, tenant, sequence)
             SELECT gen_random_uuid(), wanted.id, happened.id, happened.tenant, happened.sequence
               FROM happened CROSS JOIN wanted ORDER BY happened.sequence
             RETURNING id
         )
         SELECT pg_notify('tenantry', 'reconciler:' || $8) WHERE EXISTS (SELECT FROM queued)",
        &[
            &event.kind.as_str(),
            &ids,
            &tenants,
            &event.cluster.map(ClusterId::as_uuid),
            &event.operation.map(OperationId::as_uuid),
            &event.detail,
            &only.map(WebhookId::as_uuid),
            &WEBHOOKS_WAKE,
        ],
    )
    .await
    .map(drop)
}
