//! Migration sets and rollouts.

use std::time::Duration;

use serde_json::json;
use tenantry_domain::{
    ErrorBudget, MigrationSetId, RolloutId, RolloutState, SchemaVersion, TargetState, Tenancy, TenantId, Waves,
};
use tenantry_store::{
    ClaimedTarget, NewRepeatables, NewRollout, PageRequest, RolloutLimits, RolloutRest, RouteRef, StoreError,
    StoredMigration, TargetResult, TenantRef,
};
use uuid::Uuid;

use crate::catalog::{Catalog, Planned};

pub(crate) const LEASE: Duration = Duration::from_mins(1);

pub(crate) async fn register(catalog: &Catalog, mark: u8, versions: i64) -> MigrationSetId {
    let id = MigrationSetId::from_digest([mark; 32]);
    let migrations: Vec<StoredMigration> = (1..=versions)
        .map(|version| StoredMigration {
            version,
            name: format!("step_{version}"),
            kind: 'V',
            checksum: u64::MAX - u64::from(mark),
            transactional: true,
            phase: None,
            down: None,
            sql: "SELECT 1".to_owned(),
        })
        .collect();
    let tx = catalog.begin().await;
    let none = NewRepeatables::default();
    assert!(tx.insert_migration_set(&id, "sample", &migrations, none).await.unwrap());
    assert!(!tx.insert_migration_set(&id, "sample", &migrations, none).await.unwrap(), "twice is as once");
    tx.commit().await.unwrap();
    assert_eq!(catalog.store.migrations_of(&id).await.unwrap(), migrations);
    id
}

async fn begin(catalog: &Catalog, set: &MigrationSetId) -> RolloutId {
    let id = RolloutId::new(Uuid::now_v7());
    begin_with(catalog, &rollout(id, set, crate::rollout_waves::waves(&["all"]))).await;
    id
}

pub(crate) fn rollout(id: RolloutId, set: &MigrationSetId, waves: Waves) -> NewRollout {
    let limits = RolloutLimits { concurrency: 256, per_cluster: None, per_database: None };
    let error_budget = ErrorBudget::default();
    NewRollout {
        id,
        migration_set: set.clone(),
        waves,
        limits,
        error_budget,
        breaker: None,
        verify: false,
        priority: 0,
        not_before: None,
        hours: None,
    }
}

pub(crate) async fn begin_with(catalog: &Catalog, rollout: &NewRollout) {
    let tx = catalog.begin().await;
    tx.insert_rollout(rollout).await.unwrap();
    tx.start_rollout(rollout.id).await.unwrap();
    tx.commit().await.unwrap();
}

/// Ends it where nothing is left, and says as what.
async fn end(catalog: &Catalog, rollout: RolloutId) -> Option<RolloutState> {
    let tx = catalog.begin().await;
    let rest = tx.rest_of_rollout(rollout).await.unwrap();
    let state = match rest {
        RolloutRest { is_open: true, .. } => None,
        RolloutRest { has_failed: true, .. } => Some(RolloutState::Failed),
        RolloutRest { .. } => {
            tx.promote_set_of_rollout(rollout).await.unwrap();
            Some(RolloutState::Succeeded)
        }
    };
    if let Some(state) = state {
        tx.change_rollout(rollout, state).await.unwrap();
    }
    tx.commit().await.unwrap();
    state
}

/// How many results were taken.
pub(crate) async fn finish(catalog: &Catalog, rollout: RolloutId, owner: Uuid, results: &[TargetResult]) -> usize {
    let mut tx = catalog.begin().await;
    let taken = tx.finish_targets(rollout, owner, results).await.unwrap();
    tx.commit().await.unwrap();
    taken.len()
}

pub(crate) fn applied(target: &ClaimedTarget, version: i64) -> TargetResult {
    TargetResult {
        tenant: target.tenant,
        home: target.home,
        retry_in: None,
        state: TargetState::Applied,
        to_version: Some(SchemaVersion(version)),
        repeatables: None,
        attempts: 1,
        error: None,
        duration: Duration::from_millis(5),
    }
}

pub(crate) async fn tenants(catalog: &Catalog, count: usize) -> Vec<Planned> {
    let cluster = catalog.cluster("one", Tenancy::Shared).await;
    let mut tenants = Vec::new();
    for number in 0..count {
        tenants.push(catalog.active_tenant(&format!("t{number}"), cluster).await);
    }
    tenants
}

#[tokio::test]
async fn a_repeatable_file_is_found_by_name_and_checksum_in_whatever_set() {
    let catalog = Catalog::new().await;
    let file = StoredMigration {
        version: 0,
        name: "shout".to_owned(),
        kind: 'R',
        checksum: u64::MAX,
        transactional: false,
        phase: Some("expand".to_owned()),
        down: None,
        sql: "CREATE OR REPLACE VIEW shout AS SELECT 1".to_owned(),
    };
    let id = MigrationSetId::from_digest([7; 32]);
    let tx = catalog.begin().await;
    let repeatables = NewRepeatables { files: std::slice::from_ref(&file), digest: &"d".repeat(64) };
    assert!(tx.insert_migration_set(&id, "sample", &[], repeatables).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(catalog.store.repeatables_of(&id).await.unwrap(), std::slice::from_ref(&file));
    assert_eq!(catalog.store.repeatable("shout", u64::MAX).await.unwrap(), Some(file));
    assert_eq!(catalog.store.repeatable("shout", 1).await.unwrap(), None);
}

#[tokio::test]
async fn a_rollout_brings_the_fleet_to_a_set_and_promotes_it() {
    let catalog = Catalog::new().await;
    let fleet = tenants(&catalog, 5).await;
    let set = register(&catalog, 1, 3).await;
    assert!(catalog.store.promoted().await.unwrap().is_none());
    let rollout = begin(&catalog, &set).await;
    assert_eq!(catalog.store.open_rollout().await.unwrap().map(|it| (it.id, it.counts.pending)), Some((rollout, 5)));

    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let mut first = catalog.store.claim_targets(rollout, one, LEASE, 3, 0, &[]).await.unwrap();
    let second = catalog.store.claim_targets(rollout, two, LEASE, 10, 0, &[]).await.unwrap();
    assert_eq!((first.len(), second.len()), (3, 2));
    assert_eq!(end(&catalog, rollout).await, None);
    let before = catalog.store.feed_version().await.unwrap().current;
    let results: Vec<_> = first.drain(..).map(|target| applied(&target, 3)).collect();
    // What another owner holds is not this one's to finish.
    assert_eq!(finish(&catalog, rollout, two, &results).await, 0);
    assert_eq!(finish(&catalog, rollout, one, &results).await, 3);
    let results: Vec<_> = second.iter().map(|target| applied(target, 3)).collect();
    assert_eq!(finish(&catalog, rollout, two, &results).await, 2);
    assert_eq!(catalog.store.feed_version().await.unwrap().current.0, before.0 + 5, "routers hear of each");

    assert_eq!(end(&catalog, rollout).await, Some(RolloutState::Succeeded));
    let record = catalog.store.rollout(rollout).await.unwrap();
    assert_eq!((record.counts.applied, record.state), (5, RolloutState::Succeeded));
    assert_eq!(catalog.store.promoted().await.unwrap().map(|it| it.id), Some(set));
    for planned in fleet {
        let tenant = catalog.store.tenant(&TenantRef::Id(planned.tenant)).await.unwrap();
        assert_eq!(tenant.schema_version, SchemaVersion(3));
        assert_eq!(catalog.store.home(planned.home).await.unwrap().schema_version, SchemaVersion(3));
        let route = catalog.store.resolve(&RouteRef::Id(planned.tenant), false).await.unwrap();
        assert_eq!(route.schema_version, SchemaVersion(3));
    }
    let targets = catalog.store.targets(rollout, &[TargetState::Applied], &PageRequest::default()).await.unwrap();
    assert_eq!(targets.items.len(), 5);
    assert!(targets.items.iter().all(|it| it.to_version == Some(SchemaVersion(3)) && it.attempts == 1));
}

#[tokio::test]
async fn a_target_that_was_skipped_and_is_there_again_keeps_its_rollout_open() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 1).await;
    let set = register(&catalog, 1, 3).await;
    let rollout = begin(&catalog, &set).await;
    let target = catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap().remove(0);
    let skipped = TargetResult { state: TargetState::Skipped, to_version: None, ..applied(&target, 3) };
    finish(&catalog, rollout, Uuid::nil(), &[skipped]).await;
    assert_eq!(end(&catalog, rollout).await, None);
    let again = catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap();
    assert_eq!(again, [target]);
    finish(&catalog, rollout, Uuid::nil(), &[applied(&again[0], 3)]).await;
    assert_eq!(end(&catalog, rollout).await, Some(RolloutState::Succeeded));
}

#[tokio::test]
async fn a_straggler_is_one_owners_at_a_time_and_waits_after_a_failure() {
    let catalog = Catalog::new().await;
    let late = tenants(&catalog, 1).await.remove(0).tenant;
    let note = async || {
        let tx = catalog.begin().await;
        tx.note_straggler(late).await.unwrap();
        tx.commit().await.unwrap();
    };
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    let claim = async |owner| catalog.store.claim_stragglers(owner, LEASE, 5).await.unwrap();
    note().await;
    assert_eq!(catalog.store.straggler(late).await.unwrap(), None, "without a promoted set nobody is behind");
    let set = register(&catalog, 1, 3).await;
    let tx = catalog.begin().await;
    tx.promote(&set).await.unwrap();
    tx.commit().await.unwrap();
    note().await;
    let claimed = claim(one).await;
    assert_eq!((claimed.len(), claimed[0].tenant, claim(two).await), (1, late, Vec::new()));
    assert_eq!(catalog.store.renew_stragglers(one, LEASE).await.unwrap(), 1);
    let failed = TargetResult {
        state: TargetState::Failed,
        to_version: Some(SchemaVersion(2)),
        error: Some(json!({ "message": "no" })),
        ..applied(&claimed[0], 2)
    };
    catalog.store.finish_straggler(two, &set, &failed).await.unwrap();
    assert_eq!(catalog.store.straggler(late).await.unwrap().map(|it| it.attempts), Some(0), "it is another's");
    catalog.store.finish_straggler(one, &set, &failed).await.unwrap();
    let now = catalog.store.straggler(late).await.unwrap().unwrap();
    let versions = (now.version, now.promoted_version);
    assert_eq!((now.attempts, now.error, versions), (1, failed.error, (SchemaVersion(2), SchemaVersion(3))));
    assert!(claim(one).await.is_empty(), "not before it is due");

    note().await;
    assert_eq!(catalog.store.straggler(late).await.unwrap().unwrap().error, None, "restored once more, it begins anew");
    let claimed = claim(two).await;
    catalog.store.finish_straggler(two, &set, &applied(&claimed[0], 3)).await.unwrap();
    assert_eq!(catalog.store.straggler(late).await.unwrap(), None);
    assert_eq!(catalog.store.forget_stragglers().await.unwrap(), 1);
    assert_eq!(catalog.store.tenant(&TenantRef::Id(late)).await.unwrap().schema_version, SchemaVersion(3));
}

#[tokio::test]
async fn tenants_that_have_the_version_are_never_claimed() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 2).await;
    let set = register(&catalog, 1, 3).await;
    let first = begin(&catalog, &set).await;
    let claimed = catalog.store.claim_targets(first, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap();
    let results: Vec<_> = claimed.iter().map(|target| applied(target, 3)).collect();
    finish(&catalog, first, Uuid::nil(), &results).await;
    end(&catalog, first).await;
    let again = begin(&catalog, &set).await;
    let record = catalog.store.rollout(again).await.unwrap();
    assert_eq!((record.counts.already, record.counts.tally().targets), (2, 2));
    assert_eq!(record.wave_counts.last(), Some(&record.counts));
    assert!(catalog.store.claim_targets(again, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap().is_empty());
    assert_eq!(catalog.store.targets(again, &[], &PageRequest::default()).await.unwrap().items, []);
    assert_eq!(end(&catalog, again).await, Some(RolloutState::Succeeded));
    assert_eq!(catalog.store.rollout(again).await.unwrap().counts.already, 2);

    let verifying = RolloutId::new(Uuid::now_v7());
    let waves = crate::rollout_waves::waves(&["all"]);
    begin_with(&catalog, &NewRollout { verify: true, ..rollout(verifying, &set, waves) }).await;
    let record = catalog.store.rollout(verifying).await.unwrap();
    assert_eq!((record.counts.already, record.counts.pending), (0, 2), "whoever verifies asks everybody");
    assert_eq!(catalog.store.claim_targets(verifying, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_target_that_steps_aside_lets_others_go_first_and_comes_back_when_it_is_due() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 2).await;
    let set = register(&catalog, 1, 1).await;
    let rollout = begin(&catalog, &set).await;
    let claim = async || catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap();
    let locked = claim().await.remove(0);
    let aside = |target: &ClaimedTarget, span| TargetResult {
        state: TargetState::Pending,
        retry_in: Some(span),
        to_version: None,
        error: Some(json!({ "message": "a lock" })),
        ..applied(target, 1)
    };
    finish(&catalog, rollout, Uuid::nil(), &[aside(&locked, Duration::from_hours(1))]).await;
    let other = claim().await.remove(0);
    assert_ne!(other.tenant, locked.tenant);
    assert_eq!(claim().await, [], "it is not due");
    finish(&catalog, rollout, Uuid::nil(), &[aside(&other, Duration::ZERO)]).await;
    let again = claim().await.remove(0);
    assert_eq!((again.tenant, again.deferrals), (other.tenant, 1));
    assert_eq!(end(&catalog, rollout).await, None, "one that has stepped aside is not finished");
    let pending = catalog.store.targets(rollout, &[TargetState::Pending], &PageRequest::default()).await.unwrap();
    assert_eq!(pending.items[0].error, Some(json!({ "message": "a lock" })), "everybody sees what it waits for");
}

#[tokio::test]
async fn a_failed_target_fails_the_rollout_and_is_taken_up_by_a_retry() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 1).await;
    let set = register(&catalog, 1, 1).await;
    let rollout = begin(&catalog, &set).await;
    let target = catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap().remove(0);
    let failed = TargetResult {
        state: TargetState::Failed,
        to_version: None,
        error: Some(json!({ "message": "no" })),
        ..applied(&target, 1)
    };
    finish(&catalog, rollout, Uuid::nil(), &[failed]).await;
    assert_eq!(end(&catalog, rollout).await, Some(RolloutState::Failed));
    assert!(catalog.store.promoted().await.unwrap().is_none());

    let tx = catalog.begin().await;
    assert_eq!(tx.lock_rollout(rollout).await.unwrap().state, RolloutState::Failed);
    tx.change_rollout(rollout, RolloutState::Queued).await.unwrap();
    tx.commit().await.unwrap();
    let target = catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap().remove(0);
    finish(&catalog, rollout, Uuid::nil(), &[applied(&target, 1)]).await;
    assert_eq!(end(&catalog, rollout).await, Some(RolloutState::Succeeded));
    let targets = catalog.store.targets(rollout, &[], &PageRequest::default()).await.unwrap();
    assert_eq!((targets.items[0].attempts, targets.items[0].error.clone()), (2, None));
}

#[tokio::test]
async fn a_target_whose_worker_died_is_claimed_again_and_the_dead_ones_result_is_dropped() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 1).await;
    let set = register(&catalog, 1, 1).await;
    let rollout = begin(&catalog, &set).await;
    let (dead, alive) = (Uuid::now_v7(), Uuid::now_v7());
    let lost = catalog.store.claim_targets(rollout, dead, Duration::ZERO, 1, 0, &[]).await.unwrap().remove(0);
    let target = catalog.store.claim_targets(rollout, alive, LEASE, 1, 0, &[]).await.unwrap().remove(0);
    assert_eq!(lost, target);
    assert_eq!(finish(&catalog, rollout, dead, &[applied(&lost, 1)]).await, 0);
    assert_eq!(finish(&catalog, rollout, alive, &[applied(&target, 1)]).await, 1);
}

#[tokio::test]
async fn one_rollout_runs_at_a_time_and_a_paused_one_gives_nothing_out() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 2).await;
    let set = register(&catalog, 1, 1).await;
    let rollout = begin(&catalog, &set).await;
    let tx = catalog.begin().await;
    let second = self::rollout(RolloutId::new(Uuid::now_v7()), &set, Waves::standard());
    tx.insert_rollout(&second).await.unwrap();
    assert!(matches!(tx.start_rollout(second.id).await, Err(StoreError::Conflict { .. })));
    drop(tx);
    let tx = catalog.begin().await;
    tx.change_rollout(rollout, RolloutState::Paused).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 5, 0, &[]).await.unwrap().is_empty());
    assert!(catalog.store.open_rollout().await.unwrap().is_none());
    let tx = catalog.begin().await;
    tx.change_rollout(rollout, RolloutState::Aborted).await.unwrap();
    tx.commit().await.unwrap();
    let record = catalog.store.rollout(rollout).await.unwrap();
    assert_eq!((record.counts.skipped, record.finished_at.is_some()), (2, true));
}

#[tokio::test]
async fn tenants_born_during_a_rollout_become_targets_and_gone_ones_are_skipped() {
    let catalog = Catalog::new().await;
    let fleet = tenants(&catalog, 1).await;
    let set = register(&catalog, 1, 2).await;
    let rollout = begin(&catalog, &set).await;
    let by_name = tenantry_store::ClusterRef::Name(tenantry_domain::ClusterName::parse("one").unwrap());
    let cluster = catalog.store.cluster(&by_name).await.unwrap().id;
    let unborn = catalog.plan_tenant("unborn", cluster).await;
    // The first goes away before anybody took it up.
    let tx = catalog.begin().await;
    tx.close_placement(fleet[0].tenant).await.unwrap();
    tx.set_tenant_failed(fleet[0].tenant, "gone").await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 5, 0, &[]).await.unwrap().is_empty());
    assert_eq!(catalog.store.rollout(rollout).await.unwrap().counts.skipped, 1);
    assert_eq!(end(&catalog, rollout).await, None, "a tenant that is being born is waited for");

    let mut tx = catalog.begin().await;
    crate::catalog::activate(&mut tx, unborn, SchemaVersion(0)).await;
    tx.commit().await.unwrap();
    assert_eq!(end(&catalog, rollout).await, None);
    let born = catalog.store.claim_targets(rollout, Uuid::nil(), LEASE, 5, 0, &[]).await.unwrap();
    let ids: Vec<TenantId> = born.iter().map(|target| target.tenant).collect();
    assert_eq!(ids, [unborn.tenant]);
}

#[tokio::test]
async fn a_promotion_waits_for_transactions_that_start_from_the_promoted_set() {
    let catalog = Catalog::new().await;
    let set = register(&catalog, 1, 1).await;
    let provision = catalog.begin().await;
    assert!(provision.promoted().await.unwrap().is_none());
    let promotion = async {
        let tx = catalog.begin().await;
        tx.promote(&set).await.unwrap();
        tx.commit().await.unwrap();
    };
    tokio::pin!(promotion);
    tokio::select! {
        () = &mut promotion => panic!("it must wait"),
        () = tokio::time::sleep(Duration::from_millis(100)) => {}
    }
    assert!(catalog.store.promoted().await.unwrap().is_none());
    provision.commit().await.unwrap();
    promotion.await;
    let tx = catalog.begin().await;
    assert_eq!(tx.promoted().await.unwrap().map(|it| it.id), Some(set.clone()));
}

#[tokio::test]
async fn a_registered_file_is_never_changed() {
    let catalog = Catalog::new().await;
    register(&catalog, 1, 2).await;
    let superuser = catalog.superuser().await;
    for sql in ["UPDATE migration SET sql = 'DROP'", "DELETE FROM migration", "TRUNCATE migration"] {
        assert!(superuser.batch_execute(sql).await.is_err(), "{sql}");
    }
}
