//! Waiting for an operation, with something to look at meanwhile.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tenantry_api::{Client, Operation};
use tenantry_domain::{OperationId, OperationState};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::arguments::duration;
use super::error::CliError;

/// The first pause between two looks; each is half as long again, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Whether to wait for the work that a command starts.
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitOptions {
    /// Wait until the work is finished (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return as soon as the work is accepted
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Wait no longer than this; the work goes on
    #[arg(long, value_name = "SPAN", default_value = "30m", value_parser = duration)]
    timeout: Duration,
}

impl WaitOptions {
    /// How long to wait; `None` for not at all.
    pub(crate) fn patience(&self) -> Option<Duration> {
        (self.wait || !self.no_wait).then_some(self.timeout)
    }
}

/// Waits until the operation is finished, parked or waits until a time to come. Anything but success or such a rest is
/// an error that bears the operation. Ctrl-C and the time limit end the waiting, never the work.
pub(crate) async fn for_operation(client: &Client, id: OperationId, patience: Duration) -> Result<Operation, CliError> {
    let operation = for_end_of(client, id, patience).await?;
    if operation.state == OperationState::Succeeded || operation.waits_until.is_some() {
        Ok(operation)
    } else {
        Err(CliError::Operation(Box::new(operation)))
    }
}

/// As [`for_operation`], for work that is to be walked back: then the end that it should have is `cancelled`.
pub(crate) async fn for_cancellation(
    client: &Client,
    id: OperationId,
    patience: Duration,
) -> Result<Operation, CliError> {
    let operation = for_end_of(client, id, patience).await?;
    match operation.state {
        OperationState::Cancelled => Ok(operation),
        _ => Err(CliError::Operation(Box::new(operation))),
    }
}

async fn for_end_of(client: &Client, id: OperationId, patience: Duration) -> Result<Operation, CliError> {
    let stopped = |interrupted| CliError::StillRunning {
        what: format!("operation {id}"),
        resume: format!("tenantry operation watch {id}"),
        interrupted,
    };
    let spinner = spinner();
    let ended = interruptible(patience, async {
        let mut pause = PAUSE_FIRST;
        loop {
            let operation = client.show_operation(id).await?;
            let rests = operation.state == OperationState::Parked || operation.waits_until.is_some();
            if operation.state.is_finished() || rests {
                return Ok(operation);
            }
            spinner.set_message(describe(&operation));
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    });
    let operation = ended.await.map_err(stopped)?;
    spinner.finish_and_clear();
    operation
}

/// Runs the work until it is done; fails with whether a person (`true`) or the time limit (`false`) ended it.
pub(crate) async fn interruptible<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<Result<T, CliError>, bool> {
    // A time limit beyond what the clock can hold is none.
    let deadline = Instant::now().checked_add(patience);
    let time_limit = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        done = work => Ok(done),
        () = interrupted() => Err(true),
        () = time_limit => Err(false),
    }
}

/// Until a person presses Ctrl-C, or a job runner asks the program to end.
async fn interrupted() {
    let asked_to_end = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = asked_to_end => {}
    }
}

/// A spinner on standard error; nothing where that is no terminal.
pub(crate) fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner:.green} {msg} {elapsed:.dim}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

fn describe(operation: &Operation) -> String {
    let mut text = format!("{}: {}", operation.kind, operation.state);
    if let Some(step) = &operation.step {
        text.push_str(&format!(", {}", step.replace('_', " ")));
    }
    if operation.attempt > 1 {
        text.push_str(&format!(" (attempt {})", operation.attempt));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_limit_ends_the_waiting() {
        let endless = interruptible(Duration::from_millis(1), std::future::pending::<Result<(), CliError>>());
        assert_eq!(endless.await.err(), Some(false));
        let done = interruptible(Duration::MAX, async { Ok(7) });
        assert!(matches!(done.await, Ok(Ok(7))));
    }
}
