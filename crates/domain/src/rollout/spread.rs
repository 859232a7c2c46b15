//! Who is in which wave.

use super::wave::{WaveSelection, Waves};

impl Waves {
    /// The wave of each tenant, in the order in which they were drawn. Of a tenant is known whom it is among: bit *n* is
    /// set where the selection of wave *n* means it, as far as that is about the tenant itself; numbers and shares mean
    /// everybody.
    pub fn spread(&self, meant: &[u64]) -> Vec<usize> {
        let last = self.last();
        let mut waves = vec![last; meant.len()];
        let mut taken = 0;
        for (number, wave) in self.as_slice()[..last].iter().enumerate() {
            let most = match wave.select {
                WaveSelection::Tenants(tenants) => usize::try_from(tenants).unwrap_or(usize::MAX),
                WaveSelection::Percent(percent) => {
                    (meant.len() * usize::from(percent)).div_ceil(100).saturating_sub(taken)
                }
                WaveSelection::Label { .. }
                | WaveSelection::Plan(_)
                | WaveSelection::Region(_)
                | WaveSelection::All => usize::MAX,
            };
            let left = waves.iter_mut().zip(meant).filter(|(wave, meant)| **wave == last && **meant >> number & 1 == 1);
            for (wave, _) in left.take(most) {
                *wave = number;
                taken += 1;
            }
        }
        waves
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::rollout::{ErrorBudget, Wave};

    fn waves(selections: &[&str]) -> Waves {
        let wave = |select: &&str| Wave {
            select: select.parse().unwrap(),
            bake_seconds: 0,
            error_budget: ErrorBudget::default(),
        };
        Waves::new(selections.iter().map(wave).collect()).unwrap()
    }

    fn sizes(waves: &Waves, meant: &[u64]) -> Vec<usize> {
        let spread = waves.spread(meant);
        (0..=waves.last()).map(|number| spread.iter().filter(|wave| **wave == number).count()).collect()
    }

    #[test]
    fn a_share_is_of_all_and_counts_those_before_it() {
        let everybody = |number: usize| vec![u64::MAX; number];
        assert_eq!(sizes(&Waves::standard(), &everybody(1_000)), [1, 9, 90, 900]);
        assert_eq!(sizes(&Waves::standard(), &everybody(3)), [1, 0, 0, 2]);
        assert_eq!(sizes(&Waves::standard(), &everybody(0)), [0, 0, 0, 0]);
        assert_eq!(sizes(&waves(&["1%", "2", "50%"]), &everybody(10)), [1, 2, 2, 5]);
        assert_eq!(sizes(&waves(&["100%"]), &everybody(7)), [7, 0]);
    }

    #[test]
    fn whoever_is_meant_twice_is_in_the_first_of_the_two() {
        let waves = waves(&["label:tier=canary", "1", "plan:free", "all"]);
        // Of four: one bears the label and has the plan, one only has the plan.
        assert_eq!(waves.spread(&[0b1010, 0b1111, 0b1110, 0b1010]), [1, 0, 2, 3]);
    }
}
