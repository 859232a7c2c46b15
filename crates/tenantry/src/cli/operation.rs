//! `tenantry operation`.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tenantry_api::{
    Client, ClientError, ClusterRef, CommaSeparated, DecideOperation, ListOperationEvents, ListOperations, Operation,
    OperationEvent, TenantRef,
};
use tenantry_domain::{OperationId, OperationKind, OperationState, Reason};

use super::arguments::{past, words};
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples, reason, waiting};

/// How often a broken stream of events is opened again in a row before that counts as a failure.
const REOPENED_MAX: u32 = 5;
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Durable work on one tenant or cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// List operations, the newest first
    #[command(after_help = examples!(
        "tenantry operation list --state parked        # what waits for a person",
        "tenantry operation list --tenant acme --kind provision",
        "tenantry operation list --cluster main --since 2h",
    ))]
    List(ListArguments),
    /// Show one operation and what happened in it
    #[command(after_help = examples!("tenantry operation show 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Show {
        /// Its id
        operation: OperationId,
    },
    /// Print an operation's log and follow it until it is finished or parked
    #[command(visible_alias = "events", after_help = examples!(
        "tenantry operation watch 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "",
        "Ctrl-C ends the watching, never the work. Exits with 1 unless the operation has succeeded.",
    ))]
    Watch {
        /// Its id
        operation: OperationId,
    },
    /// Walk an operation back, where that is still possible
    #[command(after_help = examples!(
        "tenantry operation cancel 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --reason 'wrong plan'",
    ))]
    Cancel(DecideArguments),
    /// Let a parked operation try again
    Retry(DecideArguments),
    /// Let a parked operation go on past the step that it is at
    #[command(long_about = "Let a parked operation go on past the step that it is at. Do the step's work by hand \
        first: later steps rely on it.")]
    Skip(DecideArguments),
    /// Give a parked operation up; what it has made stays until the tenant is deleted
    #[command(after_help = examples!(
        "tenantry operation abandon 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506 --reason 'the server is gone for good'",
    ))]
    Abandon(DecideArguments),
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// On this tenant, by slug or id
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// On this cluster, by name or id
    #[arg(long)]
    cluster: Option<ClusterRef>,
    /// Of this kind
    #[arg(long, value_parser = words::<OperationKind>(OperationKind::ALL.iter().map(|it| it.as_str())))]
    kind: Option<OperationKind>,
    /// In one of these states
    #[arg(long, value_delimiter = ',', value_parser = words::<OperationState>(
        OperationState::ALL.iter().map(|it| it.as_str())
    ))]
    state: Vec<OperationState>,
    /// Made not before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    #[command(flatten)]
    paging: ListOptions,
}

/// Which operation, and why.
#[derive(Debug, Args)]
pub(crate) struct DecideArguments {
    /// Its id
    operation: OperationId,
    /// Why; kept in the audit log and in the operation's own
    #[arg(long, value_name = "TEXT")]
    reason: Option<Reason>,
}

impl DecideArguments {
    fn split(self) -> (OperationId, DecideOperation) {
        (self.operation, DecideOperation { reason: self.reason })
    }
}

/// An operation with its log.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    operation: Operation,
    timeline: Vec<OperationEvent>,
}

impl OperationCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        let changed = match self {
            Self::List(arguments) => return list(context, &client, arguments).await,
            Self::Watch { operation } => return watch(context, &client, operation).await,
            Self::Show { operation } => return show(context, &client, operation).await,
            Self::Cancel(arguments) => {
                let (operation, decision) = arguments.split();
                client.cancel_operation_because(operation, &decision).await?
            }
            Self::Retry(arguments) => {
                let (operation, decision) = arguments.split();
                client.retry_operation_because(operation, &decision).await?
            }
            Self::Skip(arguments) => {
                let (operation, decision) = arguments.split();
                client.skip_operation_because(operation, &decision).await?
            }
            Self::Abandon(arguments) => {
                let (operation, decision) = arguments.split();
                client.abandon_operation_because(operation, &decision).await?
            }
        };
        context.output.object(&changed)
    }
}

async fn list(context: &Context, client: &Client, arguments: ListArguments) -> Result<(), CliError> {
    let ListArguments { tenant, cluster, kind, state, since, paging } = arguments;
    let state = CommaSeparated(state);
    let filter = ListOperations { tenant, cluster, kind, state, since, limit: None, cursor: None };
    let fetch = async |limit, cursor| {
        client.list_operations(&ListOperations { limit: Some(limit), cursor, ..filter.clone() }).await
    };
    context.output.list(&paging::gather(&paging, fetch).await?)
}

/// The operation, then its log to its present end.
async fn show(context: &Context, client: &Client, id: OperationId) -> Result<(), CliError> {
    let operation = client.show_operation(id).await?;
    let fetch = async |limit, cursor| {
        client.list_operation_events(id, &ListOperationEvents { limit: Some(limit), cursor }).await
    };
    let timeline = paging::gather(&ListOptions::everything(), fetch).await?.items;
    let told = Told { operation, timeline };
    context.output.composed(&told, |composition| {
        composition.object(&told.operation);
        composition.list(&told.timeline);
    })
}

async fn watch(context: &Context, client: &Client, id: OperationId) -> Result<(), CliError> {
    let watched = waiting::interruptible(Duration::MAX, follow(context, client, id)).await;
    let operation = watched.map_err(|interrupted| CliError::StillRunning {
        what: format!("operation {id}"),
        resume: format!("tenantry operation watch {id}"),
        interrupted,
    })??;
    match operation.state {
        OperationState::Succeeded => Ok(()),
        _ => Err(CliError::Operation(Box::new(operation))),
    }
}

/// Prints events until the operation is finished or parked. A broken stream is opened again after the last event seen.
async fn follow(context: &Context, client: &Client, id: OperationId) -> Result<Operation, CliError> {
    let mut last = None;
    let mut reopened = 0;
    loop {
        let broken = match client.operation_events(id, last).await {
            Ok(mut events) => loop {
                match events.next().await {
                    Some(Ok(event)) => {
                        (last, reopened) = (Some(event.id), 0);
                        context.output.entry(&event, &line(&event))?;
                        // The log of a parked operation has no end: a person decides how it goes on.
                        if event.kind == OperationState::Parked.as_str() {
                            let operation = client.show_operation(id).await?;
                            if operation.state == OperationState::Parked {
                                return Ok(operation);
                            }
                        }
                    }
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            },
            Err(error) => Some(error),
        };
        if let Some(error) = broken
            && (!error.is_retryable() || reopened >= REOPENED_MAX)
        {
            return Err(error.into());
        }
        let operation = client.show_operation(id).await?;
        if operation.state.is_finished() {
            return Ok(operation);
        }
        reopened += 1;
        if reopened > REOPENED_MAX {
            let detail = "the stream of events ends again and again".to_owned();
            return Err(ClientError::Unexpected { url: client.url().to_string(), status: 200, detail }.into());
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

fn line(event: &OperationEvent) -> String {
    let mut line = format!("{}  {}", event.at.strftime("%H:%M:%S%.3f"), event.kind.replace('_', " "));
    if let Some(step) = &event.step {
        line.push_str(&format!("  {step}"));
    }
    if event.detail.as_object().is_some_and(|detail| !detail.is_empty()) {
        line.push_str(&format!("  {}", reason::of(&event.detail)));
    }
    line
}

impl Tabular for Operation {
    const COLUMNS: &'static [&'static str] = &["id", "kind", "state", "step", "attempt", "tenant", "created", "took"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(self.id),
            Cell::new(self.kind),
            Cell::state(self.state),
            Cell::optional(self.step.as_ref()),
            Cell::new(self.attempt),
            Cell::optional(self.tenant),
            Cell::time(self.created_at),
            Cell::optional(took(self)),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("kind", Cell::new(self.kind)),
            ("state", Cell::state(self.state)),
            ("step", Cell::optional(self.step.as_ref())),
            ("attempt", Cell::new(self.attempt)),
            ("tenant", Cell::optional(self.tenant)),
            ("cluster", Cell::optional(self.cluster)),
            ("cancel requested", Cell::optional(self.cancel_requested.then_some("yes"))),
            ("error", Cell::optional(self.error.as_ref().filter(|error| **error != Value::Null).map(reason::of))),
            ("due", Cell::optional_time((!self.state.is_finished()).then_some(self.next_run_at))),
            ("deadline", Cell::optional_time(self.deadline_at)),
            ("created", Cell::time(self.created_at)),
            ("updated", Cell::time(self.updated_at)),
            ("finished", Cell::optional_time(self.finished_at)),
            ("took", Cell::optional(took(self))),
        ]
    }
}

impl Tabular for OperationEvent {
    const COLUMNS: &'static [&'static str] = &["at", "what", "step", "detail"];

    fn row(&self) -> Vec<Cell> {
        let has_detail = self.detail.as_object().is_some_and(|detail| !detail.is_empty());
        vec![
            Cell::new(self.at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")),
            Cell::new(self.kind.replace('_', " ")),
            Cell::optional(self.step.as_ref()),
            Cell::optional(has_detail.then(|| reason::of(&self.detail))),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

/// From its making to its end.
fn took(operation: &Operation) -> Option<String> {
    let span = operation.finished_at?.duration_since(operation.created_at);
    Some(format!("{:.3} s", span.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = |kind: &str, step: Option<&str>, detail| OperationEvent {
            id: 1,
            at: "2026-01-31T12:00:01.5Z".parse().expect("a time"),
            kind: kind.to_owned(),
            step: step.map(str::to_owned),
            detail,
        };
        assert_eq!(line(&event("step_done", Some("ensure_roles"), json!({}))), "12:00:01.500  step done  ensure_roles");
        let parked = event("parked", None, json!({ "message": "disk full" }));
        assert_eq!(line(&parked), "12:00:01.500  parked  disk full");
    }
}
