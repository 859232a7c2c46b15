//! Targets that are claimed before their turn, and who must go without meanwhile.

use tenantry_domain::{RolloutId, RolloutState, TargetState, TenantId, TenantState};
use tenantry_store::{ClaimedTarget, NewRollout, PageRequest, RolloutLimits, TenantRef};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::rollout_waves::waves;
use crate::rollouts::{LEASE, applied, begin_with, finish, register, rollout, tenants};

struct Claims {
    catalog: Catalog,
    rollout: RolloutId,
}

impl Claims {
    /// A rollout over so many tenants on one cluster.
    async fn over(number: usize, limits: RolloutLimits) -> Self {
        let catalog = Catalog::new().await;
        tenants(&catalog, number).await;
        Self::over_all(catalog, limits).await
    }

    async fn over_all(catalog: Catalog, limits: RolloutLimits) -> Self {
        let set = register(&catalog, 1, 1).await;
        let id = RolloutId::new(Uuid::now_v7());
        begin_with(&catalog, &NewRollout { limits, ..rollout(id, &set, waves(&["all"])) }).await;
        Self { catalog, rollout: id }
    }

    async fn claim(&self, owner: Uuid, most: usize, ahead: usize) -> Vec<ClaimedTarget> {
        self.catalog.store.claim_targets(self.rollout, owner, LEASE, most, ahead, &[]).await.unwrap()
    }

    async fn finish(&self, owner: Uuid, targets: &[ClaimedTarget]) {
        let results: Vec<_> = targets.iter().map(|target| applied(target, 1)).collect();
        assert_eq!(finish(&self.catalog, self.rollout, owner, &results).await, targets.len());
    }

    async fn give_back(&self, owner: Uuid, targets: &[ClaimedTarget]) {
        let targets: Vec<TenantId> = targets.iter().map(|target| target.tenant).collect();
        self.catalog.store.give_targets_back(self.rollout, owner, &targets).await.unwrap();
    }

    async fn may_begin(&self, owner: Uuid) -> bool {
        self.catalog.store.may_begin_claimed(self.rollout, owner).await.unwrap()
    }

    async fn change(&self, state: RolloutState) {
        let tx = self.catalog.begin().await;
        tx.change_rollout(self.rollout, state).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// How many targets are in a state.
    async fn count(&self, state: TargetState) -> usize {
        let page = PageRequest::default();
        self.catalog.store.targets(self.rollout, &[state], &page).await.unwrap().items.len()
    }
}

fn at_once(concurrency: u32) -> RolloutLimits {
    RolloutLimits { concurrency, per_cluster: None, per_database: None }
}

#[tokio::test]
async fn only_who_works_alone_claims_ahead_and_what_is_claimed_takes_the_room_of_others() {
    let claims = Claims::over(20, at_once(4)).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let mut first = claims.claim(one, 4, 6).await;
    assert_eq!(first.len(), 10);
    assert_eq!(claims.claim(one, 1, 6).await.len(), 0, "nothing is claimed ahead where no place is free");
    claims.finish(one, &first.split_off(3)).await;
    assert_eq!(claims.claim(other, 4, 6).await.len(), 1, "three are in the hands of the one");
    claims.finish(one, &first.split_off(1)).await;
    assert_eq!(claims.claim(one, 2, 6).await.len(), 2, "it is not alone");
}

#[tokio::test]
async fn where_less_is_free_than_was_asked_for_nothing_is_claimed_ahead() {
    let claims = Claims::over(20, at_once(4)).await;
    let one = Uuid::now_v7();
    let first = claims.claim(one, 3, 0).await;
    assert_eq!(claims.claim(one, 4, 6).await.len(), 1);
    let done: Vec<TenantId> = first.iter().map(|target| target.tenant).collect();
    let claimed = claims.catalog.store.claim_targets(claims.rollout, one, LEASE, 3, 6, &done).await.unwrap();
    assert_eq!(claimed.len(), 9, "what is finished needs no room");
}

#[tokio::test]
async fn limits_of_clusters_and_databases_leave_nothing_ahead() {
    for (per_cluster, per_database) in [(Some(3), None), (None, Some(3))] {
        let claims = Claims::over(6, RolloutLimits { concurrency: 2, per_cluster, per_database }).await;
        assert_eq!(claims.claim(Uuid::now_v7(), 2, 6).await.len(), 2);
    }
}

#[tokio::test]
async fn whoever_finds_all_places_taken_is_left_some() {
    let claims = Claims::over(40, at_once(4)).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let mut first = claims.claim(one, 4, 6).await;
    assert!(claims.may_begin(one).await);
    assert!(claims.claim(other, 4, 6).await.is_empty());
    assert!(!claims.may_begin(one).await, "what was claimed ahead is to go back");
    assert!(claims.may_begin(other).await);
    let ahead = first.split_off(4);
    claims.give_back(one, &ahead).await;
    claims.finish(one, &first.split_off(1)).await;
    assert_eq!(claims.claim(one, 3, 6).await.len(), 1, "half of the places, and nothing ahead");
    let others = claims.claim(other, 4, 6).await;
    assert_eq!(others.len(), 2);
    assert!(claims.may_begin(one).await, "nobody is without work");
    claims.finish(other, &others).await;
    assert_eq!(claims.claim(one, 2, 0).await.len(), 2, "who has had some is not waited for");
}

#[tokio::test]
async fn nobody_is_crowded_out_of_a_rollout_that_has_nothing_for_him() {
    let claims = Claims::over(2, at_once(4)).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert_eq!(claims.claim(one, 2, 0).await.len(), 2);
    assert!(claims.claim(other, 4, 0).await.is_empty());
    assert!(claims.may_begin(one).await);
}

#[tokio::test]
async fn what_is_given_back_is_as_before() {
    let claims = Claims::over(6, at_once(2)).await;
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let claimed = claims.claim(one, 2, 4).await;
    assert_eq!((claimed.len(), claims.count(TargetState::Running).await), (6, 6));
    claims.give_back(other, &claimed).await;
    assert_eq!(claims.count(TargetState::Running).await, 6, "they are not its own");
    claims.give_back(one, &claimed[2..]).await;
    let page = PageRequest::default();
    let pending = claims.catalog.store.targets(claims.rollout, &[TargetState::Pending], &page).await.unwrap().items;
    assert!(pending.len() == 4 && pending.iter().all(|target| target.attempts == 0 && target.error.is_none()));
    claims.give_back(one, &claimed[2..]).await;
    claims.finish(one, &claimed[..2]).await;
    assert_eq!(claims.claim(other, 2, 4).await.len(), 4);
}

#[tokio::test]
async fn what_is_given_back_to_a_rollout_that_was_aborted_is_skipped() {
    let claims = Claims::over(6, at_once(2)).await;
    let one = Uuid::now_v7();
    let claimed = claims.claim(one, 2, 2).await;
    claims.change(RolloutState::Aborted).await;
    assert!(!claims.may_begin(one).await);
    claims.give_back(one, &claimed[2..]).await;
    claims.finish(one, &claimed[..2]).await;
    assert_eq!((claims.count(TargetState::Skipped).await, claims.count(TargetState::Applied).await), (4, 2));
}

#[tokio::test]
async fn nothing_that_was_claimed_ahead_is_begun_in_a_pause() {
    let claims = Claims::over(6, at_once(2)).await;
    let one = Uuid::now_v7();
    let claimed = claims.claim(one, 2, 2).await;
    claims.change(RolloutState::Paused).await;
    assert!(!claims.may_begin(one).await);
    claims.give_back(one, &claimed[2..]).await;
    assert_eq!(claims.count(TargetState::Pending).await, 4);
    claims.change(RolloutState::Queued).await;
    assert!(claims.may_begin(one).await);
}

#[tokio::test]
async fn what_a_worker_that_died_had_claimed_ahead_is_taken_up() {
    let claims = Claims::over(6, at_once(2)).await;
    let (lost, other) = (Uuid::now_v7(), Uuid::now_v7());
    let claimed = claims.claim(lost, 2, 4).await;
    assert_eq!(claims.catalog.store.renew_targets(claims.rollout, lost, LEASE).await.unwrap(), 6);
    claims.catalog.store.renew_targets(claims.rollout, lost, std::time::Duration::ZERO).await.unwrap();
    let taken = claims.claim(other, 2, 4).await;
    assert_eq!(taken.len(), 6);
    claims.give_back(lost, &claimed).await;
    assert_eq!(claims.count(TargetState::Running).await, 6, "they are another's now");
}

#[tokio::test]
async fn a_tenant_that_moves_waits_until_it_has_arrived() {
    let catalog = Catalog::new().await;
    let fleet = tenants(&catalog, 2).await;
    let before = catalog.store.tenant(&TenantRef::Id(fleet[0].tenant)).await.unwrap().state;
    let TenantState::Active { home } = before.clone() else { panic!("{before:?}") };
    let set_state = async |state: &TenantState| {
        let tx = catalog.begin().await;
        tx.set_tenant_state(fleet[0].tenant, state).await.unwrap();
        tx.commit().await.unwrap();
    };
    set_state(&TenantState::Moving { from: home, operation: fleet[0].operation }).await;
    let claims = Claims::over_all(catalog, at_once(8)).await;
    let owner = Uuid::now_v7();
    let claimed = claims.claim(owner, 8, 0).await;
    assert_eq!(claimed.iter().map(|target| target.tenant).collect::<Vec<_>>(), [fleet[1].tenant]);
    claims.finish(owner, &claimed).await;
    assert!(claims.claim(owner, 8, 0).await.is_empty());
    let tx = claims.catalog.begin().await;
    assert!(tx.rest_of_rollout(claims.rollout).await.unwrap().is_open, "the rollout waits with it");
    tx.set_tenant_state(fleet[0].tenant, &before).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claims.claim(owner, 8, 0).await.len(), 1);
}
