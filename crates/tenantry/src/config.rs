//! The configuration of `tenantry serve`: defaults, then one TOML file, then the environment.
//!
//! `TENANTRY__CATALOG__URL` sets `url` in the section `catalog`. Unknown keys are refused. Each room gets its own slice;
//! what a setting means is written there. Secrets may be given in files of their own (`url_file`, `master_key_file`),
//! as secret stores mount them; master keys may also come from a program (`master_key_command`).

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use tenantry_api::SecretText;
use tenantry_control::drift::DriftConfig;
use tenantry_control::webhooks::WebhookConfig;
use tenantry_control::{ControlConfig, WarmPoolConfig};
use tenantry_domain::{OperationKind, Region, Secret};
use tenantry_fleet::FleetConfig;
use tenantry_runtime::{Loaded, RuntimeError, TelemetryConfig, duration};
use tenantry_server::{ServerConfig, ServerError};
use tenantry_store::{Keyring, StoreConfig, StoreError};
use uuid::Uuid;

use crate::master_keys::{self, KeyCommandError};

/// The variable that names the configuration file where no argument does.
pub(crate) const FILE_VARIABLE: &str = "TENANTRY_CONFIG";

/// All sections.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where the catalog is.
    pub(crate) catalog: CatalogSection,
    /// What seals the passwords in the catalog.
    pub(crate) secrets: SecretsSection,
    /// The HTTP door.
    pub(crate) server: ServerConfig,
    /// The engine of operations and rollouts.
    pub(crate) control: ControlSection,
    /// How clusters are managed.
    pub(crate) fleet: FleetSection,
    /// How webhooks are told of events.
    pub(crate) webhooks: WebhooksSection,
    /// Logs.
    pub(crate) telemetry: TelemetryConfig,
}

/// The section `catalog`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CatalogSection {
    /// `postgres://user:password@host/database?sslmode=require`.
    url: Option<SecretText>,
    /// A file that holds the URL, in place of `url`.
    url_file: Option<PathBuf>,
    /// PEM file of the authority for encrypted connections; the system's unless given.
    tls_ca: Option<PathBuf>,
    /// Connections at most, besides the one that listens.
    pool_size: usize,
    /// For reaching the server, and for waiting on a free connection.
    #[serde(with = "duration")]
    connect_timeout: Duration,
    /// For one statement.
    #[serde(with = "duration")]
    statement_timeout: Duration,
    /// Whether `serve` refuses to run as the role that owns the catalog, and could change the audit log.
    pub(crate) require_runtime_role: bool,
    /// How long `serve` tries to reach the catalog at its start.
    #[serde(with = "duration")]
    pub(crate) start_timeout: Duration,
}

/// The section `secrets`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SecretsSection {
    /// `version:key` pairs joined by commas; a key is 64 hexadecimal digits. The highest version seals.
    master_keys: Option<SecretText>,
    /// A file that holds the same, in place of `master_keys`.
    master_key_file: Option<PathBuf>,
    /// A program and its arguments that prints the same, in place of both. In the environment: joined by commas.
    #[serde(deserialize_with = "list")]
    master_key_command: Vec<String>,
    /// How long that program may take.
    #[serde(with = "duration")]
    master_key_timeout: Duration,
    /// Whether a crash may write this program's memory, with every key in it, to a file.
    pub(crate) core_dumps: bool,
}

/// The section `control`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ControlSection {
    /// Operations that this replica works on at the same time.
    workers: usize,
    /// How long a claim on work holds without being renewed.
    #[serde(with = "duration")]
    lease: Duration,
    /// Attempts of one step before its operation is walked back or parked.
    attempts_max: u32,
    /// The longest that one attempt of a step may take.
    #[serde(with = "duration")]
    step_timeout: Duration,
    /// How long an operation of a kind may take before it is walked back or parked; `0s` means without end. A kind that is
    /// not named has a default of its own.
    deadlines: HashMap<OperationKind, Deadline>,
    /// How long the credentials before a rotation go on letting in at least, for programs that were given them right
    /// before and are no routers; a minute at most.
    #[serde(with = "duration")]
    rotation_overlap: Duration,
    /// Tenants that one rollout migrates at the same time, unless it says otherwise.
    rollout_concurrency: u32,
    /// How long something on a cluster that is ours and should be gone is reported before it is removed.
    #[serde(with = "duration")]
    orphan_delay: Duration,
    /// How long a deletion can be taken back, where the request does not say; a year at most.
    #[serde(with = "duration")]
    delete_grace: Duration,
    /// How long removed routes, and routers that are gone, are remembered: a router that was away for longer gets all
    /// routes anew.
    #[serde(with = "duration")]
    removed_routes_kept: Duration,
    /// How long ago a tenant's schema was looked at until it is looked at again.
    #[serde(with = "duration")]
    drift_interval: Duration,
    /// Tenants whose schema is looked at in each pass at most, four passes a minute; 0 turns that off.
    drift_sample: u32,
    /// The region of a tenant that names none; the only one that has clusters unless given.
    default_region: Option<Region>,
    /// Homes kept ready on every shared cluster, so that a tenant with a database of its own finds one made.
    warm_pool_min: u32,
    /// At most so many on one cluster, where tenants come faster; 0 turns the pool off.
    warm_pool_max: u32,
    /// Made at the same time on one cluster.
    warm_pool_concurrency: u32,
}

/// A time limit in configuration, such as `2h`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct Deadline(#[serde(with = "duration")] Duration);

/// The section `webhooks`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WebhooksSection {
    /// Deliveries that this replica makes at the same time.
    concurrency: usize,
    /// Of those, to one webhook.
    concurrency_per_webhook: usize,
    /// For one attempt.
    #[serde(with = "duration")]
    timeout: Duration,
    /// The pause after a first failed attempt; it doubles with each.
    #[serde(with = "duration")]
    backoff: Duration,
    /// How long after it was queued a delivery is given up.
    #[serde(with = "duration")]
    give_up_after: Duration,
    /// How long nothing is taken until a webhook is disabled.
    #[serde(with = "duration")]
    disable_after: Duration,
    /// How long ended deliveries are kept for looking at.
    #[serde(with = "duration")]
    kept: Duration,
    /// Whether receivers may be on this machine, without encryption even.
    allow_loopback: bool,
    /// Whether receivers may have private addresses.
    allow_private_networks: bool,
}

/// The section `fleet`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct FleetSection {
    /// For reaching a cluster and logging in.
    #[serde(with = "duration")]
    connect_timeout: Duration,
    /// For one statement of the admin. Migrations have their own.
    #[serde(with = "duration")]
    statement_timeout: Duration,
    /// For waiting on a lock, as the admin.
    #[serde(with = "duration")]
    lock_timeout: Duration,
    /// Idle admin connections kept per cluster.
    idle_connections: usize,
    /// How long a kept connection may idle.
    #[serde(with = "duration")]
    idle_timeout: Duration,
    /// Extensions installed in every database, as far as the server offers them. In the environment: joined by commas.
    #[serde(deserialize_with = "list")]
    extensions: Vec<String>,
}

/// Settings that cannot be used, though each by itself is well-formed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file or the environment cannot be read, or a setting is unknown or wrong.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A setting that has no default is missing, or is given twice.
    #[error("{message}")]
    Setting {
        /// Which, and what to do.
        message: String,
    },
    /// A file that a setting names cannot be read.
    #[error("`{setting}` names {}, which cannot be read; check its path and permissions", .file.display())]
    File {
        /// Which setting.
        setting: &'static str,
        /// Which file.
        file: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// The master keys are not what they should be.
    #[error(transparent)]
    Keys(#[from] StoreError),
    /// The program that prints the master keys did not.
    #[error(transparent)]
    KeyCommand(#[from] KeyCommandError),
    /// The door's settings contradict each other.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl Config {
    /// Reads the file, if one is named, and this process's environment.
    pub(crate) fn load(file: Option<&Path>) -> Result<Loaded<Self>, ConfigError> {
        // A variable that is no Unicode is none of ours: our names and values are.
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(tenantry_runtime::load(file, variables)?)
    }

    /// The slice of the control plane. Tenants stay off the catalog's own server: no setting allows that.
    pub(crate) fn control(&self) -> ControlConfig {
        let section = &self.control;
        ControlConfig {
            workers: section.workers,
            lease: section.lease,
            attempts_max: section.attempts_max,
            step_timeout: section.step_timeout,
            deadlines: section.deadlines.iter().map(|(kind, deadline)| (*kind, deadline.0)).collect(),
            rotation_overlap: section.rotation_overlap,
            rollout_concurrency: section.rollout_concurrency,
            orphan_delay: section.orphan_delay,
            delete_grace: section.delete_grace,
            removed_routes_kept: section.removed_routes_kept,
            default_region: section.default_region.clone(),
            warm_pool: WarmPoolConfig {
                size_min: section.warm_pool_min,
                size_max: section.warm_pool_max,
                refill_concurrency: section.warm_pool_concurrency,
            },
            drift: DriftConfig { interval: section.drift_interval, sample: section.drift_sample },
            webhooks: self.webhooks.slice(),
            ..ControlConfig::new(Uuid::now_v7())
        }
    }

    /// The slice of the fleet.
    pub(crate) fn fleet(&self) -> FleetConfig {
        let section = &self.fleet;
        FleetConfig {
            connect_timeout: section.connect_timeout,
            statement_timeout: section.statement_timeout,
            lock_timeout: section.lock_timeout,
            idle_connections: section.idle_connections,
            idle_timeout: section.idle_timeout,
            extensions: section.extensions.clone(),
            ..FleetConfig::default()
        }
    }

    /// Refuses settings with which nothing would ever be done, or credentials would be sent in the clear.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let section = &self.control;
        let numbers = [
            ("control.workers", section.workers == 0),
            ("control.lease", section.lease < Duration::from_secs(1)),
            ("control.attempts_max", section.attempts_max == 0),
            ("control.step_timeout", section.step_timeout.is_zero()),
            ("control.rollout_concurrency", section.rollout_concurrency == 0),
            ("control.drift_interval", section.drift_sample > 0 && section.drift_interval.is_zero()),
            ("control.warm_pool_max", section.warm_pool_max > 0 && section.warm_pool_max < section.warm_pool_min),
            ("control.warm_pool_concurrency", section.warm_pool_max > 0 && section.warm_pool_concurrency == 0),
            ("webhooks.concurrency", self.webhooks.concurrency == 0),
            ("webhooks.concurrency_per_webhook", self.webhooks.concurrency_per_webhook == 0),
            ("webhooks.timeout", self.webhooks.timeout < Duration::from_millis(100)),
            ("webhooks.backoff", self.webhooks.backoff.is_zero()),
            ("secrets.master_key_timeout", self.secrets.master_key_timeout.is_zero()),
            ("catalog.pool_size", self.catalog.pool_size < 2),
            ("catalog.connect_timeout", self.catalog.connect_timeout.is_zero()),
            ("fleet.connect_timeout", self.fleet.connect_timeout.is_zero()),
        ];
        if section.delete_grace > tenantry_domain::GRACE_MAX {
            return Err(ConfigError::setting("`control.delete_grace` is more than a year; lower it".to_owned()));
        }
        if section.rotation_overlap > Duration::from_mins(1) {
            return Err(ConfigError::setting("`control.rotation_overlap` is more than a minute; lower it".to_owned()));
        }
        match numbers.into_iter().find(|(_, is_too_small)| *is_too_small) {
            Some((setting, _)) => Err(ConfigError::setting(format!("`{setting}` is too small; raise it"))),
            None => Ok(self.server.check()?),
        }
    }
}

impl WebhooksSection {
    fn slice(&self) -> WebhookConfig {
        WebhookConfig {
            concurrency: self.concurrency,
            concurrency_per_webhook: self.concurrency_per_webhook,
            timeout: self.timeout,
            backoff: self.backoff,
            give_up_after: self.give_up_after,
            disable_after: self.disable_after,
            kept: self.kept,
            allow_loopback: self.allow_loopback,
            allow_private_networks: self.allow_private_networks,
        }
    }
}

impl CatalogSection {
    /// The slice of the store.
    pub(crate) fn store(&self) -> Result<StoreConfig, ConfigError> {
        let url = one_of(
            ("catalog.url", "TENANTRY__CATALOG__URL", self.url.as_ref()),
            ("catalog.url_file", self.url_file.as_deref()),
        )?;
        self.store_at(url)
    }

    /// The same for another URL.
    pub(crate) fn store_at(&self, url: Secret) -> Result<StoreConfig, ConfigError> {
        let tls_ca = self.tls_ca.as_deref().map(|file| read("catalog.tls_ca", file)).transpose()?;
        Ok(StoreConfig {
            tls_ca,
            pool_size: self.pool_size,
            connect_timeout: self.connect_timeout,
            statement_timeout: self.statement_timeout,
            ..StoreConfig::new(url)
        })
    }
}

impl SecretsSection {
    /// The master keys.
    pub(crate) async fn keyring(&self) -> Result<Keyring, ConfigError> {
        let (value, file) = (self.master_keys.as_ref(), self.master_key_file.as_deref());
        let Some((program, arguments)) = self.master_key_command.split_first() else {
            let keys = one_of(
                ("secrets.master_keys", "TENANTRY__SECRETS__MASTER_KEYS", value),
                ("secrets.master_key_file", file),
            )?;
            return Ok(Keyring::parse(&keys)?);
        };
        if value.is_some() || file.is_some() {
            return Err(ConfigError::setting(
                "`secrets.master_key_command` is given beside `master_keys` or `master_key_file`; keep one of them"
                    .to_owned(),
            ));
        }
        Ok(Keyring::parse(&master_keys::printed_by(program, arguments, self.master_key_timeout).await?)?)
    }
}

impl ConfigError {
    fn setting(message: String) -> Self {
        Self::Setting { message }
    }
}

/// A secret that is given as it is or in a file, and not both.
fn one_of(
    (setting, variable, value): (&'static str, &'static str, Option<&SecretText>),
    (file_setting, file): (&'static str, Option<&Path>),
) -> Result<Secret, ConfigError> {
    match (value, file) {
        (Some(value), None) => Ok(value.as_secret().clone()),
        (None, Some(file)) => Ok(Secret::new(read(file_setting, file)?.trim().to_owned())),
        (Some(_), Some(_)) => {
            Err(ConfigError::setting(format!("`{setting}` and `{file_setting}` are both given; remove one")))
        }
        (None, None) => Err(ConfigError::setting(format!(
            "`{setting}` is missing; set it by the environment variable {variable}, or name a file by `{file_setting}`"
        ))),
    }
}

fn read(setting: &'static str, file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|source| ConfigError::File { setting, file: file.to_owned(), source })
}

/// A list, or text whose parts commas separate.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Parts;

    impl<'de> Visitor<'de> for Parts {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of names, or names joined by commas")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<String>, A::Error> {
            let mut parts = Vec::new();
            while let Some(part) = sequence.next_element()? {
                parts.push(part);
            }
            Ok(parts)
        }
    }

    deserializer.deserialize_any(Parts)
}

impl Default for CatalogSection {
    fn default() -> Self {
        let store = StoreConfig::new(Secret::new(String::new()));
        Self {
            url: None,
            url_file: None,
            tls_ca: None,
            pool_size: store.pool_size,
            connect_timeout: store.connect_timeout,
            statement_timeout: store.statement_timeout,
            require_runtime_role: false,
            start_timeout: Duration::from_mins(1),
        }
    }
}

impl Default for SecretsSection {
    fn default() -> Self {
        Self {
            master_keys: None,
            master_key_file: None,
            master_key_command: Vec::new(),
            master_key_timeout: Duration::from_secs(10),
            core_dumps: false,
        }
    }
}

impl Default for ControlSection {
    fn default() -> Self {
        let control = ControlConfig::new(Uuid::nil());
        Self {
            workers: control.workers,
            lease: control.lease,
            attempts_max: control.attempts_max,
            step_timeout: control.step_timeout,
            deadlines: HashMap::new(),
            rotation_overlap: control.rotation_overlap,
            rollout_concurrency: control.rollout_concurrency,
            orphan_delay: control.orphan_delay,
            delete_grace: control.delete_grace,
            removed_routes_kept: control.removed_routes_kept,
            drift_interval: DriftConfig::SOME.interval,
            drift_sample: DriftConfig::SOME.sample,
            default_region: control.default_region,
            warm_pool_min: WarmPoolConfig::SMALL.size_min,
            warm_pool_max: WarmPoolConfig::SMALL.size_max,
            warm_pool_concurrency: WarmPoolConfig::SMALL.refill_concurrency,
        }
    }
}

impl Default for WebhooksSection {
    fn default() -> Self {
        let webhooks = WebhookConfig::default();
        Self {
            concurrency: webhooks.concurrency,
            concurrency_per_webhook: webhooks.concurrency_per_webhook,
            timeout: webhooks.timeout,
            backoff: webhooks.backoff,
            give_up_after: webhooks.give_up_after,
            disable_after: webhooks.disable_after,
            kept: webhooks.kept,
            allow_loopback: webhooks.allow_loopback,
            allow_private_networks: webhooks.allow_private_networks,
        }
    }
}

impl Default for FleetSection {
    fn default() -> Self {
        let fleet = FleetConfig::default();
        Self {
            connect_timeout: fleet.connect_timeout,
            statement_timeout: fleet.statement_timeout,
            lock_timeout: fleet.lock_timeout,
            idle_connections: fleet.idle_connections,
            idle_timeout: fleet.idle_timeout,
            extensions: fleet.extensions,
        }
    }
}

#[cfg(test)]
mod tests;
