//! `tenantry demo`: the whole loop on real data, in a world that is thrown away.
//!
//! Start reading at [`journey`]: what happens, in order. The rest is what it is made of: who takes part (`airline`),
//! the product that answers (`service`), the requests to it (`requests`), and what is shown at the end (`report`).

mod airline;
mod error;
mod journey;
mod report;
mod requests;
mod service;

use clap::Args;
use tenantry_runtime::Shutdown;

use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::cli::{Context, examples};
use crate::dev::{LogOptions, invocation};
use crate::world::{ApiPort, Narration, World, WorldError, WorldPlace};

pub(crate) use error::DemoError;
use journey::Stage;
use report::Report;

/// Whether to stay.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry demo",
    "tenantry demo --keep   # stays until Ctrl-C, to look around",
    "",
    "Its servers skip fsync, because nothing of it is to last; `tenantry dev` is durable. Everything is removed at",
    "the end, however the program ends.",
))]
pub(crate) struct DemoArguments {
    /// Stay when all is done, until Ctrl-C
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    log: LogOptions,
}

impl DemoArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        // Steps that are tried again are no news here: whatever fails in the end is told by the demo itself.
        let telemetry = self.log.install("error")?;
        let shutdown = Shutdown::on_signals().map_err(WorldError::io("listen for", "signals"))?;
        let narration = Narration::new(context.output);
        let mut world = tokio::select! {
            world = World::start(&WorldPlace::Temporary, ApiPort::Any, telemetry, &narration) => world?,
            () = shutdown.wait() => return Err(WorldError::Stopped.into()),
        };
        let outcome = tokio::select! {
            outcome = perform(&world, &narration, context.output) => outcome,
            () = shutdown.wait() => Err(DemoError::Interrupted.into()),
        };
        let outcome = match outcome {
            Ok((stage, report)) => {
                let stay = self.keep.then_some(&shutdown);
                conclude(&mut world, stage, &report, context.output, stay).await
            }
            Err(error) => Err(error),
        };
        let stopped = narration.step("stop and remove everything", world.stop()).await;
        outcome?;
        Ok(stopped?)
    }
}

/// The journey and its report, not judged yet.
async fn perform(world: &World, narration: &Narration, output: Output) -> Result<(Stage, Report), CliError> {
    let (stage, report) = journey::run(world, narration).await?;
    report.show(output, narration)?;
    Ok((stage, report))
}

/// Stays until a person has seen enough, if that is wished; then ends what the journey left running and judges.
async fn conclude(
    world: &mut World,
    stage: Stage,
    report: &Report,
    output: Output,
    stay: Option<&Shutdown>,
) -> Result<(), CliError> {
    if let Some(shutdown) = stay {
        if !output.is_json() {
            output.raw(&suggestions(world, &stage))?;
        }
        tokio::select! {
            error = world.ended() => return Err(error.into()),
            () = shutdown.wait() => {}
        }
    }
    stage.close().await?;
    Ok(report.verdict()?)
}

/// What can be tried while the world is there.
fn suggestions(world: &World, stage: &Stage) -> String {
    let (api, token, program) = (&world.api_url, world.token.expose(), invocation());
    let product = stage.service.address();
    let host = service::host_of("ua");
    format!(
        "\nTry in another terminal; Ctrl-C here ends and removes everything:\n\
         \x20 export TENANTRY_URL={api} TENANTRY_TOKEN={token}\n\
         \x20 {program} tenant list\n\
         \x20 {program} psql ua -- -c 'SELECT count(*) FROM flights'\n\
         \x20 curl -H 'host: {host}' 'http://{product}/flights?date=2013-01-15&limit=2'\n\
         \x20 curl -H 'host: {host}' 'http://{product}/statistics'\n"
    )
}
