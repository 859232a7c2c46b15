use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;

fn poll(wait: &mut Wait<'_>) -> Option<Permit> {
    match std::pin::pin!(wait.granted()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => permit,
        Poll::Pending => None,
    }
}

fn budget(ceiling: usize) -> Arc<Budget> {
    let budget = Arc::new(Budget::default());
    budget.set_ceiling(Some(ceiling));
    budget
}

#[test]
fn what_becomes_free_goes_to_whoever_holds_least_for_its_weight() {
    let budget = budget(4);
    let (rich, poor, heavy) = (budget.join(1), budget.join(1), budget.join(10));
    let mut held: Vec<Permit> = (0..3).filter_map(|_| rich.permit()).collect();
    let _one = heavy.permit().expect("the fourth");
    assert!(poor.permit().is_none());
    let (mut first, mut second, mut third) = (rich.wait(), heavy.wait(), poor.wait());
    held.pop();
    assert!(poll(&mut first).is_none() && poll(&mut second).is_none());
    let poors = poll(&mut third).expect("who has nothing comes first");
    held.pop();
    assert!(poll(&mut first).is_none());
    let _heavys = poll(&mut second).expect("two of weight ten are less than one of weight one");
    assert!(!heavy.yields() && budget.waiting() == 1);
    drop(poors);
    assert!(poll(&mut first).is_some());
}

#[test]
fn those_who_hold_as_much_are_served_in_the_order_in_which_they_came() {
    let budget = budget(1);
    let shares: Vec<Share> = (0..5).map(|_| budget.join(1)).collect();
    let held = shares[0].permit();
    let mut waits: Vec<Wait<'_>> = shares[1..].iter().map(Share::wait).collect();
    drop(held);
    for wait in &mut waits {
        drop(poll(wait).expect("its turn"));
    }
}

#[test]
fn a_permit_that_was_granted_to_somebody_who_left_goes_on() {
    let budget = budget(1);
    let (one, other, third) = (budget.join(1), budget.join(1), budget.join(1));
    let held = one.permit();
    let (leaving, mut staying) = (other.wait(), third.wait());
    drop(held);
    drop(leaving);
    assert!(poll(&mut staying).is_some());
    drop(staying);
    assert_eq!((budget.open(), budget.waiting()), (0, 0));
}

/// A pool with idle connections.
struct Idle(Mutex<Vec<Permit>>);

impl Holder for Idle {
    fn close_one(&self) -> bool {
        let closed = self.0.lock().expect("not poisoned").pop();
        closed.is_some()
    }
}

#[test]
fn an_idle_connection_of_another_makes_room_but_not_the_last_of_many() {
    let budget = budget(2);
    let (rich, poor) = (budget.join(1), budget.join(1));
    let idle = Arc::new(Idle(Mutex::new((0..2).filter_map(|_| rich.permit()).collect())));
    let holder: Arc<dyn Holder> = idle.clone();
    rich.held_by(Arc::downgrade(&holder));
    let mut wait = poor.wait();
    let permit = poll(&mut wait).expect("one was closed");
    let mut second = poor.wait();
    assert!(poll(&mut second).is_none(), "each has one");
    drop((second, permit));
    budget.set_ceiling(Some(0));
    assert_eq!(budget.open(), 0, "a ceiling that comes down closes what is idle");
}

#[test]
fn a_ceiling_that_comes_down_is_reached_as_connections_are_given_back() {
    let budget = budget(3);
    let share = budget.join(1);
    let mut held: Vec<Permit> = (0..3).filter_map(|_| share.permit()).collect();
    budget.set_ceiling(Some(1));
    assert!(share.yields());
    held.truncate(1);
    assert!(!share.yields() && share.permit().is_none());
    budget.set_ceiling(None);
    assert!(share.permit().is_some());
}

proptest! {
    /// Whoever asks without end comes to a share in proportion to its weight, and the ceiling holds all the time.
    #[test]
    fn shares_follow_weights_and_the_ceiling_holds(
        weights in prop::collection::vec(1_usize..6, 2..6),
        ceiling in 6_usize..40,
        returns in prop::collection::vec(any::<prop::sample::Index>(), 600..900),
    ) {
        let budget = budget(ceiling);
        let shares: Vec<Share> = weights.iter().map(|weight| budget.join(*weight)).collect();
        let mut held: Vec<(usize, Permit)> = Vec::new();
        // The first takes all there is before the others come.
        while let Some(permit) = shares[0].permit() {
            held.push((0, permit));
        }
        let mut waits: Vec<Wait<'_>> = shares.iter().map(Share::wait).collect();
        for returned in returns {
            let (owner, permit) = held.swap_remove(returned.index(held.len()));
            // A connection is kept while nobody is worse off.
            if shares[owner].yields() {
                drop(permit);
            } else {
                held.push((owner, permit));
            }
            for (number, wait) in waits.iter_mut().enumerate() {
                if let Some(permit) = poll(wait) {
                    held.push((number, permit));
                    *wait = shares[number].wait();
                }
            }
            prop_assert!(held.len() <= ceiling && budget.open() <= ceiling);
        }
        let total: usize = weights.iter().sum();
        for (number, weight) in weights.iter().enumerate() {
            let has = held.iter().filter(|(owner, _)| *owner == number).count();
            let fair = ceiling * weight / total;
            prop_assert!(has >= 1 && has + 2 >= fair.min(ceiling) && has <= fair + 3, "{number}: {has} of {ceiling} by {weights:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_starves_and_nothing_is_lost_among_many_tasks() {
    let budget = budget(5);
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks = (0..20).map(|number| {
        let (share, is_over) = (budget.join(1 + number % 3), Arc::clone(&is_over));
        let budget = Arc::clone(&budget);
        tokio::spawn(async move {
            for round in 0..200 {
                let permit = match share.permit() {
                    Some(permit) => Some(permit),
                    // Some go away before their turn.
                    None if round % 7 == 0 => {
                        let mut wait = share.wait();
                        tokio::select! { biased; permit = wait.granted() => permit, () = tokio::task::yield_now() => None }
                    }
                    None => share.wait().granted().await,
                };
                is_over.fetch_or(budget.open() > 5, Ordering::Relaxed);
                tokio::task::yield_now().await;
                drop(permit);
            }
        })
    });
    futures::future::try_join_all(tasks).await.expect("no panic");
    assert!(!is_over.load(Ordering::Relaxed));
    assert_eq!((budget.open(), budget.waiting()), (0, 0));
}
