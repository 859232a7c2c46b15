//! Replicas: what a reader asks of one, and what is known of each.

mod read_from;
mod sight;

pub use self::read_from::{ReadFrom, ReplicaFault};
pub(crate) use self::sight::{Sight, Verdict};
