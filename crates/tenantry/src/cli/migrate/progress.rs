//! How a rollout goes on, for whoever looks on.

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
        if !self.bar.is_hidden() {
            self.bar.set_length(counts.total());
            self.bar.set_position(counts.finished());
            self.bar.set_message(said);
        } else if Instant::now() >= self.line_due {
            self.line_due = Instant::now() + LINE_INTERVAL;
            let (done, all) = (HumanCount(counts.finished()), HumanCount(counts.total()));
            self.output.note(&format!("{done} of {all} tenants: {said}"));
        }
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
