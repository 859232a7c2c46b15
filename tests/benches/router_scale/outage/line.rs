//! What a service says of one tenant and one second.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What came of the requests that ended in that second.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Since 1970.
    pub(super) second: u64,
    pub(super) service: String,
    pub(super) tenant: String,
    /// How long those took that were answered.
    pub(super) milliseconds: Vec<f64>,
    pub(super) errors: BTreeMap<String, u64>,
    /// When the first and the last request failed, in milliseconds since 1970.
    pub(super) failed: Option<(u64, u64)>,
}

impl Line {
    pub(super) fn to_json(&self) -> Value {
        json!({
            "second": self.second, "service": self.service, "tenant": self.tenant, "milliseconds": self.milliseconds,
            "errors": self.errors, "failed": self.failed,
        })
    }

    pub(super) fn of_json(text: &str) -> Self {
        let mut json: Value = serde_json::from_str(text).expect("a line of JSON");
        let mut take = |field: &str| json[field].take();
        let text = |value: Value| value.as_str().expect("a text").to_owned();
        Self {
            second: take("second").as_u64().expect("a number"),
            service: text(take("service")),
            tenant: text(take("tenant")),
            milliseconds: serde_json::from_value(take("milliseconds")).expect("times"),
            errors: serde_json::from_value(take("errors")).expect("errors"),
            failed: serde_json::from_value(take("failed")).expect("two times or none"),
        }
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, milliseconds: f64) {
        self.milliseconds.push(milliseconds);
    }

    /// A request failed.
    pub(super) fn failed(&mut self, kind: &str, now_ms: u64) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
        self.failed = Some((self.failed.map_or(now_ms, |(first, _)| first), now_ms));
    }
}
