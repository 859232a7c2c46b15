//! Rollouts: apply, watch, and what a person can do about them.

use std::time::Duration;

use serde::Serialize;
use tenantry_api::{Client, CreateRollout, ListQuery, PageLimit, Rollout, RolloutCounts};
use tenantry_domain::{RolloutId, RolloutState};

use super::failures::{self, Failure};
use super::progress::Progress;
use super::versions::{self, Lag};
use super::{
    ApplyArguments, FollowOptions, RolloutArguments, WatchArguments, WhenInterrupted, WishArguments, junit, lint, plan,
    set, wave,
};
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::paging::{self, ListOptions};
use crate::cli::table::{Cell, Tabular};
use crate::cli::waiting;

/// The first pause between two looks at a rollout; each is half as long again, up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

pub(super) async fn apply(context: &Context, arguments: ApplyArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let rollout = match &arguments.plan {
        Some(_) if arguments.wish.lint.is_given() => {
            return Err(CliError::usage(
                "a plan's set was linted when it was pushed; give rules and --since with --dir",
            ));
        }
        Some(path) => plan::begin(&client, path, arguments.schedule.hours).await?,
        None => {
            let create = CreateRollout {
                queue: arguments.schedule.queue,
                priority: arguments.schedule.priority,
                not_before: arguments.schedule.not_before,
                hours: arguments.schedule.hours,
                ..arguments.wish.create(context, &client).await?
            };
            client.create_rollout(&create).await?
        }
    };
    finish(context, &client, rollout, &arguments.follow).await
}

impl WishArguments {
    /// What is asked of the control plane. A folder is pushed for it.
    pub(super) async fn create(self, context: &Context, client: &Client) -> Result<CreateRollout, CliError> {
        let migration_set = match (&self.folder, &self.set) {
            (Some(folder), _) => {
                let push = lint::judged(context, client, folder, self.name, &self.lint).await?;
                client.push_migration_set(&push).await?.id
            }
            (None, Some(_)) if self.lint.is_given() => {
                return Err(CliError::usage("a set was linted when it was pushed; give rules and --since with --dir"));
            }
            (None, Some(prefix)) => prefix.resolve(client).await?,
            (None, None) => return Err(CliError::usage("name the files by --dir, or a set that was pushed by --set")),
        };
        Ok(CreateRollout {
            concurrency: self.concurrency,
            per_cluster: self.per_cluster,
            per_database: self.per_database,
            waves: Some(self.waves).filter(|waves| !waves.is_empty()),
            error_budget: self.error_budget,
            breaker: self.breaker,
            verify: self.verify,
            ..CreateRollout::new(migration_set)
        })
    }
}

pub(super) async fn status(context: &Context, arguments: &RolloutArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let rollout = find(&client, arguments).await?;
    let (failures, versions) = tokio::try_join!(failures::of(&client, rollout.id), versions::of(&client, &rollout))?;
    show(context.output, &rollout, &failures, &versions)
}

pub(super) async fn watch(context: &Context, arguments: &WatchArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let rollout = find(&client, &arguments.which).await?;
    finish(context, &client, rollout, &arguments.follow).await
}

pub(super) async fn pause(context: &Context, arguments: &RolloutArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let id = identify(&client, arguments).await?;
    context.output.object(&client.pause_rollout(id).await?)
}

pub(super) async fn resume(context: &Context, arguments: &WatchArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let id = identify(&client, &arguments.which).await?;
    let rollout = client.resume_rollout(id).await?;
    finish(context, &client, rollout, &arguments.follow).await
}

pub(super) async fn abort(context: &Context, arguments: &RolloutArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let id = identify(&client, arguments).await?;
    context.output.object(&client.abort_rollout(id).await?)
}

pub(super) async fn retry(context: &Context, arguments: &WatchArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let id = identify(&client, &arguments.which).await?;
    let rollout = client.retry_rollout(id).await?;
    finish(context, &client, rollout, &arguments.follow).await
}

pub(super) async fn list(context: &Context, options: &ListOptions) -> Result<(), CliError> {
    let client = context.client()?;
    let fetch = async |limit, cursor| client.list_rollouts(&ListQuery { limit: Some(limit), cursor }).await;
    context.output.list(&paging::gather(options, fetch).await?)
}

/// The rollout that was named, else the newest.
async fn find(client: &Client, arguments: &RolloutArguments) -> Result<Rollout, CliError> {
    if let Some(id) = arguments.rollout {
        return Ok(client.show_rollout(id).await?);
    }
    let list = ListQuery { limit: PageLimit::new(1).ok(), cursor: None };
    let newest = client.list_rollouts(&list).await?.items.into_iter().next();
    newest.ok_or_else(|| CliError::usage("there is no rollout yet; start one with `tenantry migrate apply`"))
}

async fn identify(client: &Client, arguments: &RolloutArguments) -> Result<RolloutId, CliError> {
    match arguments.rollout {
        Some(id) => Ok(id),
        None => find(client, arguments).await.map(|rollout| rollout.id),
    }
}

/// Waits as long as asked, then shows the rollout. Anything but success is an error that bears the rollout.
async fn finish(context: &Context, client: &Client, begun: Rollout, options: &FollowOptions) -> Result<(), CliError> {
    let Some(patience) = options.waiting.patience() else { return context.output.object(&begun) };
    let id = begun.id;
    let mut progress = Progress::new(context.output);
    let ended = waiting::interruptible(patience, async {
        let mut pause = PAUSE_FIRST;
        loop {
            let rollout = client.show_rollout(id).await?;
            if rollout.state.is_finished() || rollout.state == RolloutState::Paused {
                return Ok(rollout);
            }
            progress.show(&rollout);
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(PAUSE_MAX);
        }
    });
    let ended = ended.await;
    progress.clear();
    let rollout = match ended {
        Ok(ended) => ended?,
        Err(interrupted) => {
            let pauses = interrupted && options.when_interrupted == WhenInterrupted::Pause;
            if pauses {
                client.pause_rollout(id).await?;
            }
            let verb = if pauses { "resume" } else { "watch" };
            let resume = format!("tenantry migrate {verb} {id}");
            return Err(CliError::StillRunning { what: format!("rollout {id}"), resume, interrupted });
        }
    };
    if let Some(path) = &options.junit {
        junit::write(client, &rollout, path).await?;
    }
    let (failures, versions) = tokio::try_join!(failures::of(client, id), versions::of(client, &rollout))?;
    show(context.output, &rollout, &failures, &versions)?;
    match rollout.state {
        RolloutState::Succeeded => Ok(()),
        _ => {
            Err(CliError::Rollout { rollout: Box::new(rollout), diverged: failures.iter().any(Failure::has_diverged) })
        }
    }
}

/// How a rollout stands.
#[derive(Serialize)]
struct Status<'a> {
    rollout: &'a Rollout,
    failures: &'a [Failure],
    versions: &'a [Lag],
}

fn show(output: Output, rollout: &Rollout, failures: &[Failure], versions: &[Lag]) -> Result<(), CliError> {
    output.composed(&Status { rollout, failures, versions }, |composition| {
        composition.object(rollout);
        let waves = wave::of(rollout);
        if waves.len() > 1 {
            composition.list(&waves);
        }
        if versions.len() > 1 {
            composition.list(versions);
        }
        if !failures.is_empty() {
            composition.list(failures);
        }
    })?;
    let unshown = (rollout.counts.failed + rollout.counts.parked).saturating_sub(failures.len() as u64);
    if unshown > 0 && !output.is_json() {
        output.note(&format!("{unshown} more failures are not shown."));
    }
    Ok(())
}

/// What there is to say about the counts, in a few words.
pub(super) fn describe(counts: &RolloutCounts) -> String {
    let words = [
        ("applied", counts.applied),
        ("already there", counts.already),
        ("running", counts.running),
        ("pending", counts.pending),
        ("failed", counts.failed),
        ("parked", counts.parked),
        ("skipped", counts.skipped),
    ];
    let said = words.iter().filter(|(_, number)| *number > 0).map(|(word, number)| format!("{number} {word}"));
    let text = said.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "no tenants".to_owned() } else { text }
}

impl Tabular for Rollout {
    const COLUMNS: &'static [&'static str] = &["id", "set", "state", "tenants", "counts", "created", "took"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.id),
            Cell::new(set::short(&self.migration_set)),
            Cell::state(self.state),
            Cell::new(self.counts.total()),
            Cell::new(describe(&self.counts)),
            Cell::time(self.created_at),
            Cell::optional(took(self)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let limit = |limit: Option<u16>| Cell::optional(limit);
        vec![
            ("rollout", Cell::new(self.id)),
            ("migration set", Cell::new(&self.migration_set)),
            ("state", Cell::state(self.state)),
            ("tenants", Cell::new(format!("{}: {}", self.counts.total(), describe(&self.counts)))),
            ("concurrency", Cell::new(self.limits.concurrency)),
            ("per cluster", limit(self.limits.per_cluster)),
            ("per database", limit(self.limits.per_database)),
            ("failures allowed", Cell::new(wave::said(self.error_budget))),
            ("breaker", Cell::optional(self.breaker)),
            ("wave", Cell::new(format!("{} of {}", self.wave + 1, self.waves.len()))),
            ("bakes until", Cell::optional_time(self.bakes_until)),
            ("priority", Cell::new(self.priority)),
            ("not before", Cell::optional_time(self.not_before)),
            ("hours", Cell::optional(self.hours.as_ref())),
            ("hours begin", Cell::optional_time(self.opens_at)),
            ("began", Cell::optional_time(self.began_at)),
            ("stopped", Cell::optional(self.stop.as_ref())),
            ("created", Cell::time(self.created_at)),
            ("finished", Cell::optional_time(self.finished_at)),
            ("took", Cell::optional(took(self))),
        ]
    }
}

/// From its beginning to its end.
fn took(rollout: &Rollout) -> Option<String> {
    let span = rollout.finished_at?.duration_since(rollout.began_at?);
    Some(format!("{:.1} s", span.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_told_without_zeros() {
        let counts = RolloutCounts { applied: 14, already: 2, failed: 1, ..RolloutCounts::default() };
        assert_eq!(describe(&counts), "14 applied, 2 already there, 1 failed");
        assert_eq!(describe(&RolloutCounts::default()), "no tenants");
    }
}
