//! What binds the entries of the audit log to each other.

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::id::{OperationId, RequestId, TenantId};

/// What an entry's hash is taken of: everything but its place in the log, which the hash of the entry before stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditContent<'a> {
    /// When, in whole microseconds.
    pub at: Timestamp,
    /// Who.
    pub actor: &'a str,
    /// What.
    pub action: &'a str,
    /// To what.
    pub target: &'a str,
    /// The tenant in whose chain it is; absent means the platform's.
    pub tenant: Option<TenantId>,
    /// The request that asked.
    pub request_id: Option<RequestId>,
    /// The operation that follows from it.
    pub operation: Option<OperationId>,
    /// How it was.
    pub before: Option<&'a Value>,
    /// How it is.
    pub after: Option<&'a Value>,
}

impl AuditContent<'_> {
    /// SHA-256 of the hash of the entry before (nothing for a chain's first) and of this one.
    pub fn hash(&self, previous: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(previous).chain_update(self.canonical()).finalize().into()
    }

    /// A JSON array of the fields, keys of objects sorted, no blanks.
    fn canonical(&self) -> String {
        let sorted = |value: Option<&Value>| value.map(sorted).unwrap_or_default();
        json!([
            self.at.as_microsecond(),
            self.actor,
            self.action,
            self.target,
            self.tenant,
            self.request_id,
            self.operation,
            sorted(self.before),
            sorted(self.after),
        ])
        .to_string()
    }
}

/// The same value with the keys of its objects in order, whatever order the map type keeps.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut entries: Vec<_> = object.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn content(after: &Value) -> AuditContent<'_> {
        AuditContent {
            at: Timestamp::UNIX_EPOCH,
            actor: "a",
            action: "b",
            target: "c",
            tenant: None,
            request_id: None,
            operation: None,
            before: None,
            after: Some(after),
        }
    }

    #[test]
    fn the_order_of_keys_does_not_change_the_hash() {
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("json");
        let (one, two) =
            (parse(r#"{"x": [{"b": 1, "a": 2}], "a": null}"#), parse(r#"{"a": null, "x": [{"a": 2, "b": 1}]}"#));
        assert_eq!(content(&one).hash(b""), content(&two).hash(b""));
        assert_ne!(content(&one).hash(b""), content(&one).hash(b"x"));
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let (empty, other) = (json!({}), json!(1));
        let base = content(&empty);
        let id = Uuid::from_u128(7);
        let changed = [
            AuditContent { at: Timestamp::from_microsecond(1).expect("a time"), ..base },
            AuditContent { actor: "x", ..base },
            AuditContent { action: "x", ..base },
            AuditContent { target: "x", ..base },
            AuditContent { tenant: Some(TenantId::new(id)), ..base },
            AuditContent { request_id: Some(RequestId::new(id)), ..base },
            AuditContent { operation: Some(OperationId::new(id)), ..base },
            AuditContent { before: Some(&other), ..base },
            AuditContent { after: Some(&other), ..base },
        ];
        let mut hashes: Vec<_> = changed.iter().map(|content| content.hash(b"")).collect();
        hashes.push(base.hash(b""));
        let all = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
    }
}
