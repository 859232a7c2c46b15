//! Operations: who may do the work.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tenantry_domain::{OperationState, Tenancy};
use tenantry_store::{Notice, StoreError};
use uuid::Uuid;

use crate::catalog::{Catalog, new_operation};

const LONG: Duration = Duration::from_mins(1);

async fn queue(catalog: &Catalog, count: usize) -> HashSet<tenantry_domain::OperationId> {
    let tx = catalog.begin().await;
    let mut ids = HashSet::new();
    for _ in 0..count {
        let operation = new_operation(None);
        tx.insert_operation(&operation).await.unwrap();
        ids.insert(operation.id);
    }
    tx.commit().await.unwrap();
    ids
}

#[tokio::test]
async fn workers_that_race_never_get_the_same_operation() {
    let catalog = Catalog::new().await;
    let mut queued = queue(&catalog, 60).await;
    let workers = (0..8).map(|_| async {
        let owner = Uuid::now_v7();
        let mut got = Vec::new();
        while let Some(claimed) = catalog.store.claim_operation(owner, LONG).await.unwrap() {
            assert_eq!(claimed.operation.state, OperationState::Running);
            got.push(claimed.operation.id);
        }
        got
    });
    for id in futures::future::join_all(workers).await.into_iter().flatten() {
        assert!(queued.remove(&id), "{id} was claimed twice");
    }
    // A worker that met only locked rows stops early; what is left is still there to be claimed.
    while let Some(claimed) = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap() {
        assert!(queued.remove(&claimed.operation.id));
    }
    assert!(queued.is_empty());
}

#[tokio::test]
async fn a_worker_whose_lease_ran_out_and_was_taken_can_write_nothing() {
    let catalog = Catalog::new().await;
    queue(&catalog, 1).await;
    let slow = catalog.store.claim_operation(Uuid::now_v7(), Duration::ZERO).await.unwrap().unwrap();
    let quick = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().expect("the lease ran out");
    assert_eq!(quick.operation.id, slow.operation.id);
    assert!(quick.lease.epoch > slow.lease.epoch);
    let lost = &slow.lease;
    assert!(matches!(catalog.store.renew_lease(lost, LONG).await, Err(StoreError::LeaseLost)));
    let tx = catalog.begin().await;
    assert!(matches!(tx.guard(lost).await, Err(StoreError::LeaseLost)));
    assert!(matches!(tx.advance(lost, Some("next"), &json!({})).await, Err(StoreError::LeaseLost)));
    let later = tx.retry_later(lost, Timestamp::now(), &json!({}), 1).await;
    assert!(matches!(later, Err(StoreError::LeaseLost)));
    for state in [OperationState::Undoing, OperationState::Parked, OperationState::Succeeded] {
        assert!(matches!(tx.set_state(lost, state, None).await, Err(StoreError::LeaseLost)));
    }
    assert!(matches!(tx.release_lease(lost).await, Err(StoreError::LeaseLost)));
    tx.commit().await.unwrap();
    // The same replica under an older epoch is another owner too.
    let forged = tenantry_store::Lease { owner: quick.lease.owner, ..slow.lease };
    assert!(matches!(catalog.store.renew_lease(&forged, LONG).await, Err(StoreError::LeaseLost)));

    catalog.store.renew_lease(&quick.lease, LONG).await.unwrap();
    let tx = catalog.begin().await;
    tx.guard(&quick.lease).await.unwrap();
    tx.advance(&quick.lease, Some("next"), &json!({ "a": 1 })).await.unwrap();
    tx.record_event(quick.operation.id, "step_done", Some("first"), &json!({})).await.unwrap();
    tx.commit().await.unwrap();
    let operation = catalog.store.operation(quick.operation.id).await.unwrap();
    assert_eq!((operation.step.as_deref(), &operation.progress), (Some("next"), &json!({ "a": 1 })));
}

#[tokio::test]
async fn an_operation_that_waits_is_claimed_when_it_is_due_and_not_before() {
    let catalog = Catalog::new().await;
    queue(&catalog, 1).await;
    let claimed = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().unwrap();
    let at = Timestamp::now() + Duration::from_hours(1);
    let tx = catalog.begin().await;
    tx.retry_later(&claimed.lease, at, &json!({ "reason": "not now" }), 3).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().is_none());
    let due = catalog.store.next_due().await.unwrap().expect("it waits");
    assert_eq!(due.as_microsecond(), at.as_microsecond());
    let operation = catalog.store.operation(claimed.operation.id).await.unwrap();
    assert_eq!((operation.state, operation.attempt), (OperationState::Waiting, 3));
    let tx = catalog.begin().await;
    tx.request_cancel(operation.id).await.unwrap();
    tx.commit().await.unwrap();
    let woken = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().expect("a cancellation wakes it");
    assert!(woken.operation.cancel_requested);
    let tx = catalog.begin().await;
    tx.release_lease(&woken.lease).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().is_some());
}

#[tokio::test]
async fn an_operation_that_was_parked_while_walking_back_goes_on_walking_back() {
    let catalog = Catalog::new().await;
    queue(&catalog, 1).await;
    let claimed = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().unwrap();
    let id = claimed.operation.id;
    let tx = catalog.begin().await;
    tx.set_state(&claimed.lease, OperationState::Undoing, Some(json!({ "reason": "why" }))).await.unwrap();
    tx.guard(&claimed.lease).await.expect("undoing keeps the lease");
    tx.set_state(&claimed.lease, OperationState::Parked, Some(json!({ "reason": "why" }))).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().is_none());

    let tx = catalog.begin().await;
    assert!(matches!(tx.skip_to(id, "later").await, Err(StoreError::Conflict { .. })));
    tx.requeue(id, None).await.unwrap();
    tx.commit().await.unwrap();
    let claimed = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().unwrap();
    assert_eq!(claimed.operation.state, OperationState::Undoing);
    assert_eq!(claimed.operation.error, Some(json!({ "reason": "why" })));

    let tx = catalog.begin().await;
    tx.set_state(&claimed.lease, OperationState::Failed, Some(json!({}))).await.unwrap();
    tx.requeue(id, Some(&json!({ "home": "new" }))).await.unwrap();
    tx.commit().await.unwrap();
    let operation = catalog.store.operation(id).await.unwrap();
    assert_eq!((operation.state, operation.step, operation.finished_at), (OperationState::Queued, None, None));
}

#[tokio::test]
async fn a_tenant_has_one_unfinished_operation() {
    let catalog = Catalog::new().await;
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let acme = catalog.plan_tenant("acme", cluster).await;
    let tx = catalog.begin().await;
    let second = tx.insert_operation(&new_operation(Some(acme.tenant))).await;
    assert!(matches!(second, Err(StoreError::Conflict { .. })), "{second:?}");
    drop(tx);
    catalog.finish(acme.operation).await;
    let tx = catalog.begin().await;
    tx.insert_operation(&new_operation(Some(acme.tenant))).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn events_are_listed_in_order_and_never_changed() {
    let catalog = Catalog::new().await;
    let id = queue(&catalog, 1).await.into_iter().next().unwrap();
    let tx = catalog.begin().await;
    for number in 0..5 {
        tx.record_event(id, "noted", None, &json!({ "number": number })).await.unwrap();
    }
    tx.commit().await.unwrap();
    let first = catalog.store.operation_events(id, 0, 3).await.unwrap();
    let rest = catalog.store.operation_events(id, first[2].id, 100).await.unwrap();
    let kinds: Vec<&str> = first.iter().chain(&rest).map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["queued", "noted", "noted", "noted", "noted", "noted"]);
    let superuser = catalog.superuser().await;
    for sql in [
        "UPDATE operation_event SET kind = 'forged'",
        "DELETE FROM operation_event",
        "SET tenantry.purge = 'on'; DELETE FROM operation_event",
        "TRUNCATE operation_event",
    ] {
        assert!(superuser.batch_execute(sql).await.is_err(), "{sql}");
    }
}

#[tokio::test]
async fn listeners_hear_of_new_operations_and_of_lost_connections() {
    let catalog = Catalog::new().await;
    let mut listener = catalog.store.listen();
    assert_eq!(listener.recv().await, Notice::Reconnected);
    let id = queue(&catalog, 1).await.into_iter().next().unwrap();
    assert_eq!(listener.recv().await, Notice::Queued(id));
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    catalog.superuser().await.query_one(end, &[]).await.unwrap();
    assert_eq!(listener.recv().await, Notice::Reconnected);
    let id = queue(&catalog, 1).await.into_iter().next().unwrap();
    assert_eq!(listener.recv().await, Notice::Queued(id));
}

#[tokio::test]
async fn a_step_is_not_noted_as_done_where_walking_back_was_asked_for_and_still_can_be() {
    let catalog = Catalog::new().await;
    queue(&catalog, 1).await;
    let claimed = catalog.store.claim_operation(Uuid::now_v7(), LONG).await.unwrap().unwrap();
    let (id, lease) = (claimed.operation.id, claimed.lease);
    let complete = async |lease: &tenantry_store::Lease, can_be_walked_back| {
        let tx = catalog.begin().await;
        let completed = tx.complete_step(lease, "one", Some("two"), &json!({}), can_be_walked_back).await;
        tx.commit().await.unwrap();
        completed
    };
    assert!(complete(&lease, true).await.unwrap());
    let tx = catalog.begin().await;
    tx.request_cancel(id).await.unwrap();
    tx.commit().await.unwrap();
    let before = catalog.store.operation_events(id, 0, 100).await.unwrap().len();
    assert!(!complete(&lease, true).await.unwrap());
    assert_eq!(catalog.store.operation_events(id, 0, 100).await.unwrap().len(), before, "nothing is written");
    assert!(complete(&lease, false).await.unwrap(), "behind the pivot it goes on");
    catalog.store.check_lease(&lease).await.unwrap();

    let lost = tenantry_store::Lease { epoch: lease.epoch - 1, ..lease };
    assert!(matches!(complete(&lost, true).await, Err(StoreError::LeaseLost)));
    assert!(matches!(complete(&lost, false).await, Err(StoreError::LeaseLost)));
    assert!(matches!(catalog.store.check_lease(&lost).await, Err(StoreError::LeaseLost)));
}
