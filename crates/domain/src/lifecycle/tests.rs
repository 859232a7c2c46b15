use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::home::{DatabaseName, Generation, Home, Placement, SchemaName};
use crate::id::{ClusterId, HomeId, TenantId};
use crate::isolation::Isolation;

fn home() -> Placement {
    let id = HomeId::new(Uuid::from_u128(7));
    Placement {
        tenant: TenantId::new(Uuid::from_u128(1)),
        home: Home {
            id,
            cluster: ClusterId::new(Uuid::from_u128(2)),
            isolation: Isolation::Schema,
            database: DatabaseName::shared(Uuid::from_u128(3)),
            schema: SchemaName::of_home(id),
        },
        since: Generation::FIRST,
    }
}

fn operation() -> OperationId {
    OperationId::new(Uuid::from_u128(9))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

fn suspension(reason: SuspensionReason, since: i64) -> Suspension {
    Suspension { reason, note: None, by: "someone".to_owned(), since: at(since), until: None, with: None }
}

/// One of each; deletions both with and without a way back.
fn all_states() -> Vec<TenantState> {
    let suspended = suspension(SuspensionReason::Admin, 1);
    let grace = Grace { ends_at: at(100), home: home(), suspension: Some(suspended.clone()) };
    vec![
        TenantState::Provisioning { operation: operation() },
        TenantState::Active { home: home() },
        TenantState::Suspended { home: home(), suspension: suspended },
        TenantState::Moving { from: home(), operation: operation() },
        TenantState::Deleting { operation: operation(), grace: Some(grace) },
        TenantState::Deleting { operation: operation(), grace: None },
        TenantState::Deleted { at: at(5) },
        TenantState::Failed { reason: "no room".to_owned() },
    ]
}

#[test]
fn every_state_allows_exactly_what_it_should() {
    let words: Vec<_> = all_states()
        .iter()
        .map(|state| {
            let asked = [
                state.suspend(suspension(SuspensionReason::Admin, 2)).map(|it| it.status()),
                state.resume(None, at(2)).map(|it| it.status()),
                state.delete(operation(), Duration::from_mins(1), at(2)).map(|it| it.status()),
                state.restore().map(|it| it.status()),
            ];
            asked.map(|outcome| outcome.map_or("-", TenantStatus::as_str))
        })
        .collect();
    let expected = [
        // suspend, resume, delete, restore
        ["-", "-", "-", "-"],
        ["suspended", "-", "deleting", "-"],
        ["suspended", "active", "deleting", "-"],
        ["-", "-", "-", "-"],
        ["-", "-", "deleting", "suspended"],
        ["-", "-", "deleting", "-"],
        ["-", "-", "-", "-"],
        ["-", "-", "deleting", "-"],
    ];
    assert_eq!(words, expected);
    let statuses: Vec<_> = all_states().iter().map(TenantState::status).collect();
    assert!(TenantStatus::ALL.iter().all(|status| statuses.contains(status)), "a status is not looked at");
}

#[test]
fn every_refusal_says_what_to_do_and_none_says_the_same() {
    let mut sentences: Vec<_> = all_states().iter().map(|state| state.refusal().to_string()).collect();
    sentences.push(LifecycleError::TrialOver.to_string());
    sentences.sort_unstable();
    let count = sentences.len();
    sentences.dedup();
    assert_eq!(sentences.len(), count);
}

#[test]
fn a_second_suspension_tells_more_and_keeps_its_beginning() {
    let first = TenantState::Active { home: home() }.suspend(suspension(SuspensionReason::Admin, 10)).expect("allowed");
    let second = first.suspend(suspension(SuspensionReason::Payment, 20)).expect("allowed");
    let TenantState::Suspended { suspension: now, .. } = &second else { panic!("{second:?}") };
    assert_eq!((now.reason, now.since), (SuspensionReason::Payment, at(10)));
    // What a tenant is suspended for itself is not forgotten because its parent is suspended too.
    assert_eq!(second.suspend(suspension(SuspensionReason::Parent, 30)), Ok(second.clone()));
    let child = TenantState::Active { home: home() }.suspend(suspension(SuspensionReason::Parent, 1)).expect("allowed");
    let own = child.suspend(suspension(SuspensionReason::Admin, 2)).expect("allowed");
    assert_eq!(own.suspension().map(|it| it.reason), Some(SuspensionReason::Admin));
}

#[test]
fn a_trial_that_is_over_is_not_resumed() {
    let suspended = TenantState::Suspended { home: home(), suspension: suspension(SuspensionReason::TrialEnded, 1) };
    assert_eq!(suspended.resume(Some(at(50)), at(50)), Err(LifecycleError::TrialOver));
    assert!(suspended.resume(Some(at(51)), at(50)).is_ok());
    assert!(suspended.resume(None, at(50)).is_ok());
}

#[test]
fn only_a_tenant_with_a_home_gets_grace() {
    let failed = TenantState::Failed { reason: "no room".to_owned() };
    let deleting = failed.delete(operation(), Duration::from_mins(1), at(0)).expect("allowed");
    assert_eq!(deleting, TenantState::Deleting { operation: operation(), grace: None });
    let without = TenantState::Active { home: home() }.delete(operation(), Duration::ZERO, at(0)).expect("allowed");
    assert_eq!(without.restore(), Err(LifecycleError::Releasing));
}

#[derive(Debug, Clone, Copy)]
enum Ask {
    Suspend(SuspensionReason),
    Resume,
    Delete(u64),
    Restore,
}

fn asks() -> impl Strategy<Value = Vec<Ask>> {
    let one = prop_oneof![
        Just(Ask::Suspend(SuspensionReason::Admin)),
        Just(Ask::Suspend(SuspensionReason::Parent)),
        Just(Ask::Resume),
        (0..200_u64).prop_map(Ask::Delete),
        Just(Ask::Restore),
    ];
    prop::collection::vec(one, 0..40)
}

proptest! {
    /// Whatever is asked in whatever order: the home is never lost without a deletion that ran out of ways back, the
    /// end of a grace period never moves away, and a restored tenant is what it was.
    #[test]
    fn a_life_keeps_its_promises(asks in asks()) {
        let mut state = TenantState::Active { home: home() };
        let mut before_deletion = state.clone();
        for (second, ask) in (0_i64..).zip(asks) {
            let now = at(second);
            let next = match ask {
                Ask::Suspend(reason) => state.suspend(suspension(reason, second)),
                Ask::Resume => state.resume(None, now),
                Ask::Delete(grace) => state.delete(operation(), Duration::from_secs(grace), now),
                Ask::Restore => state.restore(),
            };
            let Ok(next) = next else { continue };
            match (&state, &next) {
                (TenantState::Deleting { grace: Some(before), .. }, TenantState::Deleting { grace: Some(after), .. }) => {
                    prop_assert!(after.ends_at <= before.ends_at);
                }
                (TenantState::Deleting { grace: None, .. }, after) => prop_assert_eq!(after, &state),
                (TenantState::Deleting { grace: Some(_), .. }, TenantState::Deleting { grace: None, .. }) => {}
                (TenantState::Deleting { .. }, restored) => prop_assert_eq!(restored, &before_deletion),
                (_, TenantState::Deleting { .. }) => before_deletion = state.clone(),
                _ => {}
            }
            let has_way_back = !matches!(next, TenantState::Deleting { grace: None, .. });
            prop_assert_eq!(next.placement().is_some(), has_way_back);
            state = next;
        }
    }
}
