//! Changes with the semantics of a JSON merge patch (RFC 7396): absent keeps, null clears, a value replaces.

use std::collections::BTreeMap;

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use tenantry_domain::{InvalidName, Labels, Limits, Overrides};
use utoipa::ToSchema;

use crate::schema;

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

/// Changes of limits have the same fields twice: a plan's alone, a tenant's beside quotas and features. Flattening one
/// into the other would lose the field that an error points at.
macro_rules! limits_patch {
    ($(#[$meta:meta])* $name:ident { $($(#[$extra_meta:meta])* $extra:ident: $extra_type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Connections that the tenant may hold on its cluster, over all routers.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub connections: Patch<u32>,
            /// Connections that one router keeps for the tenant.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub pool_size: Patch<u32>,
            /// Connections that one router opens for the tenant in a second; callers wait in order for later ones.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub connections_per_second: Patch<u32>,
            /// Requests that one router lets through in a second.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub requests_per_second: Patch<u32>,
            /// Requests that one router lets through in a minute.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub requests_per_minute: Patch<u32>,
            /// Requests that one router lets run at the same time; later ones wait in order.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub concurrent_requests: Patch<u32>,
            /// Requests that wait in one router for others to end; zero means that none waits.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 0)]
            pub queued_requests: Patch<u32>,
            /// The longest that a statement may take, in milliseconds.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub statement_timeout_ms: Patch<u32>,
            /// The longest that a transaction may sit idle, in milliseconds.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub idle_in_transaction_timeout_ms: Patch<u32>,
            /// The longest that a transaction may take, in milliseconds.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<u32>, minimum = 1)]
            pub transaction_timeout_ms: Patch<u32>,
            /// Whether the tenant may create temporary tables.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<bool>)]
            pub temporary_tables: Patch<bool>,
            /// Whether routers may pool the tenant's connections with those of others in its database.
            #[serde(skip_serializing_if = "Patch::is_keep")]
            #[schema(value_type = Option<bool>)]
            pub shared_pooling: Patch<bool>,
            $($(#[$extra_meta])* pub $extra: $extra_type,)*
        }

        impl $name {
            /// The limits after the change.
            #[must_use]
            fn limits(&self, current: Limits) -> Limits {
                Limits {
                    connections: self.connections.apply(current.connections),
                    pool_size: self.pool_size.apply(current.pool_size),
                    connections_per_second: self.connections_per_second.apply(current.connections_per_second),
                    requests_per_second: self.requests_per_second.apply(current.requests_per_second),
                    requests_per_minute: self.requests_per_minute.apply(current.requests_per_minute),
                    concurrent_requests: self.concurrent_requests.apply(current.concurrent_requests),
                    queued_requests: self.queued_requests.apply(current.queued_requests),
                    statement_timeout_ms: self.statement_timeout_ms.apply(current.statement_timeout_ms),
                    idle_in_transaction_timeout_ms: self
                        .idle_in_transaction_timeout_ms
                        .apply(current.idle_in_transaction_timeout_ms),
                    transaction_timeout_ms: self.transaction_timeout_ms.apply(current.transaction_timeout_ms),
                    temporary_tables: self.temporary_tables.apply(current.temporary_tables),
                    shared_pooling: self.shared_pooling.apply(current.shared_pooling),
                }
            }
        }
    };
}

limits_patch! {
    /// A change of a plan's limits: a value sets a limit, null removes it, limits that are not named stay.
    LimitsPatch {}
}

limits_patch! {
    /// A change of a tenant's overrides: a value sets one, null removes it so that the plan's holds again, those that are
    /// not named stay.
    OverridesPatch {
        /// Quotas of its own by name; null removes one, null for the whole removes all.
        #[serde(skip_serializing_if = "Patch::is_keep")]
        #[schema(schema_with = schema::quotas_patch, required = false)]
        quotas: Patch<BTreeMap<String, Option<i64>>>,
        /// Features switched on or off for it, by name; null removes one, null for the whole removes all.
        #[serde(skip_serializing_if = "Patch::is_keep")]
        #[schema(schema_with = schema::features_patch, required = false)]
        features: Patch<BTreeMap<String, Option<bool>>>,
    }
}

impl LimitsPatch {
    /// The limits after the change.
    #[must_use]
    pub fn apply(&self, current: Limits) -> Limits {
        self.limits(current)
    }
}

impl OverridesPatch {
    /// The overrides after the change.
    #[must_use]
    pub fn apply(&self, current: Overrides) -> Overrides {
        Overrides {
            limits: self.limits(current.limits),
            quotas: merge(&self.quotas, current.quotas),
            features: merge(&self.features, current.features),
        }
    }
}

/// A map after a change: a value sets an entry, null removes it, null for the whole removes all.
pub(crate) fn merge<T: Copy>(
    change: &Patch<BTreeMap<String, Option<T>>>,
    mut current: BTreeMap<String, T>,
) -> BTreeMap<String, T> {
    match change {
        Patch::Keep => current,
        Patch::Clear => BTreeMap::new(),
        Patch::Set(changes) => {
            for (name, value) in changes {
                match value {
                    Some(value) => current.insert(name.clone(), *value),
                    None => current.remove(name),
                };
            }
            current
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
    fn a_change_of_overrides_reaches_each_quota_and_feature() {
        let current: Overrides = serde_json::from_str(
            r#"{"pool_size": 4, "quotas": {"seats": 5, "flights": 9}, "features": {"sso": true}}"#,
        )
        .expect("valid");
        let patch: OverridesPatch =
            serde_json::from_str(r#"{"pool_size": null, "quotas": {"seats": null, "flights": 10}, "features": null}"#)
                .expect("valid");
        let changed = serde_json::to_value(patch.apply(current)).expect("serialises");
        assert_eq!(changed, serde_json::json!({ "quotas": { "flights": 10 } }));
        assert!(serde_json::from_str::<OverridesPatch>(r#"{"quota": {}}"#).is_err());
    }

    #[test]
    fn every_limit_can_be_changed() {
        let value = |name: &str| match name {
            "temporary_tables" | "shared_pooling" => true.into(),
            _ => 7.into(),
        };
        let all: serde_json::Map<String, serde_json::Value> =
            Limits::NAMES.iter().map(|name| ((*name).to_owned(), value(name))).collect();
        let patch: LimitsPatch = serde_json::from_value(all.clone().into()).expect("every limit is known");
        let changed = serde_json::to_value(patch.apply(Limits::default())).expect("serialises");
        assert_eq!(changed, serde_json::Value::Object(all));
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
