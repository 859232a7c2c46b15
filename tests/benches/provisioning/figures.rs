//! Medians, percentiles and the lines that report them.

use std::time::Duration;

/// The times of one side, in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct Side(Vec<Duration>);

impl Side {
    pub(crate) fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    pub(crate) fn percentile_ms(&self, percent: usize) -> f64 {
        let milliseconds: Vec<f64> = self.0.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        percentile(&milliseconds, percent)
    }

    pub(crate) fn print(&self, name: &str) {
        figure(&format!("{name}_p50_ms"), self.percentile_ms(50), "ms");
        figure(&format!("{name}_p95_ms"), self.percentile_ms(95), "ms");
    }
}

/// The median of the ratios of neighbours.
pub(crate) fn ratio(one: &Side, other: &Side) -> f64 {
    let ratios: Vec<f64> = one.0.iter().zip(&other.0).map(|(one, other)| one.div_duration_f64(*other)).collect();
    percentile(&ratios, 50)
}

/// The value below which so many percent lie, by the nearest rank.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}
