//! Plans: what a tenant is given by default.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::affinity::Affinity;
use crate::isolation::Isolation;
use crate::limits::{LimitOutOfRange, LimitValue, Limits, Overrides};
use crate::name::{InvalidName, PlanName, SeedName};
use crate::word::words;

/// Price fields, for showing and for billing elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// ISO 4217 code, such as `EUR`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Price of a month in the currency's smallest unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly_minor: Option<i64>,
    /// Price of a year in the currency's smallest unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly_minor: Option<i64>,
    /// Price of the beginning in the currency's smallest unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup_minor: Option<i64>,
}

impl Price {
    /// Whether it can be a price.
    ///
    /// # Errors
    ///
    /// A sentence that names the field and says what would be right.
    pub fn check(&self) -> Result<(), String> {
        if let Some(currency) = &self.currency
            && !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err("`currency` is no ISO 4217 code; use three capital letters, such as EUR".to_owned());
        }
        let amounts = [self.monthly_minor, self.yearly_minor, self.setup_minor];
        if amounts.iter().flatten().any(|amount| *amount < 0) {
            return Err("an amount is negative; use 0 or more, in the currency's smallest unit".to_owned());
        }
        if amounts.iter().any(Option::is_some) && self.currency.is_none() {
            return Err("`currency` is missing; an amount needs one".to_owned());
        }
        Ok(())
    }
}

/// Quotas, features, default isolation and limits that tenants get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name, which is also its identity.
    pub name: PlanName,
    /// What a tenant of the plan has to itself, unless an isolation was given.
    pub isolation: Isolation,
    /// Product quotas, by name.
    pub quotas: BTreeMap<String, i64>,
    /// Product features that are on.
    pub features: Vec<String>,
    /// Ceilings.
    pub limits: Limits,
    /// Price fields.
    pub price: Price,
    /// What homes of new tenants are filled with, unless they name another seed.
    pub seed: Option<SeedName>,
    /// Whom its tenants should live beside, and whom not, unless they say so themselves.
    pub affinity: Affinity,
    /// Made at.
    pub created_at: Timestamp,
    /// Last changed at.
    pub updated_at: Timestamp,
}

/// The plan of a tenant that names none.
pub const DEFAULT_PLAN: &str = "developer";

/// Most quotas, and most features, that a plan or a tenant has.
pub const NAMED_MAX: usize = 64;

/// The name of a quota or a feature: 1 to 63 characters of `a-z 0-9 . _ -`, a letter first.
///
/// # Errors
///
/// When the name does not follow the rule.
pub fn check_name(kind: &'static str, name: &str) -> Result<(), InvalidName> {
    let is_valid = (1..=63).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-'));
    if is_valid {
        Ok(())
    } else {
        Err(InvalidName::new(kind, "use 1 to 63 of a-z, 0-9 and . _ -, beginning with a letter", name))
    }
}

/// Why a plan's or a tenant's values cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// A limit is out of its range.
    #[error(transparent)]
    Limit(#[from] LimitOutOfRange),
    /// A quota's or a feature's name is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A quota is negative.
    #[error("the quota `{name}` is negative; use 0 or more")]
    NegativeQuota {
        /// Which one.
        name: String,
    },
    /// There are too many.
    #[error("there are too many {what}; use at most {NAMED_MAX}")]
    TooMany {
        /// "quotas" or "features".
        what: &'static str,
    },
    /// A feature is named twice.
    #[error("the feature `{name}` is named twice; name it once")]
    Repeated {
        /// Which one.
        name: String,
    },
}

/// Whether these can be quotas.
///
/// # Errors
///
/// Too many, a name that is none, or a negative quota.
pub fn check_quotas(quotas: &BTreeMap<String, i64>) -> Result<(), InvalidTerms> {
    if quotas.len() > NAMED_MAX {
        return Err(InvalidTerms::TooMany { what: "quotas" });
    }
    for (name, value) in quotas {
        check_name("quota", name)?;
        if *value < 0 {
            return Err(InvalidTerms::NegativeQuota { name: name.clone() });
        }
    }
    Ok(())
}

/// Whether these can be features.
///
/// # Errors
///
/// Too many, a name that is none, or one that is named twice.
pub fn check_features<'a>(features: impl IntoIterator<Item = &'a str>) -> Result<(), InvalidTerms> {
    let mut seen = BTreeSet::new();
    for name in features {
        check_name("feature", name)?;
        if !seen.insert(name) {
            return Err(InvalidTerms::Repeated { name: name.to_owned() });
        }
        if seen.len() > NAMED_MAX {
            return Err(InvalidTerms::TooMany { what: "features" });
        }
    }
    Ok(())
}

impl Overrides {
    /// Whether a tenant may have these.
    ///
    /// # Errors
    ///
    /// The first value that is none.
    pub fn check(&self) -> Result<(), InvalidTerms> {
        self.limits.check()?;
        check_quotas(&self.quotas)?;
        check_features(self.features.keys().map(String::as_str))
    }
}

words! {
    /// Where a tenant's value comes from.
    Origin, "origin", "use plan or override", {
        /// Its plan.
        Plan => "plan",
        /// Its own overrides.
        Override => "override",
    }
}

/// A value that holds for a tenant, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective<T> {
    /// What holds.
    pub value: T,
    /// Who says so.
    pub origin: Origin,
}

/// What holds for a tenant: its plan with its overrides in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectivePlan {
    /// The plan.
    pub plan: PlanName,
    /// Every limit; without a value there is no ceiling.
    pub limits: BTreeMap<&'static str, Effective<Option<LimitValue>>>,
    /// Every quota.
    pub quotas: BTreeMap<String, Effective<i64>>,
    /// Every feature, on or off.
    pub features: BTreeMap<String, Effective<bool>>,
}

impl EffectivePlan {
    /// The plan with the overrides in place.
    pub fn of(plan: &Plan, overrides: &Overrides) -> Self {
        let own = overrides.limits.values().into_iter();
        let limits = plan.limits.values().into_iter().zip(own).map(|((name, given), (_, own))| {
            let origin = if own.is_some() { Origin::Override } else { Origin::Plan };
            (name, Effective { value: own.or(given), origin })
        });
        let mut quotas: BTreeMap<_, _> = plan
            .quotas
            .iter()
            .map(|(name, value)| (name.clone(), Effective { value: *value, origin: Origin::Plan }))
            .collect();
        quotas.extend(
            overrides
                .quotas
                .iter()
                .map(|(name, value)| (name.clone(), Effective { value: *value, origin: Origin::Override })),
        );
        let mut features: BTreeMap<_, _> =
            plan.features.iter().map(|name| (name.clone(), Effective { value: true, origin: Origin::Plan })).collect();
        features.extend(
            overrides
                .features
                .iter()
                .map(|(name, is_on)| (name.clone(), Effective { value: *is_on, origin: Origin::Override })),
        );
        Self { plan: plan.name.clone(), limits: limits.collect(), quotas, features }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            name: PlanName::parse("team").expect("valid"),
            isolation: Isolation::Database,
            quotas: BTreeMap::from([("seats".to_owned(), 5), ("flights".to_owned(), 100)]),
            features: vec!["sso".to_owned(), "export".to_owned()],
            limits: Limits { connections: Some(10), pool_size: Some(4), ..Limits::default() },
            price: Price::default(),
            seed: None,
            affinity: Affinity::default(),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn every_value_says_where_it_comes_from() {
        let overrides = Overrides {
            limits: Limits { pool_size: Some(9), ..Limits::default() },
            quotas: BTreeMap::from([("seats".to_owned(), 50)]),
            features: BTreeMap::from([("sso".to_owned(), false), ("beta".to_owned(), true)]),
        };
        let effective = EffectivePlan::of(&plan(), &overrides);
        assert_eq!(effective.limits.len(), Limits::NAMES.len());
        let limit = |name: &str| effective.limits[name];
        assert_eq!(limit("pool_size"), Effective { value: Some(LimitValue::Number(9)), origin: Origin::Override });
        assert_eq!(limit("connections"), Effective { value: Some(LimitValue::Number(10)), origin: Origin::Plan });
        assert_eq!(limit("statement_timeout_ms"), Effective { value: None, origin: Origin::Plan });
        assert_eq!(effective.quotas["seats"], Effective { value: 50, origin: Origin::Override });
        assert_eq!(effective.quotas["flights"].origin, Origin::Plan);
        assert_eq!(effective.features["sso"], Effective { value: false, origin: Origin::Override });
        assert_eq!(effective.features["export"], Effective { value: true, origin: Origin::Plan });
        assert!(effective.features["beta"].value);
    }

    #[test]
    fn names_amounts_and_numbers_are_bounded() {
        assert!(check_quotas(&BTreeMap::from([("seats".to_owned(), 0)])).is_ok());
        assert!(check_quotas(&BTreeMap::from([("seats".to_owned(), -1)])).is_err());
        assert!(check_quotas(&BTreeMap::from([("Seats".to_owned(), 1)])).is_err());
        assert!(check_quotas(&(0..65).map(|number| (format!("q{number}"), 1)).collect()).is_err());
        assert!(check_features(["sso", "export"]).is_ok());
        assert!(check_features(["sso", "sso"]).is_err());
        assert!(
            Price { currency: Some("EUR".to_owned()), monthly_minor: Some(4_900), ..Price::default() }.check().is_ok()
        );
        assert!(Price { monthly_minor: Some(4_900), ..Price::default() }.check().is_err());
        assert!(Price { currency: Some("euro".to_owned()), ..Price::default() }.check().is_err());
        assert!(
            Price { currency: Some("EUR".to_owned()), monthly_minor: Some(-1), ..Price::default() }.check().is_err()
        );
    }
}
