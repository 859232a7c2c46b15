//! `tenantry secrets`.

use std::time::Duration;

use clap::{Args, Subcommand};
use tenantry_api::secrets::{KeyReplica, MasterKey};
use tenantry_api::{Client, SecretsStatus};
use tenantry_store::Keyring;

use super::error::CliError;
use super::table::{Cell, Tabular};
use super::waiting::{WaitOptions, interruptible, spinner};
use super::{Context, examples};
use crate::serve::ServeError;

/// The pause between two looks at how far a rotation is.
const PAUSE: Duration = Duration::from_millis(300);

/// What seals the passwords in the catalog: every one has the data key of its home, and a master key wraps the data keys.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Show the master keys, what each holds, and which replica has which
    #[command(after_help = examples!("tenantry secrets status", "tenantry secrets status --output json"))]
    Status,
    /// Let the newest master key take over from the one before, while everything runs
    #[command(after_help = examples!(
        "tenantry secrets new-key --key-version 2 >> /etc/tenantry/master.keys   # then restart every replica, one by one",
        "tenantry secrets rotate-master                                      # says when version 1 can be removed",
        "",
        "Interrupted, it goes on in the control plane; the same command watches it again.",
    ))]
    RotateMaster(RotateArguments),
    /// Print a new random master key; needs no control plane
    #[command(after_help = examples!(
        "tenantry secrets new-key > /etc/tenantry/master.keys",
        "tenantry secrets new-key --key-version 2 >> /etc/tenantry/master.keys",
    ))]
    NewKey(NewKeyArguments),
}

/// How long to watch.
#[derive(Debug, Args)]
pub(crate) struct RotateArguments {
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which version.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArguments {
    /// The version that stands before the key; one more than the highest in use
    #[arg(long, value_name = "VERSION", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
    key_version: i32,
}

impl SecretsCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Status => show(context, &context.client()?.show_secrets().await?),
            Self::RotateMaster(arguments) => rotate(context, &arguments.waiting).await,
            Self::NewKey(arguments) => {
                let key = Keyring::generate_version(arguments.key_version).map_err(ServeError::from)?;
                context.output.raw(&format!("{}\n", key.expose()))
            }
        }
    }
}

async fn rotate(context: &Context, waiting: &WaitOptions) -> Result<(), CliError> {
    let client = context.client()?;
    let begun = client.rotate_master_key().await?;
    let status = match waiting.patience() {
        Some(patience) if !is_complete(&begun) => {
            let stopped = |interrupted| CliError::StillRunning {
                what: "the rotation".to_owned(),
                resume: "tenantry secrets rotate-master".to_owned(),
                interrupted,
            };
            interruptible(patience, watch(&client)).await.map_err(stopped)??
        }
        _ => begun,
    };
    show(context, &status)?;
    if !context.output.is_json() {
        context.output.note(&verdict(&status));
    }
    Ok(())
}

/// Looks until everything is moved, and until every replica has heard of it.
async fn watch(client: &Client) -> Result<SecretsStatus, CliError> {
    let spinner = spinner();
    loop {
        let status = client.show_secrets().await?;
        if is_complete(&status) {
            spinner.finish_and_clear();
            return Ok(status);
        }
        spinner.set_message(match status.pending {
            0 => "waiting for the other replicas to hear of it".to_owned(),
            pending => format!("{pending} to move"),
        });
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_complete(status: &SecretsStatus) -> bool {
    status.pending == 0
        && status.master_keys.iter().all(|key| key.is_current || key.is_removable || is_newer(status, key))
}

/// A key that is known and not in use yet.
fn is_newer(status: &SecretsStatus, key: &MasterKey) -> bool {
    status.current_version.is_some_and(|current| key.version > current)
}

fn verdict(status: &SecretsStatus) -> String {
    let removable: Vec<String> = status
        .master_keys
        .iter()
        .filter(|key| key.is_removable && !is_newer(status, key) && key.replicas > 0)
        .map(|key| key.version.to_string())
        .collect();
    let current = status.current_version.unwrap_or_default();
    if !is_complete(status) {
        format!(
            "Version {current} wraps from now on; {} to move. Keep every older key until nothing is left.",
            status.pending
        )
    } else if removable.is_empty() {
        format!("Version {current} wraps everything.")
    } else {
        format!(
            "Version {current} wraps everything. Remove version {} from the configuration of every replica; destroy it once no \
             backup of the catalog from before is to be read.",
            removable.join(", ")
        )
    }
}

fn show(context: &Context, status: &SecretsStatus) -> Result<(), CliError> {
    context.output.composed(status, |composition| {
        composition.list(&status.master_keys);
        composition.list(&status.replicas);
        composition.fields(vec![("to be moved", Cell::new(status.pending))]);
    })
}

impl Tabular for MasterKey {
    const COLUMNS: &'static [&'static str] =
        &["version", "wraps", "data keys", "old secrets", "replicas", "removable", "known since"];

    fn row(&self) -> Vec<Cell> {
        let yes = |is: bool| Cell::new(if is { "yes" } else { "no" });
        vec![
            Cell::new(self.version),
            yes(self.is_current),
            Cell::new(self.data_keys),
            Cell::new(self.direct_secrets),
            Cell::new(self.replicas),
            yes(self.is_removable),
            Cell::time(self.created_at),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for KeyReplica {
    const COLUMNS: &'static [&'static str] = &["replica", "master keys", "wraps with", "seen"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(self.id), Cell::joined(&self.versions), Cell::new(self.wraps_with), Cell::time(self.seen_at)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}
