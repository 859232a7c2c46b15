//! What a receiver gets.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tenantry_domain::{EventId, EventKind};
use tenantry_store::ClaimedDelivery;

/// Raised when a field changes its meaning or goes; new fields may come at any time.
const VERSION: u32 = 1;

/// One event in JSON. Every attempt sends the same bytes, as long as the program stays the same.
#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    id: EventId,
    #[serde(rename = "type")]
    kind: EventKind,
    at: Timestamp,
    /// Rises with every event, so that a receiver can tell which of two is the later.
    sequence: i64,
    #[serde(flatten)]
    about: &'a Value,
    detail: &'a Value,
}

pub(super) fn of(delivery: &ClaimedDelivery) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Body {
        version: VERSION,
        id: delivery.event,
        kind: delivery.kind,
        at: delivery.at,
        sequence: delivery.sequence,
        about: &delivery.about,
        detail: &delivery.detail,
    })
}
