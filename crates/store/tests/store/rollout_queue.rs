//! Rollouts that wait their turn, and how far the fleet is from them.

use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{RolloutId, RolloutState, SchemaVersion};
use tenantry_store::{FleetVersion, NewRollout, StoreError};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::rollout_waves::waves;
use crate::rollouts::{LEASE, applied, finish, register, rollout, tenants};

async fn wait(catalog: &Catalog, new: &NewRollout) -> RolloutId {
    let tx = catalog.begin().await;
    tx.insert_rollout(new).await.unwrap();
    tx.commit().await.unwrap();
    new.id
}

/// Whose turn it is, and begins it.
async fn begin_next(catalog: &Catalog) -> Option<RolloutId> {
    let tx = catalog.begin().await;
    let next = tx.next_rollout().await.unwrap()?;
    tx.start_rollout(next.id).await.unwrap();
    tx.commit().await.unwrap();
    Some(next.id)
}

async fn change(catalog: &Catalog, id: RolloutId, state: RolloutState) {
    let tx = catalog.begin().await;
    tx.change_rollout(id, state).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn they_begin_one_after_the_other_by_priority_and_age_when_their_time_has_come() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 2).await;
    let set = register(&catalog, 1, 3).await;
    let new = || rollout(RolloutId::new(Uuid::now_v7()), &set, waves(&["all"]));
    let old = wait(&catalog, &new()).await;
    let young = wait(&catalog, &new()).await;
    let urgent = wait(&catalog, &NewRollout { priority: 5, ..new() }).await;
    let tomorrow = Some(Timestamp::now() + Duration::from_hours(24));
    let later = wait(&catalog, &NewRollout { priority: 9, not_before: tomorrow, ..new() }).await;
    let paused = wait(&catalog, &NewRollout { priority: 7, ..new() }).await;
    change(&catalog, paused, RolloutState::Paused).await;

    let record = catalog.store.rollout(urgent).await.unwrap();
    assert_eq!((record.began_at, record.counts.tally().targets), (None, 0), "whoever waits has no targets");
    assert!(catalog.store.open_rollout().await.unwrap().is_none());
    let tx = catalog.begin().await;
    assert_eq!(tx.count_waiting_rollouts().await.unwrap(), 5);
    assert_eq!(tx.rollout_under_way().await.unwrap(), None);
    drop(tx);

    assert_eq!(begin_next(&catalog).await, Some(urgent));
    let record = catalog.store.open_rollout().await.unwrap().unwrap();
    assert_eq!((record.id, record.counts.pending), (urgent, 2));
    assert_eq!(begin_next(&catalog).await, None, "one at a time");
    let tx = catalog.begin().await;
    assert!(matches!(tx.start_rollout(old).await, Err(StoreError::Conflict { .. })));
    drop(tx);
    change(&catalog, urgent, RolloutState::Paused).await;
    assert!(catalog.store.open_rollout().await.unwrap().is_none(), "nobody carries out one that is paused");
    let tx = catalog.begin().await;
    assert_eq!(tx.rollout_under_way().await.unwrap(), Some(urgent), "and it is under way all the same");
    drop(tx);
    change(&catalog, urgent, RolloutState::Aborted).await;
    assert_eq!(begin_next(&catalog).await, Some(old));
    change(&catalog, old, RolloutState::Aborted).await;
    change(&catalog, paused, RolloutState::Queued).await;
    assert_eq!(begin_next(&catalog).await, Some(paused));
    change(&catalog, paused, RolloutState::Aborted).await;
    assert_eq!(begin_next(&catalog).await, Some(young));
    change(&catalog, young, RolloutState::Aborted).await;
    assert_eq!(begin_next(&catalog).await, None, "the last one's time has not come");
    assert!(catalog.store.rollout(later).await.unwrap().not_before > Some(Timestamp::now()));
}

#[tokio::test]
async fn two_who_look_whose_turn_it_is_do_not_begin_the_same() {
    let catalog = Catalog::new().await;
    let set = register(&catalog, 1, 1).await;
    wait(&catalog, &rollout(RolloutId::new(Uuid::now_v7()), &set, waves(&["all"]))).await;
    let (one, two) = (catalog.begin().await, catalog.begin().await);
    assert!(one.next_rollout().await.unwrap().is_some());
    assert!(two.next_rollout().await.unwrap().is_none());
}

#[tokio::test]
async fn the_fleet_is_counted_by_version_and_by_what_it_lacks() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 3).await;
    let set = register(&catalog, 1, 3).await;
    let id = wait(&catalog, &rollout(RolloutId::new(Uuid::now_v7()), &set, waves(&["all"]))).await;
    assert_eq!(begin_next(&catalog).await, Some(id));
    let claimed = catalog.store.claim_targets(id, Uuid::nil(), LEASE, 2, 0, &[]).await.unwrap();
    finish(&catalog, id, Uuid::nil(), &[applied(&claimed[0], 3), applied(&claimed[1], 2)]).await;
    let at = |version, tenants, behind| FleetVersion { version: SchemaVersion(version), tenants, behind };
    assert_eq!(catalog.store.fleet_versions(id).await.unwrap(), [at(3, 1, 0), at(2, 1, 1), at(0, 1, 3)]);
}
