//! Telling what goes on: a moving line while a step runs, a plain one with its duration when it is done.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::Output;

const TICK: Duration = Duration::from_millis(100);

/// Tells on standard error. Moving lines appear on a terminal only; durations are kept for a summary.
#[derive(Debug)]
pub(crate) struct Narration {
    output: Output,
    began: Instant,
    told: Mutex<Vec<(String, Duration)>>,
}

impl Narration {
    /// Begins to tell.
    pub(crate) fn new(output: Output) -> Self {
        Self { output, began: Instant::now(), told: Mutex::default() }
    }

    /// A step of unknown length.
    pub(crate) async fn step<T, E>(&self, what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let spinner = ProgressBar::new_spinner();
        self.tell(what, spinner, "{spinner:.green} {msg} {elapsed:.dim}", work).await
    }

    /// A step over `total` things; the work moves the bar.
    pub(crate) async fn count<T, E>(
        &self,
        what: &str,
        total: usize,
        work: impl AsyncFnOnce(&ProgressBar) -> Result<T, E>,
    ) -> Result<T, E> {
        let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
        let work = work(&bar);
        self.tell(what, bar.clone(), "{spinner:.green} {msg} {wide_bar:.green/dim} {pos}/{len} {elapsed:.dim}", work)
            .await
    }

    /// A word of warning.
    pub(crate) fn warn(&self, text: &str) {
        self.output.warning(text);
    }

    /// How long ago the telling began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Every step that was done, with its duration, in order.
    pub(crate) fn told(&self) -> Vec<(String, Duration)> {
        self.durations().clone()
    }

    async fn tell<T, E>(
        &self,
        what: &str,
        bar: ProgressBar,
        template: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        // A line that is left in place because the work was given up would stay on the screen.
        let bar = ClearedOnDrop(bar);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.0.set_style(style);
        }
        bar.0.set_message(what.to_owned());
        bar.0.enable_steady_tick(TICK);
        let began = Instant::now();
        let done = work.await;
        drop(bar);
        if done.is_ok() {
            let duration = began.elapsed();
            self.output.note(&format!("✓ {what} ({})", seconds(duration)));
            self.durations().push((what.to_owned(), duration));
        }
        done
    }

    fn durations(&self) -> MutexGuard<'_, Vec<(String, Duration)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A duration as people read it: `0.3 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

struct ClearedOnDrop(ProgressBar);

impl Drop for ClearedOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
