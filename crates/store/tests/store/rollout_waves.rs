//! Waves, limits and stops of rollouts.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tenantry_domain::{
    ErrorBudget, FailureStreak, RolloutId, RolloutState, RolloutStop, TargetState, Tenancy, Wave, WaveTally, Waves,
};
use tenantry_store::{NewRollout, RolloutCounts, RolloutLimits, TargetResult};
use uuid::Uuid;

use crate::catalog::Catalog;
use crate::rollouts::{LEASE, applied, begin_with, finish, register, rollout, tenants};

pub(crate) fn waves(selections: &[&str]) -> Waves {
    let wave =
        |select: &&str| Wave { select: select.parse().unwrap(), bake_seconds: 0, error_budget: ErrorBudget::default() };
    Waves::new(selections.iter().map(wave).collect()).unwrap()
}

async fn pending_by_wave(catalog: &Catalog, id: RolloutId) -> Vec<u32> {
    catalog.store.rollout(id).await.unwrap().wave_counts.iter().map(|counts| counts.pending).collect()
}

#[tokio::test]
async fn each_wave_takes_whom_no_earlier_one_took() {
    let catalog = Catalog::new().await;
    let fleet = tenants(&catalog, 20).await;
    let set = register(&catalog, 1, 1).await;
    let label = "UPDATE tenant SET labels = '{\"tier\": \"canary\"}' WHERE id = ANY ($1)";
    let marked: Vec<Uuid> = fleet[..3].iter().map(|planned| planned.tenant.as_uuid()).collect();
    catalog.superuser().await.execute(label, &[&marked]).await.unwrap();
    let cases: [(&[&str], &[u32]); 5] = [
        (&["1", "1%", "10%", "all"], &[1, 0, 1, 18]),
        (&["50%"], &[10, 10]),
        (&["30"], &[20, 0]),
        (&["label:tier=canary", "25%", "all"], &[3, 2, 15]),
        (&["plan:nobody-has-it", "region:nowhere", "all"], &[0, 0, 20]),
    ];
    for (selections, expected) in cases {
        let id = RolloutId::new(Uuid::now_v7());
        begin_with(&catalog, &rollout(id, &set, waves(selections))).await;
        assert_eq!(pending_by_wave(&catalog, id).await, expected, "{selections:?}");
        let tx = catalog.begin().await;
        tx.change_rollout(id, RolloutState::Aborted).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn who_would_be_in_which_wave_is_told_before_and_stays_so() {
    let catalog = Catalog::new().await;
    let fleet = tenants(&catalog, 12).await;
    let (set, other) = (register(&catalog, 1, 3).await, register(&catalog, 2, 3).await);
    let there = "UPDATE tenant SET schema_version = 3 WHERE id = ANY ($1)";
    let marked: Vec<Uuid> = fleet[..2].iter().map(|planned| planned.tenant.as_uuid()).collect();
    catalog.superuser().await.execute(there, &[&marked]).await.unwrap();
    let waves = waves(&["2", "50%", "all"]);
    let prospect = async |set| {
        let tx = catalog.begin().await;
        tx.rollout_prospect(set, &waves, false).await.unwrap()
    };
    let seen = prospect(&set).await;
    assert_eq!((seen.tenants.len(), seen.already), (10, 2));
    assert_eq!([0, 1, 2].map(|wave| seen.tenants.iter().filter(|it| it.wave == wave).count()), [2, 3, 5]);
    assert_eq!(prospect(&set).await, seen, "however often it is asked");
    let order = |of: &tenantry_store::RolloutProspect| of.tenants.iter().map(|it| it.tenant).collect::<Vec<_>>();
    assert_ne!(order(&prospect(&other).await), order(&seen), "another set has other canaries");

    let id = RolloutId::new(Uuid::now_v7());
    begin_with(&catalog, &rollout(id, &set, waves.clone())).await;
    let page = tenantry_store::PageRequest { limit: 100, cursor: None };
    let targets = catalog.store.targets(id, &[TargetState::Pending], &page).await.unwrap().items;
    for target in &targets {
        let planned = seen.tenants.iter().find(|it| it.tenant == target.tenant).unwrap();
        assert_eq!((planned.wave, planned.from_version), (target.wave as usize, target.from_version));
    }
    assert_eq!(targets.len(), 10);
    let homes = catalog.store.prospective_homes(&order(&seen)).await.unwrap();
    assert_eq!(homes.len(), 10);
}

#[tokio::test]
async fn only_waves_that_have_begun_are_claimed() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 5).await;
    let set = register(&catalog, 1, 1).await;
    let id = RolloutId::new(Uuid::now_v7());
    begin_with(&catalog, &rollout(id, &set, waves(&["2", "all"]))).await;
    let claim = async || catalog.store.claim_targets(id, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap();
    assert_eq!((claim().await.len(), claim().await.len()), (2, 0));
    let tx = catalog.begin().await;
    tx.bake(id).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.rollout(id).await.unwrap().wave_through_at.is_some());
    let tx = catalog.begin().await;
    tx.begin_wave(id, 1).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(claim().await.len(), 3);
    let record = catalog.store.rollout(id).await.unwrap();
    assert_eq!((record.wave, record.wave_through_at, record.counts.running), (1, None, 5));
}

#[tokio::test]
async fn limits_hold_over_all_who_claim() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 6).await;
    let two = catalog.cluster("two", Tenancy::Shared).await;
    for number in 0..6 {
        catalog.active_tenant(&format!("u{number}"), two).await;
    }
    let set = register(&catalog, 1, 1).await;
    let id = RolloutId::new(Uuid::now_v7());
    let limits = RolloutLimits { concurrency: 5, per_cluster: Some(3), per_database: None };
    begin_with(&catalog, &NewRollout { limits, ..rollout(id, &set, waves(&["all"])) }).await;
    let claim = async |owner, most| catalog.store.claim_targets(id, owner, LEASE, most, 0, &[]).await.unwrap();
    let (one, other) = (Uuid::now_v7(), Uuid::now_v7());
    let first = claim(one, 4).await;
    let second = claim(other, 4).await;
    assert_eq!((first.len(), second.len(), claim(one, 4).await.len()), (4, 1, 0));
    let mut by_cluster = HashMap::new();
    for target in first.iter().chain(&second) {
        *by_cluster.entry(target.cluster).or_insert(0) += 1;
    }
    assert!(by_cluster.len() == 2 && by_cluster.values().all(|number| *number <= 3), "{by_cluster:?}");
    finish(&catalog, id, other, &[applied(&second[0], 1)]).await;
    assert_eq!(claim(other, 4).await.len(), 1, "what is finished makes room");
}

#[tokio::test]
async fn one_database_is_not_worked_on_by_more_than_it_may() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 6).await;
    let set = register(&catalog, 1, 1).await;
    let id = RolloutId::new(Uuid::now_v7());
    let limits = RolloutLimits { concurrency: 256, per_cluster: None, per_database: Some(2) };
    begin_with(&catalog, &NewRollout { limits, ..rollout(id, &set, waves(&["all"])) }).await;
    let share = "UPDATE rollout_target SET database_name = 's_1' WHERE tenant IN
                 (SELECT tenant FROM rollout_target ORDER BY tenant LIMIT 4)";
    catalog.superuser().await.execute(share, &[]).await.unwrap();
    let claimed = catalog.store.claim_targets(id, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap();
    assert_eq!(claimed.len(), 4, "two in the shared one, and the two with one of their own");
    assert!(catalog.store.claim_targets(id, Uuid::nil(), LEASE, 10, 0, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stopped_rollout_gives_nothing_out_until_it_is_retried() {
    let catalog = Catalog::new().await;
    tenants(&catalog, 3).await;
    let set = register(&catalog, 1, 1).await;
    let id = RolloutId::new(Uuid::now_v7());
    let breaking = NewRollout { breaker: Some(1), ..rollout(id, &set, waves(&["all"])) };
    begin_with(&catalog, &breaking).await;
    let target = catalog.store.claim_targets(id, Uuid::nil(), LEASE, 1, 0, &[]).await.unwrap().remove(0);
    let lost = Uuid::now_v7();
    assert_eq!(catalog.store.claim_targets(id, lost, LEASE, 1, 0, &[]).await.unwrap().len(), 1);
    let error = Some(json!({ "message": "no", "sqlstate": "42703" }));
    let failed = TargetResult { state: TargetState::Failed, to_version: None, error, ..applied(&target, 1) };
    finish(&catalog, id, Uuid::nil(), &[failed]).await;

    let tx = catalog.begin().await;
    let plan = tx.lock_rollout_plan(id).await.unwrap();
    assert_eq!((plan.breaker, plan.stop, plan.streak), (Some(1), None, FailureStreak::default()));
    let tallies: Vec<WaveTally> =
        tx.lock_rollout(id).await.unwrap().wave_counts.iter().map(RolloutCounts::tally).collect();
    assert_eq!(tallies, [WaveTally { targets: 3, failed: 1 }]);
    let streak = FailureStreak { sqlstate: "42703".to_owned(), length: 1 };
    let stop = RolloutStop::due(&plan.waves, plan.error_budget, plan.breaker, &tallies, &streak);
    assert_eq!(stop, Some(RolloutStop::Breaker { sqlstate: "42703".to_owned(), times: 1 }));
    tx.note_failures(id, &streak, stop.as_ref()).await.unwrap();
    tx.commit().await.unwrap();
    assert!(catalog.store.claim_targets(id, Uuid::nil(), LEASE, 5, 0, &[]).await.unwrap().is_empty());
    assert_eq!(catalog.store.rollout(id).await.unwrap().stop, stop);

    // Another's worker is gone: what it had in hand holds up nothing.
    let tx = catalog.begin().await;
    assert!(tx.has_targets_in_hand(id).await.unwrap());
    tx.commit().await.unwrap();
    catalog.store.renew_targets(id, lost, Duration::ZERO).await.unwrap();
    let tx = catalog.begin().await;
    assert!(!tx.has_targets_in_hand(id).await.unwrap());
    tx.change_rollout(id, RolloutState::Failed).await.unwrap();
    tx.change_rollout(id, RolloutState::Queued).await.unwrap();
    let plan = tx.lock_rollout_plan(id).await.unwrap();
    assert_eq!((plan.stop, plan.streak), (None, FailureStreak::default()));
    tx.commit().await.unwrap();
    assert_eq!(catalog.store.claim_targets(id, Uuid::nil(), LEASE, 5, 0, &[]).await.unwrap().len(), 3);
}
