//! `tenantry dev`: a whole Tenantry on this machine, resumed where it was left.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use tenantry_api::SecretText;
use tenantry_runtime::{Shutdown, Telemetry, TelemetryConfig};

use crate::cli::error::CliError;
use crate::cli::table::Cell;
use crate::cli::{Context, examples};
use crate::data_directory::{default_data_directory, profile_path};
use crate::world::{ApiPort, Narration, World, WorldError, WorldPlace};

/// Easy to remember, and nobody's by registration.
const API_PORT: u16 = 7171;

/// Where its files are and where it listens.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry dev                                       # Ctrl-C ends it; the same command brings it back",
    "tenantry dev --data-dir /var/lib/tenantry/second --api-port 7272",
    "",
    "Without --data-dir the files are in tenantry/dev below XDG_DATA_HOME or ~/.local/share; for root, whose home no",
    "server can enter, in /var/lib/tenantry/dev.",
))]
pub(crate) struct DevArguments {
    /// Keep all files here
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Listen on this port of 127.0.0.1 or not at all; 7171 if that is free, else any, unless given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    api_port: Option<u16>,
    #[command(flatten)]
    log: LogOptions,
}

/// What is logged on standard error, beside what is told to the person.
#[derive(Debug, Args)]
pub(crate) struct LogOptions {
    /// Log this: a level, or pairs of module and level separated by commas
    #[arg(long = "log", env = "TENANTRY_LOG", value_name = "FILTER")]
    filter: Option<String>,
}

impl LogOptions {
    /// Installs telemetry for the process; `usual` is logged unless something else was asked for.
    pub(crate) fn install(self, usual: &str) -> Result<Telemetry, WorldError> {
        let log_filter = self.filter.unwrap_or_else(|| usual.to_owned());
        Ok(Telemetry::install(&TelemetryConfig { log_filter, ..TelemetryConfig::default() })?)
    }
}

/// What a newcomer needs to know.
#[derive(Debug, Serialize)]
struct Welcome {
    api_url: String,
    docs_url: String,
    health_url: String,
    token: SecretText,
    catalog_url: SecretText,
    data_directory: PathBuf,
    profile: PathBuf,
}

impl DevArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let output = context.output;
        let directory = match self.data_dir {
            Some(directory) => absolute(&directory)?,
            None => default_data_directory().ok_or(WorldError::NoDataDirectory)?,
        };
        let port = self.api_port.map_or(ApiPort::Preferred(API_PORT), ApiPort::Exactly);
        let telemetry = self.log.install("warn")?;
        let shutdown = Shutdown::on_signals().map_err(WorldError::io("listen for", "signals"))?;
        let narration = Narration::new(output);
        let place = WorldPlace::Directory(directory.clone());
        let mut world = tokio::select! {
            world = World::start(&place, port, telemetry, &narration) => world?,
            () = shutdown.wait() => return Err(WorldError::Stopped.into()),
        };
        let welcome = Welcome::of(&world, directory);
        output.composed(&welcome, |composition| composition.fields(welcome.fields()))?;
        if !output.is_json() {
            output.raw(&welcome.suggestions(&invocation()))?;
        }
        let ended = tokio::select! {
            error = world.ended() => Err(error),
            () = shutdown.wait() => Ok(()),
        };
        output.note("stopping");
        world.stop().await?;
        Ok(ended?)
    }
}

impl Welcome {
    fn of(world: &World, data_directory: PathBuf) -> Self {
        let api_url = world.api_url.clone();
        Self {
            docs_url: format!("{api_url}/docs"),
            health_url: format!("{api_url}/readyz"),
            token: SecretText::new(world.token.clone()),
            catalog_url: SecretText::new(world.catalog_url.clone()),
            profile: profile_path(&data_directory),
            api_url,
            data_directory,
        }
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("api", Cell::new(&self.api_url)),
            ("docs", Cell::new(&self.docs_url)),
            ("health", Cell::new(&self.health_url)),
            ("token", Cell::new(self.token.as_secret().expose())),
            ("files", Cell::new(self.data_directory.display())),
            ("profile", Cell::new(self.profile.display())),
        ]
    }

    /// Five commands that work as they stand.
    fn suggestions(&self, program: &str) -> String {
        let mut text = String::from("\nTry in another terminal:\n");
        // The client commands find the profile in its default place by themselves.
        if default_data_directory().as_deref() != Some(&self.data_directory) {
            text.push_str(&format!("  export TENANTRY_PROFILE={}\n", quoted(&self.profile.display().to_string())));
        }
        for command in
            ["tenant create acme --plan team", "tenant list", "psql acme -- -c '\\d'", "operation list --tenant acme"]
        {
            text.push_str(&format!("  {program} {command}\n"));
        }
        text.push_str(&format!(
            "  curl -H 'authorization: Bearer {}' {}/v1/tenants/acme\n",
            self.token.as_secret().expose(),
            self.api_url
        ));
        text.push_str("Ctrl-C ends it; the same command brings everything back.\n");
        text
    }
}

/// How this program was called, so that what we suggest can be pasted.
pub(crate) fn invocation() -> String {
    std::env::args().next().map_or_else(|| "tenantry".to_owned(), |program| quoted(&program))
}

/// As a shell needs it.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, WorldError> {
    std::path::absolute(path).map_err(WorldError::file("resolve", path))
}

#[cfg(test)]
mod tests {
    use tenantry_domain::Secret;

    use super::*;

    #[test]
    fn what_a_shell_would_split_is_quoted() {
        assert_eq!(quoted("target/release/tenantry"), "target/release/tenantry");
        assert_eq!(quoted("my dir/tenantry"), "'my dir/tenantry'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn five_commands_are_suggested_with_the_profile_where_it_is_not_found_by_itself() {
        let secret = |text: &str| SecretText::new(Secret::new(text.to_owned()));
        let welcome = Welcome {
            api_url: "http://127.0.0.1:7171".to_owned(),
            docs_url: String::new(),
            health_url: String::new(),
            token: secret("tenantry_x"),
            catalog_url: secret("postgres://"),
            data_directory: "/some where".into(),
            profile: "/some where/dev.json".into(),
        };
        let text = welcome.suggestions("tenantry");
        assert!(text.contains("export TENANTRY_PROFILE='/some where/dev.json'"), "{text}");
        let commands = text.lines().filter(|line| line.starts_with("  tenantry ") || line.starts_with("  curl "));
        assert_eq!(commands.count(), 5);
    }
}
