//! Master keys that an operator's program prints, such as one that asks a key management service.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tenantry_domain::Secret;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Most that the program may print: hundreds of keys.
const PRINTED_BYTES_MAX: usize = 64 * 1024;
/// What our own settings in the environment begin with; they are none of the program's business.
const OWN_VARIABLES: &str = "TENANTRY_";

/// Why a program did not give the master keys. What it printed is never told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyCommandError {
    /// It cannot be run.
    #[error("`secrets.master_key_command` names {program}, which cannot be run; check its path and permissions")]
    Start {
        /// Which program.
        program: String,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// It did not end well.
    #[error("`{program}` of `secrets.master_key_command` ended with {status}; its own words are above")]
    Failed {
        /// Which program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not end.
    #[error(
        "`{program}` of `secrets.master_key_command` took longer than {limit:?}; raise `secrets.master_key_timeout`"
    )]
    Slow {
        /// Which program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// It printed something else than keys.
    #[error(
        "`{program}` of `secrets.master_key_command` printed more than 64 KiB or no text; it must print version:key"
    )]
    Strange {
        /// Which program.
        program: String,
    },
}

/// Runs the program and takes what it prints. It sees this program's environment without our own settings; what it says
/// on standard error goes where ours goes. It is killed at the limit of time.
pub(crate) async fn printed_by(
    program: &str,
    arguments: &[String],
    limit: Duration,
) -> Result<Secret, KeyCommandError> {
    let program = || program.to_owned();
    let mut command = Command::new(program());
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with(OWN_VARIABLES)) {
            command.env_remove(name);
        }
    }
    let failed = |source| KeyCommandError::Start { program: program(), source };
    let mut child = command.spawn().map_err(failed)?;
    let run = async {
        let mut printed = zeroize::Zeroizing::new(Vec::with_capacity(PRINTED_BYTES_MAX + 1));
        if let Some(stdout) = child.stdout.take() {
            stdout.take(PRINTED_BYTES_MAX as u64 + 1).read_to_end(&mut printed).await.map_err(failed)?;
        }
        if printed.len() > PRINTED_BYTES_MAX {
            return Err(KeyCommandError::Strange { program: program() });
        }
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(KeyCommandError::Failed { program: program(), status });
        }
        match std::str::from_utf8(&printed) {
            Ok(text) => Ok(Secret::new(text.trim().to_owned())),
            Err(_) => Err(KeyCommandError::Strange { program: program() }),
        }
    };
    tokio::time::timeout(limit, run).await.unwrap_or_else(|_| Err(KeyCommandError::Slow { program: program(), limit }))
}
