//! Waves: whom a rollout migrates first, and how long it looks at that before it goes on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::budget::ErrorBudget;
use crate::label::Labels;
use crate::name::{InvalidName, PlanName, Region};

const RULE: &str = "use a number of tenants, a percentage such as 10%, label:KEY=VALUE, plan:NAME, region:NAME or all";

/// Whom a wave takes, of those whom no earlier wave took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WaveSelection {
    /// So many.
    Tenants(u32),
    /// As many as it takes until this share of the rollout's tenants is in this wave or an earlier one, rounded up.
    Percent(u8),
    /// Everybody with this label.
    Label {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Everybody with this plan.
    Plan(PlanName),
    /// Everybody in this region.
    Region(Region),
    /// Everybody else.
    All,
}

impl FromStr for WaveSelection {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = || InvalidName::new("wave", RULE, text);
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(percent) = text.strip_suffix('%') {
            return match percent.parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                Ok(_) | Err(_) => Err(refused()),
            };
        }
        match text.split_once(':') {
            Some(("label", label)) => {
                let (key, value) = label.split_once('=').ok_or_else(refused)?;
                Labels::new([(key.to_owned(), value.to_owned())].into())?;
                Ok(Self::Label { key: key.to_owned(), value: value.to_owned() })
            }
            Some(("plan", name)) => Ok(Self::Plan(PlanName::parse(name)?)),
            Some(("region", name)) => Ok(Self::Region(Region::parse(name)?)),
            Some(_) => Err(refused()),
            None => match text.parse() {
                Ok(0) | Err(_) => Err(refused()),
                Ok(tenants) => Ok(Self::Tenants(tenants)),
            },
        }
    }
}

impl fmt::Display for WaveSelection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenants(tenants) => write!(formatter, "{tenants}"),
            Self::Percent(percent) => write!(formatter, "{percent}%"),
            Self::Label { key, value } => write!(formatter, "label:{key}={value}"),
            Self::Plan(name) => write!(formatter, "plan:{name}"),
            Self::Region(name) => write!(formatter, "region:{name}"),
            Self::All => formatter.write_str("all"),
        }
    }
}

impl TryFrom<String> for WaveSelection {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<WaveSelection> for String {
    fn from(selection: WaveSelection) -> Self {
        selection.to_string()
    }
}

/// One wave of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// Whom it takes.
    pub select: WaveSelection,
    /// How long the rollout waits once the wave is through, in seconds, before the next one begins.
    #[serde(default)]
    pub bake_seconds: u32,
    /// How many failures the wave bears.
    #[serde(default)]
    pub error_budget: ErrorBudget,
}

/// The waves of a rollout, in order; the last takes everybody else. All before the last are canaries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Wave>", into = "Vec<Wave>")]
pub struct Waves(Vec<Wave>);

impl Waves {
    /// Most waves of one rollout.
    pub const MAX: usize = 32;
    /// The longest time between two waves, in seconds: 30 days.
    pub const BAKE_SECONDS_MAX: u32 = 30 * 24 * 3_600;

    /// Checks them. Where the last one does not take everybody else, one that does, with the same bake time and budget,
    /// comes behind it.
    pub fn new(mut waves: Vec<Wave>) -> Result<Self, InvalidName> {
        let last = waves.last().ok_or_else(|| InvalidName::new("list of waves", "name at least one wave", ""))?;
        if last.select != WaveSelection::All {
            waves.push(Wave { select: WaveSelection::All, ..last.clone() });
        }
        if waves.len() > Self::MAX {
            return Err(InvalidName::new("list of waves", "use at most 32 waves", &waves.len().to_string()));
        }
        let mut percent = 0;
        for (number, wave) in waves.iter().enumerate() {
            if wave.bake_seconds > Self::BAKE_SECONDS_MAX {
                return Err(InvalidName::new("bake time", "use at most 30 days", &wave.bake_seconds.to_string()));
            }
            wave.error_budget.check()?;
            match wave.select {
                WaveSelection::All if number + 1 < waves.len() => {
                    return Err(InvalidName::new("list of waves", "let `all` be the last wave", "all"));
                }
                WaveSelection::Percent(share) if share <= percent => {
                    let rule =
                        "let each percentage be larger than the one before: it is the share that is through then";
                    return Err(InvalidName::new("list of waves", rule, &wave.select.to_string()));
                }
                WaveSelection::Percent(share) => percent = share,
                _ => {}
            }
        }
        Ok(Self(waves))
    }

    /// One tenant, then 1 %, then 10 %, then everybody. None of them bears a failure.
    pub fn standard() -> Self {
        let wave = |select| Wave { select, bake_seconds: 0, error_budget: ErrorBudget::NONE };
        let canaries = [WaveSelection::Tenants(1), WaveSelection::Percent(1), WaveSelection::Percent(10)];
        Self(canaries.into_iter().chain([WaveSelection::All]).map(wave).collect())
    }

    /// All of them, in order; never none.
    pub fn as_slice(&self) -> &[Wave] {
        &self.0
    }

    /// The number of the last one.
    pub fn last(&self) -> usize {
        self.0.len() - 1
    }
}

impl TryFrom<Vec<Wave>> for Waves {
    type Error = InvalidName;

    fn try_from(waves: Vec<Wave>) -> Result<Self, InvalidName> {
        Self::new(waves)
    }
}

impl From<Waves> for Vec<Wave> {
    fn from(waves: Waves) -> Self {
        waves.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn wave(select: &str) -> Wave {
        Wave { select: select.parse().unwrap(), bake_seconds: 5, error_budget: ErrorBudget::default() }
    }

    #[test]
    fn selections_are_written_as_they_are_read() {
        for text in ["1", "250", "1%", "100%", "label:tier=canary", "label:a/b=", "plan:free", "region:eu", "all"] {
            assert_eq!(text.parse::<WaveSelection>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "0%", "101%", "1.5%", "label:tier", "label:Tier=x", "plan:", "most", "state:x"] {
            assert!(text.parse::<WaveSelection>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_last_wave_takes_everybody_else() {
        let waves = Waves::new(vec![wave("1"), wave("10%")]).unwrap();
        assert_eq!(waves.as_slice().len(), 3);
        assert_eq!((waves.last(), &waves.as_slice()[2]), (2, &wave("all")));
        assert_eq!(Waves::new(vec![wave("1"), wave("all")]).unwrap().as_slice().len(), 2);
        let read: Result<Waves, _> = serde_json::from_str(r#"[{"select":"5%"}]"#);
        assert_eq!(read.unwrap().last(), 1);
    }

    #[test]
    fn waves_that_could_never_run_are_refused() {
        for selections in [&[] as &[&str], &["all", "1"], &["10%", "10%"], &["10%", "1", "5%"], &["1"; 32]] {
            assert!(Waves::new(selections.iter().map(|select| wave(select)).collect()).is_err(), "{selections:?}");
        }
        let too_long = Wave { bake_seconds: Waves::BAKE_SECONDS_MAX + 1, ..wave("1") };
        assert!(Waves::new(vec![too_long]).is_err());
    }
}
