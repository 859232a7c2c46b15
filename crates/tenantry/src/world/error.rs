//! Why a world cannot be brought up, or ended by itself.

use std::io;
use std::path::{Path, PathBuf};

use tenantry_control::ControlError;
use tenantry_domain::{InvalidName, RolloutState};
use tenantry_runtime::RuntimeError;
use tenantry_server::ServerError;
use tenantry_store::StoreError;
use tokio::task::JoinError;

/// Why a world cannot be brought up, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    /// Nothing says where the files should go.
    #[error("nothing says where to keep the files: name a directory with --data-dir, or set HOME")]
    NoDataDirectory,
    /// Another program has the directory.
    #[error(
        "{} is in use by {}; stop that program, or choose another directory with --data-dir",
        .directory.display(), held_by(*.holder)
    )]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// The process that has it, where it is known.
        holder: Option<u32>,
    },
    /// The key is gone, but what it sealed is there.
    #[error(
        "{} is missing, and without it the passwords in the catalog cannot be opened; put it back, or begin anew in \
         another directory (--data-dir)",
        .key.display()
    )]
    KeyMissing {
        /// Where it should be.
        key: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} {what}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        what: String,
        /// The system's own reason.
        source: io::Error,
    },
    /// The private PostgreSQL could not be started or stopped.
    #[error(transparent)]
    Postgres(#[from] tenantry_pglocal::Error),
    /// The catalog refused.
    #[error(transparent)]
    Catalog(#[from] StoreError),
    /// A use-case refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The door could not be opened or kept open.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Signals or telemetry could not be set up.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A name that the program itself made up breaks a rule.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// New tenants would start without a schema.
    #[error("the sample migration set could not be promoted: its rollout is {state}")]
    NotPromoted {
        /// How the rollout stands.
        state: RolloutState,
    },
    /// A part ended that should run for as long as the program.
    #[error("the control plane ended by itself; the lines above may say why")]
    Ended {
        /// How, if it did not end in good order.
        source: Option<JoinError>,
    },
    /// The embedded server ended while the world needed it.
    #[error("the embedded PostgreSQL ended by itself; {} says why, and starting again recovers what was committed", .log.display())]
    PostgresEnded {
        /// Its log.
        log: PathBuf,
    },
    /// A person stopped the program while it started.
    #[error("stopped before it was up")]
    Stopped,
}

impl WorldError {
    /// For `map_err`: names what was tried beside the system's answer.
    pub(crate) fn io(action: &'static str, what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::Io { action, what, source }
    }

    /// The same, for a file.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::io(action, &path.display().to_string())
    }
}

fn held_by(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another program".to_owned(), |pid| format!("another `tenantry dev` (process {pid})"))
}
