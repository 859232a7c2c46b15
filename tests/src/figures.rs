//! Medians, percentiles and the lines in which benchmarks report them.

#![allow(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::time::Duration;

/// The times of one side, in the order in which they were taken.
#[derive(Debug, Default)]
pub struct Side(Vec<Duration>);

impl Side {
    /// One more time.
    pub fn push(&mut self, took: Duration) {
        self.0.push(took);
    }

    /// The time below which so many percent lie, in milliseconds.
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        let milliseconds: Vec<f64> = self.0.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        percentile(&milliseconds, percent)
    }

    /// Its median and its 95th percentile.
    pub fn print(&self, name: &str) {
        figure(&format!("{name}_p50_ms"), self.percentile_ms(50), "ms");
        figure(&format!("{name}_p95_ms"), self.percentile_ms(95), "ms");
    }
}

/// The median of the ratios of neighbours.
pub fn ratio(one: &Side, other: &Side) -> f64 {
    let ratios: Vec<f64> = one.0.iter().zip(&other.0).map(|(one, other)| one.div_duration_f64(*other)).collect();
    percentile(&ratios, 50)
}

/// The value below which so many percent lie, by the nearest rank.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// A figure, as a line of its own.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}
