//! `tenantry serve`: one replica of the control plane. Any number of them share a catalog.

mod check;
mod error;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tenantry_control::Control;
use tenantry_fleet::Fleet;
use tenantry_runtime::{Shutdown, Telemetry};
use tenantry_server::Server;
use tenantry_store::Store;
use tokio::time::Instant;

use crate::cli::error::{CliError, causes};
use crate::cli::{Context, examples};
use crate::config::{Config, FILE_VARIABLE};
pub(crate) use error::ServeError;

/// The first pause between two attempts to reach the catalog; it doubles up to [`PAUSE_MAX`].
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Files and sockets that are open besides connections of clients: the catalog's, the clusters', the runtime's.
const FILES_OF_ITS_OWN: u64 = 512;

/// Where the configuration is, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry serve --config /etc/tenantry/tenantry.toml",
    "tenantry serve --config /etc/tenantry/tenantry.toml --check    # say what would be, and end",
    "TENANTRY__CATALOG__URL=… TENANTRY__SECRETS__MASTER_KEYS=… tenantry serve",
    "",
    "Every setting can be given in the environment, as TENANTRY__SECTION__KEY; the environment wins over the file.",
    "The first token: tenantry token create --catalog --config /etc/tenantry/tenantry.toml",
))]
pub(crate) struct ServeArguments {
    /// The configuration file (TOML); the environment and the defaults alone unless given
    #[arg(long, env = FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check configuration, catalog and certificate, say what was found, and end
    #[arg(long)]
    check: bool,
    /// Refuse to start on a catalog that is not up to date, instead of migrating it
    #[arg(long)]
    no_migrate: bool,
}

impl ServeArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.check {
            check::run(context.output, self.config.as_deref(), self.no_migrate).await
        } else {
            Ok(Box::pin(self.serve()).await?)
        }
    }

    async fn serve(self) -> Result<(), ServeError> {
        let config = Config::load(self.config.as_deref())?.value;
        // Before any key is read.
        let hardened = if config.secrets.core_dumps { Ok(()) } else { tenantry_runtime::forbid_core_dumps() };
        // Everything that can be wrong without asking anybody is found before anybody is asked.
        config.check()?;
        let telemetry = Telemetry::install(&config.telemetry)?;
        if let Err(error) = hardened {
            tracing::warn!(%error, "core dumps cannot be forbidden; a crash may write secrets to a file");
        }
        allow_connections(config.server.connections_max);
        let shutdown = Shutdown::on_signals().map_err(ServeError::Signals)?;
        let assembled = async {
            let store = reach(&config).await?;
            prepare(&store, self.no_migrate, config.catalog.require_runtime_role).await?;
            assemble(&config, store, telemetry.clone()).await
        };
        let (control, server) = tokio::select! {
            assembled = assembled => assembled?,
            () = shutdown.wait() => return Ok(()),
        };
        Box::pin(work(&control, server, telemetry, shutdown)).await
    }
}

/// Sees that as many connections as configured can be open, besides what the program itself needs.
fn allow_connections(connections_max: usize) {
    let wanted = connections_max as u64 + FILES_OF_ITS_OWN;
    match tenantry_runtime::allow_open_files(wanted) {
        Ok(Some(allowed)) if allowed < wanted => {
            tracing::warn!(
                allowed,
                wanted,
                "the system allows fewer open files than `server.connections_max` needs; raise its limit (LimitNOFILE) or lower the setting"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}

/// Connects to the catalog; tries again for a while where it is merely not there yet, as when everything is started at
/// once.
async fn reach(config: &Config) -> Result<Store, ServeError> {
    let store = config.catalog.store()?;
    let start = Instant::now();
    let mut pause = PAUSE_FIRST;
    loop {
        match Store::connect(&store, config.secrets.keyring().await?).await {
            Err(error) if error.is_retryable() && start.elapsed() + pause < config.catalog.start_timeout => {
                tracing::warn!(error = %chain(&error), "the catalog is not there yet; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
            reached => return Ok(reached?),
        }
    }
}

/// Brings the catalog up to date, or sees that it is.
async fn prepare(store: &Store, no_migrate: bool, require_runtime_role: bool) -> Result<(), ServeError> {
    let role = store.catalog_role().await?;
    if role.is_owner && require_runtime_role {
        return Err(ServeError::OwnerRole { role: role.name });
    }
    if no_migrate || !role.is_owner {
        let pending = store.pending_migrations().await?;
        match (pending.is_empty(), role.is_owner) {
            (true, _) => {}
            (false, true) => return Err(ServeError::Outdated { pending }),
            (false, false) => return Err(ServeError::OutdatedForRuntimeRole { pending }),
        }
    } else {
        let report = store.migrate().await?;
        tracing::info!(applied = report.applied.len(), version = report.version, "the catalog is up to date");
    }
    if role.is_owner {
        tracing::warn!(
            role = role.name,
            "this replica owns the catalog and could change the audit log; `tenantry catalog migrate --runtime-role` lets \
             another role in"
        );
    }
    if store.count_tokens().await? == 0 {
        tracing::warn!("there is no token yet; make the first one with `tenantry token create --catalog`");
    }
    Ok(())
}

async fn assemble(config: &Config, store: Store, telemetry: Telemetry) -> Result<(Control, Server), ServeError> {
    let fleet = Fleet::new(config.fleet());
    let control = Control::new(store, fleet, config.control(), Vec::new()).await?;
    let server = Server::bind(config.server.clone(), control.clone(), telemetry)?;
    Ok((control, server))
}

/// Works until a signal comes. A door that breaks ends the workers too: a replica that nobody reaches is of no use.
async fn work(control: &Control, server: Server, telemetry: Telemetry, shutdown: Shutdown) -> Result<(), ServeError> {
    tracing::info!(url = server.url(), "the control plane is up");
    let serve = async {
        let served = server.run(shutdown.token()).await;
        shutdown.trigger();
        served
    };
    let (served, (), ()) = tokio::join!(serve, control.run(shutdown.token()), telemetry.run_upkeep(shutdown.token()));
    tracing::info!("stopped");
    Ok(served?)
}

/// An error and what lies below it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::once(error.to_string()).chain(causes(error)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
