//! How work on many tenants goes on, for whoever looks on.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tenantry_api::Rollout;
use tokio::time::Instant;

use super::rollout::describe;
use crate::cli::output::Output;

/// Where nobody watches a bar, a line is written this often at most.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// A bar on a terminal, a line now and then elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    output: Output,
    line_due: Instant,
}

impl Progress {
    pub(super) fn new(output: Output) -> Self {
        let bar = ProgressBar::new(0);
        let template = "{spinner:.green} [{bar:32.green/dim}] {human_pos}/{human_len} tenants  {msg}  {eta:.dim}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar, output, line_due: Instant::now() + LINE_INTERVAL }
    }

    pub(super) fn show(&mut self, rollout: &Rollout) {
        let counts = &rollout.counts;
        let said = match rollout.waves.len() {
            0 | 1 => describe(counts),
            waves => format!("wave {} of {waves}: {}", rollout.wave + 1, describe(counts)),
        };
        self.tell(counts.finished(), counts.total(), said);
    }

    /// So many of all tenants are done.
    pub(super) fn tell(&mut self, done: u64, all: u64, said: String) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all);
            self.bar.set_position(done);
            self.bar.set_message(said);
        } else if Instant::now() >= self.line_due {
            self.line_due = Instant::now() + LINE_INTERVAL;
            self.output.note(&format!("{} of {} tenants: {said}", HumanCount(done), HumanCount(all)));
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
