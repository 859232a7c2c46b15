//! One tenant's gate.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenantry_domain::Limits;
use tokio::sync::oneshot;

use super::permit::RequestLimit;
use super::rate::{Pace, Rate};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
/// How soon callers come back where nobody can know when a place is free.
const CROWDED_RETRY: Duration = Duration::from_secs(1);

/// Why a request was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) limit: RequestLimit,
    pub(crate) retry_after: Duration,
}

/// What became of a request at the gate.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It runs.
    Running(Place),
    /// It waits for others to end.
    Queued(Turn),
}

/// Lets one tenant's requests through.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    second: Rate,
    minute: Rate,
    running: u32,
    /// How many may run, as the route said last.
    running_max: Option<u32>,
    /// In the order in which they came, with rising tickets.
    waiting: VecDeque<Waiter>,
    next_ticket: u64,
    is_retired: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    turn: oneshot::Sender<()>,
}

impl Gate {
    /// Takes a request in, at once or into the queue; `None` where the gate was taken away a moment ago. Nobody overtakes:
    /// while anyone waits, who comes later waits too.
    pub(crate) fn enter(
        self: &Arc<Self>,
        limits: &Limits,
        queue_max: u32,
        now_ns: u64,
    ) -> Result<Option<Entered>, Exceeded> {
        let mut state = self.lock();
        if state.is_retired {
            return Ok(None);
        }
        state.follow(limits);
        let is_full = state.running_max.is_some_and(|most| state.running >= most);
        if is_full {
            let places = limits.queued_requests.unwrap_or(queue_max).min(queue_max) as usize;
            if state.waiting.len() >= places {
                let limit = if places == 0 { RequestLimit::Concurrent } else { RequestLimit::Queued };
                return Err(Exceeded { limit, retry_after: CROWDED_RETRY });
            }
        }
        state.pay(limits, now_ns)?;
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let place = Place { gate: Arc::clone(self), ticket };
        if is_full {
            let (turn, called) = oneshot::channel();
            state.waiting.push_back(Waiter { ticket, turn });
            Ok(Some(Entered::Queued(Turn { place, called })))
        } else {
            state.running += 1;
            Ok(Some(Entered::Running(place)))
        }
    }

    /// Takes over a changed limit: those for whom there is room now need not wait for anyone to end.
    pub(crate) fn follow(&self, limits: &Limits) {
        self.lock().follow(limits);
    }

    /// Ends a gate that holds nothing worth keeping; says whether it did.
    pub(crate) fn retire(&self, now_ns: u64) -> bool {
        let mut state = self.lock();
        let is_idle = state.running == 0
            && state.waiting.is_empty()
            && state.second.is_settled(now_ns)
            && state.minute.is_settled(now_ns);
        state.is_retired |= is_idle;
        is_idle
    }

    fn leave(&self, ticket: u64) {
        let mut state = self.lock();
        match state.waiting.binary_search_by_key(&ticket, |waiter| waiter.ticket) {
            Ok(position) => {
                state.waiting.remove(position);
            }
            Err(_) => state.running -= 1,
        }
        state.call_next();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn follow(&mut self, limits: &Limits) {
        self.running_max = limits.concurrent_requests;
        self.call_next();
    }

    /// Counts a request against both rates, or against neither.
    fn pay(&mut self, limits: &Limits, now_ns: u64) -> Result<(), Exceeded> {
        let after = |rate: Rate, requests: Option<u32>, interval| {
            requests.map_or(Ok(rate), |requests| rate.after_one(Pace::new(requests, interval), now_ns))
        };
        let second = after(self.second, limits.requests_per_second, SECOND);
        let minute = after(self.minute, limits.requests_per_minute, MINUTE);
        // Whoever is told a time comes back when both have room.
        let (limit, retry_after) = match (second, minute) {
            (Ok(second), Ok(minute)) => {
                (self.second, self.minute) = (second, minute);
                return Ok(());
            }
            (Err(second), Err(minute)) if second > minute => (RequestLimit::PerSecond, second),
            (_, Err(minute)) => (RequestLimit::PerMinute, minute),
            (Err(second), Ok(_)) => (RequestLimit::PerSecond, second),
        };
        Err(Exceeded { limit, retry_after })
    }

    fn call_next(&mut self) {
        while self.running_max.is_none_or(|most| self.running < most) {
            let Some(waiter) = self.waiting.pop_front() else { return };
            self.running += 1;
            // Where nobody listens any more, the place is about to be given back, which counts it down again.
            let _ = waiter.turn.send(());
        }
    }
}

/// A place among those that run or wait. Dropped, it is given to the next.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    ticket: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.leave(self.ticket);
    }
}

/// A place in the queue. Dropped, it is free for others, whether its turn has come or not.
#[derive(Debug)]
pub(crate) struct Turn {
    place: Place,
    called: oneshot::Receiver<()>,
}

impl Turn {
    /// Waits until it may run.
    pub(crate) async fn come(mut self) -> Place {
        // The sender lives in the queue of the gate that the place holds, until it calls.
        let _ = (&mut self.called).await;
        self.place
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    fn at_once(concurrent: u32, queued: u32) -> Limits {
        Limits { concurrent_requests: Some(concurrent), queued_requests: Some(queued), ..Limits::default() }
    }

    fn queued(gate: &Arc<Gate>, limits: &Limits) -> Turn {
        match gate.enter(limits, 1_000, 0).expect("room in the queue") {
            Some(Entered::Queued(turn)) => turn,
            other => panic!("not queued but {other:?}"),
        }
    }

    fn running(gate: &Arc<Gate>, limits: &Limits) -> Place {
        match gate.enter(limits, 1_000, 0).expect("let through") {
            Some(Entered::Running(place)) => place,
            other => panic!("not running but {other:?}"),
        }
    }

    #[test]
    fn a_refused_request_counts_against_nothing() {
        let gate = Arc::new(Gate::default());
        let limits = Limits { requests_per_second: Some(2), requests_per_minute: Some(3), ..at_once(1, 0) };
        let first = running(&gate, &limits);
        for _ in 0..10 {
            let crowded = gate.enter(&limits, 1_000, 0).expect_err("one runs");
            assert_eq!(crowded.limit, RequestLimit::Concurrent);
        }
        drop(first);
        drop(running(&gate, &limits));
        assert_eq!(gate.enter(&limits, 1_000, 0).expect_err("two in a second").limit, RequestLimit::PerSecond);
        let later = 1_000_000_000;
        assert!(matches!(gate.enter(&limits, 1_000, later), Ok(Some(Entered::Running(_)))));
        let exceeded = gate.enter(&limits, 1_000, later).expect_err("three in a minute");
        assert_eq!(exceeded, Exceeded { limit: RequestLimit::PerMinute, retry_after: Duration::from_secs(19) });
    }

    #[test]
    fn the_queue_has_an_end_of_its_own_and_one_of_the_router() {
        let gate = Arc::new(Gate::default());
        let _running = running(&gate, &at_once(1, 2));
        let _turns = (queued(&gate, &at_once(1, 2)), queued(&gate, &at_once(1, 2)));
        assert_eq!(gate.enter(&at_once(1, 2), 1_000, 0).expect_err("full").limit, RequestLimit::Queued);
        assert_eq!(gate.enter(&at_once(1, 9), 2, 0).expect_err("full").limit, RequestLimit::Queued);
    }

    #[test]
    fn a_raised_limit_calls_those_who_wait_and_a_lowered_one_ends_nobody() {
        let gate = Arc::new(Gate::default());
        let first = running(&gate, &at_once(1, 9));
        let turns: Vec<_> = (0..3).map(|_| queued(&gate, &at_once(1, 9))).collect();
        gate.follow(&at_once(3, 9));
        let mut places: Vec<_> = turns.into_iter().map(|turn| turn.come().now_or_never()).collect();
        assert!(places[0].is_some() && places[1].is_some() && places[2].is_none());
        gate.follow(&at_once(1, 9));
        let waiting = queued(&gate, &at_once(1, 9));
        drop(places.remove(0));
        drop(first);
        let mut come = Box::pin(waiting.come());
        assert!((&mut come).now_or_never().is_none(), "one still runs");
        drop(places);
        assert!(come.now_or_never().is_some());
    }

    #[test]
    fn a_gate_is_taken_away_only_when_nothing_is_owed() {
        let gate = Arc::new(Gate::default());
        let limits = Limits { requests_per_minute: Some(1), ..at_once(1, 1) };
        let place = running(&gate, &limits);
        let minute = 60_000_000_000;
        assert!(!gate.retire(minute), "one runs");
        drop(place);
        assert!(!gate.retire(minute - 1), "a request is not earned yet");
        assert!(gate.retire(minute));
        assert!(matches!(gate.enter(&limits, 1_000, minute), Ok(None)));
    }

    /// What may happen at a gate.
    #[derive(Debug, Clone)]
    enum Event {
        Come,
        End(usize),
        GiveUp(usize),
        Change(Option<u32>),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Come),
            3 => any::<usize>().prop_map(Event::End),
            1 => any::<usize>().prop_map(Event::GiveUp),
            1 => prop::option::of(1..5_u32).prop_map(Event::Change),
        ]
    }

    proptest! {
        /// Against a model: whoever waits is called in the order in which they came, as soon as there is room, never
        /// sooner, whoever gives up; and nobody is left behind.
        #[test]
        fn requests_run_in_order_and_never_more_than_may(events in prop::collection::vec(event(), 1..200)) {
            let gate = Arc::new(Gate::default());
            let mut limits = at_once(2, 1_000);
            let (mut runs, mut waits) = (Vec::new(), VecDeque::new());
            for event in events {
                match event {
                    Event::Come => match gate.enter(&limits, 1_000, 0).expect("no rate, a long queue") {
                        Some(Entered::Running(place)) => {
                            prop_assert!(waits.is_empty(), "someone was overtaken");
                            prop_assert!(limits.concurrent_requests.is_none_or(|most| runs.len() < most as usize));
                            runs.push(place);
                        }
                        Some(Entered::Queued(turn)) => {
                            prop_assert!(limits.concurrent_requests.is_some_and(|most| runs.len() >= most as usize));
                            waits.push_back(Box::pin(turn.come()));
                        }
                        None => prop_assert!(false, "nobody retires it"),
                    },
                    Event::End(which) if !runs.is_empty() => drop(runs.swap_remove(which % runs.len())),
                    Event::GiveUp(which) if !waits.is_empty() => drop(waits.remove(which % waits.len())),
                    Event::Change(concurrent_requests) => {
                        limits.concurrent_requests = concurrent_requests;
                        gate.follow(&limits);
                    }
                    Event::End(_) | Event::GiveUp(_) => {}
                }
                let mut called = waits.iter_mut().map(|turn| turn.as_mut().now_or_never()).collect::<Vec<_>>();
                let count = called.iter().take_while(|place| place.is_some()).count();
                prop_assert!(called[count..].iter().all(Option::is_none), "called out of order");
                runs.extend(called.drain(..count).flatten());
                waits.drain(..count);
                if !waits.is_empty() {
                    prop_assert!(limits.concurrent_requests.is_some_and(|most| runs.len() >= most as usize));
                }
            }
            while !runs.is_empty() {
                runs.pop();
                while let Some(place) = waits.front_mut().and_then(|turn| turn.as_mut().now_or_never()) {
                    waits.pop_front();
                    runs.push(place);
                }
            }
            prop_assert!(waits.is_empty(), "someone starves");
            prop_assert!(gate.retire(0));
        }
    }
}
