//! Taking tenants back.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use tenantry_api::{MigrateDown, TenantRef};
use tenantry_domain::SchemaVersion;

use super::set::SetPrefix;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::tenant::finish;
use crate::cli::waiting::WaitOptions;

/// Which tenants, and where to.
#[derive(Debug, Args)]
pub(crate) struct DownArguments {
    /// Slugs or ids; one after the other goes back, until one fails
    #[arg(required = true, value_name = "TENANT")]
    tenants: Vec<TenantRef>,
    /// The version that they have in the end; 0 for before the first
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(0..))]
    to: i64,
    /// By the down files of this set; the promoted one unless given
    #[arg(long, value_name = "SET")]
    set: Option<SetPrefix>,
    /// Do not ask; needed for more than one tenant
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

impl DownArguments {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.tenants.len() > 1 && !self.yes {
            return Err(CliError::usage("several tenants go back only with --yes"));
        }
        if !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
            confirm(&self.tenants[0], self.to)?;
        }
        let client = context.client()?;
        let migration_set = match &self.set {
            Some(set) => Some(set.resolve(&client).await?),
            None => None,
        };
        let down = MigrateDown { version: SchemaVersion(self.to), migration_set };
        for tenant in &self.tenants {
            let begun = client.migrate_tenant_down(tenant, &down, None).await?;
            finish(context, &client, begun, &self.waiting).await?;
        }
        Ok(())
    }
}

/// Down files drop what the versions above have made, with the data in it.
fn confirm(tenant: &TenantRef, to: i64) -> Result<(), CliError> {
    let mut stderr = io::stderr().lock();
    let mut answer = String::new();
    write!(stderr, "What {tenant} has above version {to} will be undone, data included. Type its name to go on: ")
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(CliError::Output)?;
    if answer.trim() == tenant.to_string() {
        Ok(())
    } else {
        Err(CliError::usage(format!("nothing was undone: that is not `{tenant}`")))
    }
}
