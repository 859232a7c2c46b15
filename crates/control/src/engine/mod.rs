//! The operation engine: durable work in small idempotent steps.
//!
//! A worker claims an operation under a lease, performs its next step, and commits the step's outcome together with the
//! cursor. Whatever it did outside that transaction tolerates being done again, so a crash anywhere costs a repetition
//! and nothing else. The lease's epoch is checked by every catalog write ([`step::Work::guard`]) and, on clusters, by the
//! fence, so that a worker that lost its lease while asleep changes nothing when it wakes.
//!
//! Start reading at [`step`] (what a kind of work is), then [`kinds`] (which there are), [`run`] (one operation) and [`worker`] (all of them).

#[cfg(feature = "failpoints")]
pub(crate) mod failpoints;
pub(crate) mod kinds;
pub(crate) mod run;
pub(crate) mod step;
pub(crate) mod worker;

pub(crate) use step::{Kind, Step, StepError, StepResult, Work};
