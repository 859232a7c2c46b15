//! What long-running programs share: reading configuration, telemetry, shutdown, and the process-wide cryptography.
//!
//! Here live only things that know nothing of tenants. Never here: what a setting means (each room has its own slice),
//! or anything that a library needs to run. The process-wide state that tracing, metrics and rustls keep is installed
//! here and nowhere else.
//!
//! Start reading at [`configuration::load`], then [`telemetry`] and [`shutdown`].

pub mod configuration;
mod crypto;
pub mod duration;
mod error;
mod hardening;
mod open_files;
pub mod shutdown;
pub mod telemetry;

pub use configuration::{Loaded, load};
pub use crypto::install_crypto;
pub use error::RuntimeError;
pub use hardening::forbid_core_dumps;
pub use open_files::allow_open_files;
pub use shutdown::Shutdown;
pub use telemetry::{LogFormat, Telemetry, TelemetryConfig};
