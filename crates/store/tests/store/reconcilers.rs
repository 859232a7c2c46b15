//! Upkeep is done by one replica at a time, and asked for in between.

use std::time::Duration;

use serde_json::json;
use tenantry_store::ReconcilerTurn;
use uuid::Uuid;

use crate::catalog::Catalog;

const HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn a_pass_belongs_to_one_replica_and_is_due_again_after_its_pause() {
    let catalog = Catalog::new().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let store = &catalog.store;
    assert_eq!(store.take_reconciler("upkeep", one, HOUR).await.unwrap(), ReconcilerTurn::Taken);
    assert!(matches!(store.take_reconciler("upkeep", other, HOUR).await.unwrap(), ReconcilerTurn::NotBefore(_)));
    // Whoever has no lease ends nothing.
    store.finish_reconciler("upkeep", other, Duration::ZERO, Err("not mine")).await.unwrap();
    assert_eq!(store.reconcilers().await.unwrap()[0].ran_at, None);
    store.finish_reconciler("upkeep", one, HOUR, Ok(&json!({ "seen": 3 }))).await.unwrap();
    assert!(matches!(store.take_reconciler("upkeep", other, HOUR).await.unwrap(), ReconcilerTurn::NotBefore(_)));
    let record = &store.reconcilers().await.unwrap()[0];
    assert_eq!((record.report.clone(), record.error.clone()), (Some(json!({ "seen": 3 })), None));
}

#[tokio::test]
async fn a_poke_during_a_pass_leads_to_another_and_a_lost_lease_is_taken_over() {
    let catalog = Catalog::new().await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let store = &catalog.store;
    assert_eq!(store.take_reconciler("upkeep", one, HOUR).await.unwrap(), ReconcilerTurn::Taken);
    let tx = store.begin().await.unwrap();
    tx.poke_reconciler("upkeep").await.unwrap();
    tx.commit().await.unwrap();
    store.finish_reconciler("upkeep", one, HOUR, Err("the cluster was away")).await.unwrap();
    assert_eq!(store.take_reconciler("upkeep", other, Duration::ZERO).await.unwrap(), ReconcilerTurn::Taken);
    assert_eq!(store.take_reconciler("upkeep", one, HOUR).await.unwrap(), ReconcilerTurn::Taken);
    store.release_reconciler("upkeep", one).await.unwrap();
    assert_eq!(store.take_reconciler("upkeep", other, HOUR).await.unwrap(), ReconcilerTurn::Taken);
}
