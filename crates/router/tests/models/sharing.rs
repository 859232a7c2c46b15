//! Tenants that share the connections of a cluster.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use shuttle::future::block_on;
use shuttle::thread;

use crate::budget::Budget;
use crate::pool::returning::give_back;
use crate::sync::{AtomicUsize, Ordering};
use crate::world::TenantPool;

pub(crate) const MODELS: &[(&str, fn())] = &[
    ("sharing::the_ceiling_holds_and_nobody_waits_for_ever", the_ceiling_holds_and_nobody_waits_for_ever),
    ("sharing::whoever_gives_up_passes_the_grant_on", whoever_gives_up_passes_the_grant_on),
    ("sharing::a_higher_ceiling_lets_in_who_waits", a_higher_ceiling_lets_in_who_waits),
    (
        "sharing::a_connection_that_comes_back_reaches_whoever_needs_it",
        a_connection_that_comes_back_reaches_whoever_needs_it,
    ),
    ("sharing::callers_of_one_pool_take_turns", callers_of_one_pool_take_turns),
    ("sharing::a_grant_that_is_not_needed_goes_to_others", a_grant_that_is_not_needed_goes_to_others),
    ("sharing::a_caller_that_gives_up_leaves_the_queue_moving", a_caller_that_gives_up_leaves_the_queue_moving),
];

/// Connections that are open, as those count who have them.
struct Open {
    now: AtomicUsize,
    most: usize,
}

impl Open {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { now: AtomicUsize::new(0), most })
    }

    fn one(&self) {
        assert!(self.now.fetch_add(1, Ordering::SeqCst) < self.most, "more are open than the ceiling allows");
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

fn budget(ceiling: usize) -> Arc<Budget> {
    let budget = Arc::new(Budget::default());
    budget.set_ceiling(Some(ceiling));
    budget
}

/// Opens a connection when it may, and closes it.
fn open_one(budget: &Arc<Budget>, open: &Open) {
    let share = budget.join(1);
    let permit = share.permit().unwrap_or_else(|| block_on(share.wait().granted()).expect("granted"));
    open.one();
    drop(permit);
}

fn all(threads: Vec<thread::JoinHandle<()>>) {
    for thread in threads {
        thread.join().expect("no panic");
    }
}

fn the_ceiling_holds_and_nobody_waits_for_ever() {
    let (budget, open) = (budget(2), Open::new(2));
    let one = |_| {
        let (budget, open) = (Arc::clone(&budget), Arc::clone(&open));
        thread::spawn(move || (0..2).for_each(|_| open_one(&budget, &open)))
    };
    all((0..4).map(one).collect());
    assert_eq!((budget.open(), budget.waiting()), (0, 0));
}

fn whoever_gives_up_passes_the_grant_on() {
    let (budget, open) = (budget(1), Open::new(1));
    let mut threads = Vec::new();
    for _ in 0..2 {
        let (taking, open, gives_up) = (Arc::clone(&budget), Arc::clone(&open), Arc::clone(&budget));
        threads.push(thread::spawn(move || open_one(&taking, &open)));
        threads.push(thread::spawn(move || {
            let share = gives_up.join(1);
            let wait = share.wait();
            thread::yield_now();
            drop(wait);
        }));
    }
    all(threads);
    assert_eq!((budget.open(), budget.waiting()), (0, 0));
}

fn a_higher_ceiling_lets_in_who_waits() {
    let (budget, open) = (budget(0), Open::new(2));
    let one = |_| {
        let (budget, open) = (Arc::clone(&budget), Arc::clone(&open));
        thread::spawn(move || open_one(&budget, &open))
    };
    let waiting = (0..3).map(one).collect();
    budget.set_ceiling(Some(1));
    budget.set_ceiling(Some(2));
    all(waiting);
    assert_eq!((budget.open(), budget.waiting()), (0, 0));
}

fn use_one(pool: &Arc<TenantPool>, open: &Open) {
    let object = block_on(pool.get()).expect("nobody runs out of time here");
    open.one();
    give_back(object, Arc::clone(pool));
}

/// Nobody waits, and what counts as open is a connection.
fn all_is_counted(budget: &Budget, pools: &[Arc<TenantPool>]) {
    let idle: usize = pools.iter().map(|pool| pool.pool.status().available).sum();
    assert_eq!((budget.open(), budget.waiting()), (idle, 0));
}

fn a_connection_that_comes_back_reaches_whoever_needs_it() {
    let (budget, open) = (budget(1), Open::new(1));
    let pools = [TenantPool::new(&budget), TenantPool::new(&budget)];
    let one = |pool: &Arc<TenantPool>| {
        let (pool, open) = (Arc::clone(pool), Arc::clone(&open));
        thread::spawn(move || use_one(&pool, &open))
    };
    all(vec![one(&pools[0]), one(&pools[0]), one(&pools[1])]);
    all_is_counted(&budget, &pools);
}

fn callers_of_one_pool_take_turns() {
    let (budget, open) = (budget(1), Open::new(1));
    let pools = [TenantPool::new(&budget)];
    let one = |_| {
        let (pool, open) = (Arc::clone(&pools[0]), Arc::clone(&open));
        thread::spawn(move || use_one(&pool, &open))
    };
    all((0..2).map(one).collect());
    all_is_counted(&budget, &pools);
}

fn a_grant_that_is_not_needed_goes_to_others() {
    let (budget, open) = (budget(2), Open::new(2));
    let pools = [TenantPool::new(&budget)];
    let object = block_on(pools[0].get()).expect("a connection");
    let of_another = budget.join(1).permit().expect("a second one");
    let waits = thread::spawn({
        let (pool, open) = (Arc::clone(&pools[0]), Arc::clone(&open));
        move || use_one(&pool, &open)
    });
    let closes = thread::spawn(move || drop(of_another));
    // Both ways to serve the caller open at the same time.
    give_back(object, Arc::clone(&pools[0]));
    all(vec![waits, closes]);
    all_is_counted(&budget, &pools);
}

fn a_caller_that_gives_up_leaves_the_queue_moving() {
    let (budget, open) = (budget(1), Open::new(1));
    let pools = [TenantPool::new(&budget), TenantPool::new(&budget)];
    let one = |pool: &Arc<TenantPool>| {
        let (pool, open) = (Arc::clone(pool), Arc::clone(&open));
        thread::spawn(move || use_one(&pool, &open))
    };
    let gives_up = thread::spawn({
        let pool = Arc::clone(&pools[0]);
        move || {
            let mut getting = pin!(pool.get());
            for _ in 0..2 {
                if let std::task::Poll::Ready(object) = getting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return give_back(object.expect("a connection"), Arc::clone(&pool));
                }
                thread::yield_now();
            }
        }
    });
    all(vec![one(&pools[0]), one(&pools[1]), gives_up]);
    all_is_counted(&budget, &pools);
}
