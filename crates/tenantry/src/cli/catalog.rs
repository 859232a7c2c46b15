//! `tenantry catalog`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use tenantry_domain::RoleName;
use tenantry_store::{Keyring, Store};

use super::catalog_token::connection;
use super::error::CliError;
use super::table::Cell;
use super::{Context, examples};
use crate::config::FILE_VARIABLE;
use crate::serve::ServeError;

/// The catalog's own schema.
#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// Bring the catalog's schema up to date, as its owner
    #[command(after_help = examples!(
        "tenantry catalog migrate --config owner.toml",
        "PGPASSWORD=… tenantry catalog migrate --catalog-url postgres://owner@db.example.com/tenantry?sslmode=require \\",
        "    --runtime-role tenantry_runtime",
        "",
        "Replicas that log in as a runtime role can read and append to the audit log and not change it. Create the role",
        "first (CREATE ROLE tenantry_runtime LOGIN PASSWORD …); it is granted anew at every later migration.",
    ))]
    Migrate(MigrateArguments),
}

/// Which catalog, and who works in it.
#[derive(Debug, Args)]
pub(crate) struct MigrateArguments {
    /// Let this role work in the catalog without owning it
    #[arg(long, value_name = "ROLE", value_parser = |text: &str| RoleName::parse(text))]
    runtime_role: Option<RoleName>,
    /// The catalog at this URL; the one that the configuration names unless given
    #[arg(long, value_name = "URL")]
    catalog_url: Option<String>,
    /// The configuration file of `serve`
    #[arg(long, env = FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Migrated {
    applied: Vec<String>,
    version: i64,
    runtime_roles: Vec<RoleName>,
}

impl CatalogCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Migrate(arguments) = self;
        let config = connection(context.output, arguments.config.as_deref(), arguments.catalog_url.as_deref())?;
        let migrated = async {
            // Nothing is sealed or opened: the catalog's own keys are not asked for.
            let keyring = Keyring::generate().and_then(|key| Keyring::parse(&key))?;
            let store = Store::connect(&config, keyring).await?;
            let report = store.migrate().await?;
            if let Some(role) = &arguments.runtime_role {
                store.grant_runtime_role(role).await?;
            }
            let runtime_roles = store.runtime_roles().await?;
            Ok(Migrated { applied: report.applied, version: report.version, runtime_roles })
        };
        let migrated = migrated.await.map_err(|error: tenantry_store::StoreError| ServeError::from(error))?;
        context.output.composed(&migrated, |composition| {
            composition.fields(vec![
                ("version", Cell::new(migrated.version)),
                ("applied now", Cell::joined(&migrated.applied)),
                ("runtime roles", Cell::joined(&migrated.runtime_roles)),
            ]);
        })
    }
}
