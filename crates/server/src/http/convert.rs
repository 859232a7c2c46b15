//! From the contract's words to the use-cases' and back.

use jiff::Timestamp;
use tenantry_api::{self as api, ClusterRef, PageLimit, Patch, TenantRef};
use tenantry_control::records::{self, PageRequest};
use tenantry_control::{Caller, Control, ControlError, clusters, tenants};
use tenantry_domain::{ClusterId, InvalidName, TenantId, UNLEASED_CONNECTIONS};

use super::problem::Refusal;

pub(crate) fn tenant_ref(tenant: TenantRef) -> records::TenantRef {
    match tenant {
        TenantRef::Id(id) => records::TenantRef::Id(id),
        TenantRef::Slug(slug) => records::TenantRef::Slug(slug),
    }
}

pub(crate) fn cluster_ref(cluster: ClusterRef) -> records::ClusterRef {
    match cluster {
        ClusterRef::Id(id) => records::ClusterRef::Id(id),
        ClusterRef::Name(name) => records::ClusterRef::Name(name),
    }
}

/// The tenant that a filter names. By slug, the caller must be allowed to look it up.
pub(crate) async fn tenant_filter(
    control: &Control,
    caller: &Caller,
    pointer: &str,
    tenant: Option<TenantRef>,
) -> Result<Option<TenantId>, Refusal> {
    match tenant {
        None => Ok(None),
        Some(TenantRef::Id(id)) => Ok(Some(id)),
        Some(slug @ TenantRef::Slug(_)) => match tenants::show(control, caller, &tenant_ref(slug)).await {
            Ok(tenant) => Ok(Some(tenant.id)),
            Err(error) => Err(unknown(pointer, error)),
        },
    }
}

/// The cluster that a filter names. By name, the caller must be allowed to look it up.
pub(crate) async fn cluster_filter(
    control: &Control,
    caller: &Caller,
    cluster: Option<ClusterRef>,
) -> Result<Option<ClusterId>, Refusal> {
    match cluster {
        None => Ok(None),
        Some(ClusterRef::Id(id)) => Ok(Some(id)),
        Some(name @ ClusterRef::Name(_)) => match clusters::show(control, caller, &cluster_ref(name)).await {
            Ok(cluster) => Ok(Some(cluster.id)),
            Err(error) => Err(unknown("?cluster", error)),
        },
    }
}

/// The list is there; it is the filter that names nobody.
fn unknown(pointer: &str, error: ControlError) -> Refusal {
    match error {
        error @ ControlError::NotFound { .. } => Refusal::invalid(pointer, error.to_string()),
        error => error.into(),
    }
}

pub(crate) fn page_request(limit: Option<PageLimit>, cursor: Option<String>) -> PageRequest {
    PageRequest { limit: limit.unwrap_or_default().get().into(), cursor }
}

pub(crate) fn page<T, U>(page: records::Page<T>, item: impl FnMut(T) -> U) -> api::Page<U> {
    api::Page { items: page.items.into_iter().map(item).collect(), next: page.next }
}

/// A change of a whole: absent stays, null empties, a patch is merged into what is there.
pub(crate) fn merge<P: Clone, T: Default>(
    patch: &Patch<P>,
    apply: impl FnOnce(P) -> Result<T, InvalidName>,
) -> Result<Option<T>, InvalidName> {
    match patch {
        Patch::Keep => Ok(None),
        Patch::Clear => Ok(Some(T::default())),
        Patch::Set(patch) => apply(patch.clone()).map(Some),
    }
}

pub(crate) fn feed_cluster(cluster: records::ClusterRoute) -> api::FeedCluster {
    let replica = |replica: records::ReplicaRoute| api::FeedReplica {
        id: replica.id,
        host: replica.endpoint.host().to_owned(),
        port: replica.endpoint.port(),
        tls_mode: replica.tls_mode,
        tls_ca: replica.tls_ca,
        lag_max_ms: replica.lag_max,
    };
    api::FeedCluster {
        version: cluster.version,
        cluster: cluster.cluster,
        host: cluster.endpoint.host().to_owned(),
        port: cluster.endpoint.port(),
        tls_mode: cluster.tls_mode,
        tls_ca: cluster.tls_ca,
        replicas: cluster.replicas.into_iter().map(replica).collect(),
        unleased_connections: Some(UNLEASED_CONNECTIONS),
    }
}

pub(crate) fn operation(operation: records::Operation) -> api::Operation {
    let waits_until = operation.waits_until(Timestamp::now());
    api::Operation {
        id: operation.id,
        kind: operation.kind,
        tenant: operation.tenant,
        cluster: operation.cluster,
        state: operation.state,
        step: operation.step,
        attempt: operation.attempt,
        waits_until,
        held_by: operation.held_by,
        error: operation.error,
        cancel_requested: operation.cancel_requested,
        next_run_at: operation.next_run_at,
        deadline_at: operation.deadline_at,
        created_at: operation.created_at,
        updated_at: operation.updated_at,
        finished_at: operation.finished_at,
    }
}

pub(crate) fn operation_event(event: records::OperationEvent) -> api::OperationEvent {
    api::OperationEvent { id: event.id, at: event.at, kind: event.kind, step: event.step, detail: event.detail }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tenantry_api::UpdateTenant;
    use tenantry_domain::Labels;

    use super::*;

    #[test]
    fn a_patch_is_merged_null_empties_and_absent_stays() {
        let current = Labels::new(BTreeMap::from([("tier".to_owned(), "gold".to_owned())])).expect("valid");
        let merged = |body: &str| {
            let update: UpdateTenant = serde_json::from_str(body).expect("valid");
            merge(&update.labels, |patch| patch.apply(&current)).expect("few labels")
        };
        assert_eq!(merged("{}"), None);
        assert_eq!(merged(r#"{"labels": null}"#), Some(Labels::default()));
        let labels = merged(r#"{"labels": {"pilot": "yes"}}"#).expect("changed");
        assert_eq!(labels.as_map().keys().collect::<Vec<_>>(), ["pilot", "tier"]);
    }
}
