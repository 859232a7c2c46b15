//! Why a program cannot start.

use std::error::Error;
use std::path::PathBuf;

/// Why a program cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The configuration file cannot be read.
    #[error("the configuration file `{}` cannot be read; check its path and permissions", file.display())]
    Unreadable {
        /// Which file.
        file: PathBuf,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// The configuration file is not TOML.
    #[error("the configuration file `{}` is not valid TOML", file.display())]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Where and what.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A setting is unknown, missing or wrong.
    #[error("{place} is not valid: {message}")]
    Setting {
        /// The setting's path, such as `server.listen`; empty for the whole configuration.
        key: String,
        /// The setting and where it was given, for a person.
        place: String,
        /// What is wrong with it.
        message: String,
    },
    /// The log filter is not understood.
    #[error(
        "`{filter}` is no log filter; write a level such as `info`, or pairs such as `tenantry_control=debug,info`"
    )]
    LogFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Telemetry was installed before.
    #[error("telemetry is installed already; install it once, in `main`")]
    TelemetryInstalled {
        /// What refused.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}
