//! Changes with the semantics of a JSON merge patch (RFC 7396): absent keeps, null clears, a value replaces.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use tenantry_domain::{InvalidName, Labels, Limits};
use utoipa::ToSchema;

/// What a change does to one value. Stands in a field with `#[serde(default, skip_serializing_if = "Patch::is_keep")]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// The field is absent: leave the value.
    #[default]
    Keep,
    /// The field is null: remove the value.
    Clear,
    /// The new value.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether nothing changes.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value after the change.
    #[must_use]
    pub fn apply(self, current: Option<T>) -> Option<T> {
        match self {
            Self::Keep => current,
            Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }

    /// As an optional change of an optional value: `None` keeps.
    pub fn into_change(self) -> Option<Option<T>> {
        match self {
            Self::Keep => None,
            Self::Clear => Some(None),
            Self::Set(value) => Some(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep | Self::Clear => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

/// For an optional field whose value cannot be cleared: absent keeps, null is an error.
pub(crate) fn never_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A change of labels: a string sets a label, null removes it, labels that are not named stay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct LabelsPatch(BTreeMap<String, Option<String>>);

impl LabelsPatch {
    /// Checks every key and value; the number of labels is checked when the change is applied.
    pub fn new(changes: BTreeMap<String, Option<String>>) -> Result<Self, InvalidName> {
        for (key, value) in &changes {
            Labels::new(BTreeMap::from([(key.clone(), value.clone().unwrap_or_default())]))?;
        }
        Ok(Self(changes))
    }

    /// The labels after the change. Fails past [`Labels::MAX`].
    pub fn apply(self, current: &Labels) -> Result<Labels, InvalidName> {
        let mut labels = current.as_map().clone();
        for (key, value) in self.0 {
            match value {
                Some(value) => labels.insert(key, value),
                None => labels.remove(&key),
            };
        }
        Labels::new(labels)
    }
}

impl<'de> Deserialize<'de> for LabelsPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A change of limits: a value sets a limit, null removes it, limits that are not named stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsPatch {
    /// Connections that the tenant may hold on its cluster, over all routers.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub connections: Patch<u32>,
    /// Connections that one router keeps for the tenant.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub pool_size: Patch<u32>,
    /// Requests that one router lets through in a second.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub requests_per_second: Patch<u32>,
    /// `statement_timeout` of a session in milliseconds.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub statement_timeout_ms: Patch<u32>,
    /// `idle_in_transaction_session_timeout` of a session in milliseconds.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<u32>)]
    pub idle_in_transaction_timeout_ms: Patch<u32>,
    /// Whether the tenant may create temporary tables.
    #[serde(skip_serializing_if = "Patch::is_keep")]
    #[schema(value_type = Option<bool>)]
    pub temporary_tables: Patch<bool>,
}

impl LimitsPatch {
    /// The limits after the change.
    #[must_use]
    pub fn apply(self, current: Limits) -> Limits {
        Limits {
            connections: self.connections.apply(current.connections),
            pool_size: self.pool_size.apply(current.pool_size),
            requests_per_second: self.requests_per_second.apply(current.requests_per_second),
            statement_timeout_ms: self.statement_timeout_ms.apply(current.statement_timeout_ms),
            idle_in_transaction_timeout_ms: self
                .idle_in_transaction_timeout_ms
                .apply(current.idle_in_transaction_timeout_ms),
            temporary_tables: self.temporary_tables.apply(current.temporary_tables),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_keeps_null_clears_and_a_value_replaces() {
        let patch: LimitsPatch = serde_json::from_str(r#"{"connections": null, "pool_size": 8}"#).expect("valid");
        let current = Limits { connections: Some(5), requests_per_second: Some(9), ..Limits::default() };
        let changed = patch.apply(current);
        assert_eq!((changed.connections, changed.pool_size, changed.requests_per_second), (None, Some(8), Some(9)));
        assert_eq!(serde_json::to_string(&patch).expect("serialises"), r#"{"connections":null,"pool_size":8}"#);
        assert!(serde_json::from_str::<LimitsPatch>(r#"{"conections": 1}"#).is_err());
    }

    #[test]
    fn labels_are_merged_and_checked() {
        let current = Labels::new(BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]));
        let patch: LabelsPatch = serde_json::from_str(r#"{"a": null, "c": "3"}"#).expect("valid");
        let labels = patch.apply(&current.expect("valid")).expect("few enough");
        assert_eq!(labels.as_map().keys().collect::<Vec<_>>(), ["b", "c"]);
        assert!(serde_json::from_str::<LabelsPatch>(r#"{"Not A Key": "x"}"#).is_err());
        assert!(serde_json::from_str::<LabelsPatch>(r#"{"Not A Key": null}"#).is_err());
    }
}
