//! Whom a tenant should live beside, and whom not.

use serde::{Deserialize, Serialize};

use crate::label::Labels;
use crate::name::InvalidName;

/// Wishes about a tenant's neighbours. A request's wishes stand in place of its plan's, each as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Affinity {
    /// Not beside tenants that bear the same value of a label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apart: Option<Apart>,
    /// On the cluster of its parent, where that will do; a preference, never a must.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with_parent: Option<bool>,
}

/// Tenants with the same value of this label go to different clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apart {
    /// The label's key.
    #[serde(deserialize_with = "label_key")]
    pub label: String,
    /// Whether no home is better than one beside another; absent means that it is a preference.
    #[serde(default)]
    pub required: bool,
}

impl Affinity {
    /// These wishes with every wish that `own` gives in its place.
    #[must_use]
    pub fn overridden_by(self, own: Self) -> Self {
        Self { apart: own.apart.or(self.apart), with_parent: own.with_parent.or(self.with_parent) }
    }

    /// Whether nothing is wished.
    pub const fn is_empty(&self) -> bool {
        self.apart.is_none() && self.with_parent.is_none()
    }
}

impl Apart {
    /// Checks the label's key.
    pub fn new(label: &str, required: bool) -> Result<Self, InvalidName> {
        Labels::new([(label.to_owned(), String::new())].into())?;
        Ok(Self { label: label.to_owned(), required })
    }
}

fn label_key<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let label = String::deserialize(deserializer)?;
    Apart::new(&label, false).map(|apart| apart.label).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_replaces_what_its_plan_wishes_one_by_one() {
        let plan = Affinity { apart: Apart::new("group", true).ok(), with_parent: Some(true) };
        let own = Affinity { apart: None, with_parent: Some(false) };
        let both = plan.clone().overridden_by(own);
        assert_eq!((both.apart, both.with_parent), (plan.apart.clone(), Some(false)));
        assert_eq!(plan.clone().overridden_by(Affinity::default()), plan);
    }

    #[test]
    fn a_key_that_no_label_has_is_refused() {
        assert!(serde_json::from_str::<Affinity>(r#"{"apart": {"label": "group"}}"#).is_ok());
        assert!(serde_json::from_str::<Affinity>(r#"{"apart": {"label": "Not A Key"}}"#).is_err());
        assert!(serde_json::from_str::<Affinity>(r#"{"beside": "acme"}"#).is_err());
        assert_eq!(serde_json::to_string(&Affinity::default()).expect("serialises"), "{}");
    }
}
