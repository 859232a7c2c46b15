//! How many failures a rollout bears, and what stops it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::wave::Waves;
use crate::migration::SchemaVersion;
use crate::name::InvalidName;

const RULE: &str = "use a number of tenants, a percentage such as 2%, or any";

/// How many targets may fail. Both bounds hold together; without any, failures stop nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorBudget {
    /// Most targets that may fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<u32>,
    /// The largest share of the targets that may fail, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

impl ErrorBudget {
    /// No failure at all.
    pub const NONE: Self = Self { targets: Some(0), percent: None };

    /// Whether so many failures among so many targets are more than it bears.
    pub fn is_exceeded(self, failed: u64, targets: u64) -> bool {
        self.targets.is_some_and(|most| failed > u64::from(most))
            || self.percent.is_some_and(|percent| failed * 100 > targets * u64::from(percent))
    }

    pub(super) fn check(self) -> Result<(), InvalidName> {
        match self.percent {
            Some(percent) if percent > 100 => Err(InvalidName::new("error budget", RULE, &percent.to_string())),
            Some(_) | None => Ok(()),
        }
    }
}

impl FromStr for ErrorBudget {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refused = || InvalidName::new("error budget", RULE, text);
        if text == "any" {
            return Ok(Self::default());
        }
        let budget = match text.strip_suffix('%') {
            Some(percent) => Self { targets: None, percent: Some(percent.parse().map_err(|_| refused())?) },
            None => Self { targets: Some(text.parse().map_err(|_| refused())?), percent: None },
        };
        budget.check()?;
        Ok(budget)
    }
}

impl fmt::Display for ErrorBudget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.targets, self.percent) {
            (None, None) => formatter.write_str("any"),
            (Some(targets), None) => write!(formatter, "{targets}"),
            (None, Some(percent)) => write!(formatter, "{percent}%"),
            (Some(targets), Some(percent)) => write!(formatter, "{targets} and {percent}%"),
        }
    }
}

/// How many targets of a wave, or of a rollout, there are and have failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaveTally {
    /// All targets.
    pub targets: u64,
    /// Those that could not be migrated.
    pub failed: u64,
}

/// The same SQLSTATE over and over: how often in a row it was what the last targets failed with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureStreak {
    /// Which.
    pub sqlstate: String,
    /// How often.
    pub length: u32,
}

impl FailureStreak {
    /// After one more target: that failed with a SQLSTATE, or failed without one (`None`), or was migrated, which ends
    /// every streak just the same.
    pub fn follow(&mut self, sqlstate: Option<&str>) {
        match sqlstate {
            Some(sqlstate) if sqlstate == self.sqlstate => self.length = self.length.saturating_add(1),
            Some(sqlstate) => *self = Self { sqlstate: sqlstate.to_owned(), length: 1 },
            None => *self = Self::default(),
        }
    }
}

/// Why a rollout begins no more targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case", deny_unknown_fields)]
pub enum RolloutStop {
    /// A wave had more failures than it bears.
    WaveBudget {
        /// Which, from 0.
        wave: u32,
        /// How many failed in it.
        failed: u64,
    },
    /// There were more failures than the rollout bears.
    TotalBudget {
        /// How many failed.
        failed: u64,
    },
    /// The same SQLSTATE came so often in a row that it is no matter of single tenants.
    Breaker {
        /// Which.
        sqlstate: String,
        /// How often.
        times: u32,
    },
    /// While it waited its turn, the fleet went beyond its set.
    Overtaken {
        /// The fleet's version.
        version: SchemaVersion,
    },
}

impl RolloutStop {
    /// Whether what has happened stops the rollout. `by_wave` is in the order of the waves.
    pub fn due(
        waves: &Waves,
        total: ErrorBudget,
        breaker: Option<u32>,
        by_wave: &[WaveTally],
        streak: &FailureStreak,
    ) -> Option<Self> {
        for ((number, wave), seen) in (0_u32..).zip(waves.as_slice()).zip(by_wave) {
            if wave.error_budget.is_exceeded(seen.failed, seen.targets) {
                return Some(Self::WaveBudget { wave: number, failed: seen.failed });
            }
        }
        let (failed, targets) = by_wave.iter().fold((0, 0), |sum, it| (sum.0 + it.failed, sum.1 + it.targets));
        if total.is_exceeded(failed, targets) {
            return Some(Self::TotalBudget { failed });
        }
        match breaker {
            Some(times) if streak.length >= times => {
                Some(Self::Breaker { sqlstate: streak.sqlstate.clone(), times: streak.length })
            }
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for RolloutStop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WaveBudget { wave, failed } => {
                write!(formatter, "{failed} failed in wave {}, more than its error budget", wave + 1)
            }
            Self::TotalBudget { failed } => write!(formatter, "{failed} failed, more than the error budget"),
            Self::Breaker { sqlstate, times } => {
                write!(formatter, "the last {times} that were tried all failed with SQLSTATE {sqlstate}")
            }
            Self::Overtaken { version } => {
                write!(formatter, "the fleet is at version {version} by now, beyond the set, and never goes back")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::wave::{Wave, WaveSelection};
    use super::*;

    #[test]
    fn budgets_bound_by_count_and_by_share() {
        assert!(!ErrorBudget::default().is_exceeded(1_000, 1_000));
        assert!(ErrorBudget::NONE.is_exceeded(1, 1_000));
        assert!(!ErrorBudget::NONE.is_exceeded(0, 0));
        let both: ErrorBudget = ErrorBudget { targets: Some(10), percent: Some(2) };
        assert!(!both.is_exceeded(2, 100));
        assert!(both.is_exceeded(3, 100), "more than 2 %");
        assert!(both.is_exceeded(11, 10_000), "more than 10");
    }

    #[test]
    fn budgets_are_written_as_they_are_read() {
        for text in ["any", "0", "5", "2%", "100%"] {
            assert_eq!(text.parse::<ErrorBudget>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "101%", "x%", "some"] {
            assert!(text.parse::<ErrorBudget>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_same_state_in_a_row_makes_a_streak() {
        let mut streak = FailureStreak::default();
        let mut lengths = Vec::new();
        for sqlstate in [Some("42703"), Some("42703"), Some("23505"), None, Some("23505"), Some("23505")] {
            streak.follow(sqlstate);
            lengths.push(streak.length);
        }
        assert_eq!(lengths, [1, 2, 1, 0, 1, 2]);
    }

    #[test]
    fn whichever_bound_is_passed_first_stops_the_rollout() {
        let canary = Wave { select: WaveSelection::Tenants(5), bake_seconds: 0, error_budget: ErrorBudget::NONE };
        let rest = Wave { select: WaveSelection::All, bake_seconds: 0, error_budget: ErrorBudget::default() };
        let waves = Waves::new(vec![canary, rest]).unwrap();
        let total = ErrorBudget { targets: Some(3), percent: None };
        let seen = |first, second| [WaveTally { targets: 5, failed: first }, WaveTally { targets: 95, failed: second }];
        let due = |first, second, length| {
            let streak = FailureStreak { sqlstate: "42703".to_owned(), length };
            RolloutStop::due(&waves, total, Some(4), &seen(first, second), &streak)
        };
        assert_eq!(due(0, 3, 3), None);
        assert_eq!(due(1, 0, 1), Some(RolloutStop::WaveBudget { wave: 0, failed: 1 }));
        assert_eq!(due(0, 4, 1), Some(RolloutStop::TotalBudget { failed: 4 }));
        assert_eq!(due(0, 2, 4), Some(RolloutStop::Breaker { sqlstate: "42703".to_owned(), times: 4 }));
        assert_eq!(RolloutStop::due(&waves, total, None, &seen(0, 2), &FailureStreak::default()), None);
    }
}
