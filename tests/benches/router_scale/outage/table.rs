//! Who asked and what came of it, second by second and in the end.

use std::collections::BTreeMap;

use tenantry_tests::figures::percentile;

use super::line::Line;
use super::seconds;

/// What has been said so far.
#[derive(Default)]
pub(super) struct Table {
    began: u64,
    /// The second that is being put together, by service and cluster.
    second: u64,
    rows: BTreeMap<(String, String), Row>,
    /// By tenant and service.
    totals: BTreeMap<(String, String), Row>,
}

#[derive(Default)]
struct Row {
    milliseconds: Vec<f64>,
    errors: BTreeMap<String, u64>,
    failed: Option<(u64, u64)>,
}

impl Row {
    fn add(&mut self, line: &Line) {
        self.milliseconds.extend(&line.milliseconds);
        for (kind, count) in &line.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.failed = both(self.failed, line.failed);
    }

    fn requests(&self) -> u64 {
        self.milliseconds.len() as u64 + self.errors.values().sum::<u64>()
    }

    fn cells(&self) -> String {
        let errors: Vec<String> = self.errors.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let errors = if errors.is_empty() { "-".to_owned() } else { errors.join(", ") };
        let (p50, p99) = (percentile(&self.milliseconds, 50), percentile(&self.milliseconds, 99));
        format!("{:>8} {p50:>8.2} {p99:>8.2}  {errors}", self.requests())
    }
}

/// From the earlier beginning to the later end.
fn both(one: Option<(u64, u64)>, other: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (one, other) {
        (Some((first, last)), Some((from, to))) => Some((first.min(from), last.max(to))),
        (one, other) => one.or(other),
    }
}

impl Table {
    /// A part of the show begins.
    pub(super) fn begin(&mut self, what: &str, now_ms: u64) {
        if self.began == 0 {
            self.began = now_ms;
            println!(
                "{:>5}  {:<8} {:<8} {:>8} {:>8} {:>8}  errors",
                "s", "service", "cluster", "requests", "p50 ms", "p99 ms"
            );
        }
        println!("{:>5.1}  == {what}", seconds(self.began, now_ms));
    }

    /// Takes in a line; what is said before the show begins is left out.
    pub(super) fn add(&mut self, line: &Line) {
        if self.began == 0 {
            return;
        }
        if line.second > self.second {
            self.print();
            self.second = line.second;
        }
        let cluster = cluster_of(&line.tenant).to_owned();
        self.rows.entry((line.service.clone(), cluster)).or_default().add(line);
        self.totals.entry((line.tenant.clone(), line.service.clone())).or_default().add(line);
    }

    fn print(&mut self) {
        let second = seconds(self.began, self.second * 1_000);
        for ((service, cluster), row) in std::mem::take(&mut self.rows) {
            println!("{second:>5.1}  {service:<8} {cluster:<8} {}", row.cells());
        }
    }

    /// Each tenant, by each service, over the whole time, and when it saw errors.
    pub(super) fn summarize(&mut self) {
        self.print();
        println!("\n{:<10} {:<8} {:>8} {:>8} {:>8}  errors", "tenant", "service", "requests", "p50 ms", "p99 ms");
        for ((tenant, service), row) in &self.totals {
            let when = row.failed.map(|(first, last)| {
                let (from, to) = (seconds(self.began, first), seconds(self.began, last));
                format!(" (for {:.1} s: from {from:.1} to {to:.1})", to - from)
            });
            println!("{tenant:<10} {service:<8} {}{}", row.cells(), when.unwrap_or_default());
        }
    }

    /// When tenants of a cluster saw their first and their last error, in milliseconds since 1970.
    pub(super) fn errors_of(&self, cluster: &str) -> Option<(u64, u64)> {
        let of_it = self.totals.iter().filter(|((tenant, _), _)| cluster_of(tenant) == cluster);
        of_it.fold(None, |failed, (_, row)| both(failed, row.failed))
    }
}

/// Tenants are named after their clusters.
fn cluster_of(tenant: &str) -> &str {
    tenant.split_once('-').map_or(tenant, |(cluster, _)| cluster)
}
