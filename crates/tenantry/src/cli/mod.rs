//! The command line: one file per command, and what they share.
//!
//! Adding a command takes its file, its `mod` line, and its line in [`Command`] and in [`Command::run`].
//!
//! Start reading at [`Command`], then [`tenant`] as an example of a resource, then [`output`] and [`error`].

pub(crate) mod audit;
pub(crate) mod catalog;
pub(crate) mod cluster;
pub(crate) mod cluster_replica;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod health;
pub(crate) mod migrate;
pub(crate) mod operation;
pub(crate) mod orphan;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod psql;
pub(crate) mod query;
pub(crate) mod region_group;
pub(crate) mod route;
pub(crate) mod router;
pub(crate) mod secrets;
pub(crate) mod seed;
pub(crate) mod tenant;
pub(crate) mod tenant_adopt;
pub(crate) mod tenant_explain;
pub(crate) mod tenant_host;
pub(crate) mod token;
pub(crate) mod webhook;

mod affinity;
mod arguments;
mod bulk;
mod catalog_token;
mod connection;
pub(crate) mod error;
mod exit_status;
mod filter;
pub(crate) mod output;
mod paging;
mod password_file;
mod profile;
mod reason;
pub(crate) mod table;
mod waiting;

use std::ffi::OsString;
use std::process::ExitCode;

use anstyle::AnsiColor;
use clap::builder::Styles;
use clap::{Parser, Subcommand};
use tenantry_api::Client;

use crate::demo::DemoArguments;
use crate::dev::DevArguments;
use crate::serve::ServeArguments;

use connection::ConnectionOptions;
use error::CliError;
use exit_status::ExitStatus;
use output::{Format, Output};

/// The end of a command's help: a heading and a line per example.
macro_rules! examples {
    ($($line:literal),+ $(,)?) => {
        concat!("\u{1b}[1m\u{1b}[33mExamples:\u{1b}[0m", $("\n  ", $line),+)
    };
}
pub(crate) use examples;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Green.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Every customer gets a PostgreSQL home of its own; thousands of homes are run as if they were one.
#[derive(Debug, Parser)]
#[command(name = "tenantry", version = tenantry_control::VERSION, styles = STYLES, propagate_version = true, max_term_width = 120)]
#[command(after_help = examples!(
    "tenantry tenant create acme                         # a tenant with every default, ready when it returns",
    "tenantry tenant list --status active --output json  # for programs",
    "tenantry migrate apply --dir tenant-migrations      # bring the whole fleet to a folder of SQL files",
    "tenantry psql acme                                  # a session in the tenant's own home",
    "",
    "The control plane is found by --url or TENANTRY_URL, its token by --token-file or TENANTRY_TOKEN;",
    "else by the profile that `tenantry dev` has left.",
))]
struct Arguments {
    /// The shape of results and errors
    #[arg(long, global = true, env = "TENANTRY_OUTPUT", value_enum, default_value = "table", display_order = 899)]
    output: Format,
    #[command(flatten)]
    connection: ConnectionOptions,
    #[command(subcommand)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole loop on real data, in a world that is thrown away
    Demo(DemoArguments),
    /// Run everything on this machine, with PostgreSQL inside, and resume it later
    Dev(DevArguments),
    /// Run a control plane
    Serve(ServeArguments),
    /// Customers: create, list, show, update, delete, purge
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// PostgreSQL servers: register, list, show, update, cordon, uncordon, drain, remove
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Names for several regions: put, list, show, delete
    #[command(subcommand)]
    RegionGroup(region_group::RegionGroupCommand),
    /// Where homes go: explain
    #[command(subcommand)]
    Placement(placement::PlacementCommand),
    /// Plans: list, show
    #[command(subcommand)]
    Plan(plan::PlanCommand),
    /// Where tenants are reached: resolve
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// Durable work: list, show, watch, cancel, retry, skip, abandon
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    /// Fleet migrations: lint, push, plan, apply, status, watch, pause, resume, abort, retry, drift
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// SQL that fills new homes once: push, list, show, retire
    #[command(subcommand)]
    Seed(seed::SeedCommand),
    /// API tokens: create, list, revoke
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Webhooks: create, list, show, update, delete, test, deliveries, redeliver
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// The catalog's own schema: migrate
    #[command(subcommand)]
    Catalog(catalog::CatalogCommand),
    /// What seals the passwords in the catalog: status, rotate-master, new-key
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// The audit log: list, export, verify
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// What catalog and clusters disagree on: list, show, scan, remove
    #[command(subcommand)]
    Orphan(orphan::OrphanCommand),
    /// Routers: who is connected, and how far they are
    #[command(subcommand)]
    Router(router::RouterCommand),
    /// Check that catalog and clusters agree
    Doctor(doctor::DoctorArguments),
    /// Ask many tenants the same question in SQL
    Query(Box<query::QueryArguments>),
    /// Open psql in a tenant's home
    Psql(psql::PsqlArguments),
    /// Say whether the control plane is well and the token good
    Health(health::HealthArguments),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArguments),
}

impl Command {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Demo(arguments) => Box::pin(arguments.run(context)).await,
            Self::Dev(arguments) => Box::pin(arguments.run(context)).await,
            Self::Serve(arguments) => Box::pin(arguments.run(context)).await,
            Self::Tenant(command) => command.run(context).await,
            Self::Cluster(command) => command.run(context).await,
            Self::RegionGroup(command) => command.run(context).await,
            Self::Placement(command) => command.run(context).await,
            Self::Plan(command) => command.run(context).await,
            Self::Route(command) => command.run(context).await,
            Self::Operation(command) => command.run(context).await,
            Self::Migrate(command) => command.run(context).await,
            Self::Seed(command) => command.run(context).await,
            Self::Token(command) => command.run(context).await,
            Self::Webhook(command) => command.run(context).await,
            Self::Catalog(command) => Box::pin(command.run(context)).await,
            Self::Secrets(command) => command.run(context).await,
            Self::Audit(command) => command.run(context).await,
            Self::Orphan(command) => command.run(context).await,
            Self::Router(command) => command.run(context).await,
            Self::Doctor(arguments) => arguments.run(context).await,
            Self::Query(arguments) => arguments.run(context).await,
            Self::Psql(arguments) => arguments.run(context).await,
            Self::Health(arguments) => arguments.run(context).await,
            Self::Completions(arguments) => arguments.run(context),
        }
    }
}

/// What every command is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where results and messages go.
    pub(crate) output: Output,
    connection: ConnectionOptions,
}

impl Context {
    /// A client of the control plane that was named. Nothing is sent yet.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        self.connection.client()
    }
}

/// The program: reads the arguments, runs the command, says what went wrong.
pub(crate) fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(arguments) => run(arguments).into(),
        Err(error) => {
            if !error.use_stderr() {
                // Help or the version was asked for; nobody is left to tell when it cannot be printed.
                let _ = error.print();
                return ExitStatus::Done.into();
            }
            // clap's own exit status for mistakes, 2, means something else here.
            if wants_json(std::env::args_os(), std::env::var_os("TENANTRY_OUTPUT")) {
                Output::new(Format::Json).failure(&CliError::usage(error.to_string().trim_end()));
            } else {
                let _ = error.print();
            }
            ExitStatus::Failed.into()
        }
    }
}

/// Whether errors are to be JSON, as far as a command line says so that cannot be understood as a whole.
fn wants_json(arguments: impl IntoIterator<Item = OsString>, variable: Option<OsString>) -> bool {
    let mut last = None;
    let mut arguments = arguments.into_iter().take_while(|argument| argument != "--");
    while let Some(argument) = arguments.next() {
        match argument.to_str().and_then(|argument| argument.strip_prefix("--output")) {
            Some("") => last = arguments.next(),
            Some(value) => last = value.strip_prefix('=').map(OsString::from).or(last),
            None => {}
        }
    }
    last.or(variable).is_some_and(|format| format == "json")
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments)
}

fn run(arguments: Arguments) -> ExitStatus {
    tenantry_runtime::install_crypto();
    let Arguments { output, connection, command } = arguments;
    let context = Context { output: Output::new(output), connection };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(command.run(&context)),
        Err(source) => Err(CliError::Program { message: "threads cannot be started".to_owned(), source }),
    };
    match ended {
        Ok(()) => ExitStatus::Done,
        Err(error) => {
            context.output.failure(&error);
            error.exit_status()
        }
    }
}

#[cfg(test)]
mod tests;
