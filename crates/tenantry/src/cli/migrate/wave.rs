//! Waves as they are asked for and shown on the command line.

use serde::Serialize;
use tenantry_api::{CreateWave, ErrorBudget, Rollout, RolloutWave};
use tenantry_domain::WaveSelection;

use super::rollout::describe;
use crate::cli::arguments::duration;
use crate::cli::table::{Cell, Tabular};

/// `SELECT[,bake=SPAN][,budget=BUDGET]`. Without a budget the wave bears no failure.
pub(super) fn wave(text: &str) -> Result<CreateWave, String> {
    let mut parts = text.split(',');
    let select: WaveSelection =
        parts.next().unwrap_or_default().parse().map_err(|error: tenantry_domain::InvalidName| error.to_string())?;
    let mut wave = CreateWave { select, bake_seconds: 0, error_budget: tenantry_domain::ErrorBudget::NONE.into() };
    for part in parts {
        match part.split_once('=') {
            Some(("bake", span)) => {
                let seconds = duration(span)?.as_secs();
                wave.bake_seconds = u32::try_from(seconds).map_err(|_| "use a shorter bake time".to_owned())?;
            }
            Some(("budget", text)) => wave.error_budget = budget(text)?,
            Some(_) | None => return Err(format!("`{part}` is neither bake=SPAN nor budget=BUDGET")),
        }
    }
    Ok(wave)
}

/// A number of tenants, a percentage, or `any`.
pub(super) fn budget(text: &str) -> Result<ErrorBudget, String> {
    let budget: Result<tenantry_domain::ErrorBudget, _> = text.parse();
    budget.map(ErrorBudget::from).map_err(|error| error.to_string())
}

/// How a budget is said in a table.
pub(super) fn said(budget: ErrorBudget) -> String {
    tenantry_domain::ErrorBudget::from(budget).to_string()
}

/// A wave with its number, for a table.
#[derive(Serialize)]
pub(super) struct Numbered<'r> {
    wave: u32,
    state: &'static str,
    #[serde(flatten)]
    of: &'r RolloutWave,
}

/// The waves of a rollout that have anybody in them.
pub(super) fn of(rollout: &Rollout) -> Vec<Numbered<'_>> {
    let waves = (0..).zip(&rollout.waves).filter(|(_, wave)| wave.counts.total() > 0);
    waves.map(|(wave, of)| Numbered { wave: wave + 1, state: state(rollout, wave, of), of }).collect()
}

fn state(rollout: &Rollout, number: u32, wave: &RolloutWave) -> &'static str {
    let open = wave.counts.pending + wave.counts.running > 0;
    match number.cmp(&rollout.wave) {
        std::cmp::Ordering::Greater => "waits",
        _ if open && rollout.state.is_finished() => "stopped",
        _ if open => "under way",
        std::cmp::Ordering::Equal if rollout.bakes_until.is_some() && !rollout.state.is_finished() => "bakes",
        _ => "through",
    }
}

impl Tabular for Numbered<'_> {
    const COLUMNS: &'static [&'static str] = &["wave", "takes", "state", "tenants", "counts", "budget"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.wave),
            Cell::new(&self.of.select),
            Cell::new(self.state),
            Cell::new(self.of.counts.total()),
            Cell::new(describe(&self.of.counts)),
            Cell::new(said(self.of.error_budget)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_wave_is_read_with_its_bake_time_and_budget() {
        let read = wave("10%,bake=5m,budget=2%").unwrap();
        assert_eq!(
            (read.select.to_string(), read.bake_seconds, said(read.error_budget)),
            ("10%".into(), 300, "2%".into())
        );
        let read = wave("label:tier=canary").unwrap();
        assert_eq!((read.bake_seconds, said(read.error_budget)), (0, "0".into()));
        for text in ["", "some", "1,bake", "1,bake=x", "1,pause=5m", "1,budget=-1"] {
            assert!(wave(text).is_err(), "{text}");
        }
    }
}
