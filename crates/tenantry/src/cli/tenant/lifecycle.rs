//! `tenantry tenant suspend`, `resume`, `delete` and `restore`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tenantry_api::{
    Client, DeleteTenant, GraceSeconds, ResumeTenant, SuspendTenant, Tenant, TenantRef, TenantWithOperation,
    TenantWithSubtree,
};
use tenantry_domain::{Note, SuspensionReason};

use super::super::Context;
use super::super::arguments::{duration, future, words};
use super::super::error::CliError;
use super::super::waiting::{self, WaitOptions};
use super::{finish, show};

/// Which tenant, why, and for how long.
#[derive(Debug, Args)]
pub(crate) struct SuspendArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// Why
    #[arg(long, default_value = "admin", value_parser = words::<SuspensionReason>(reasons()))]
    reason: SuspensionReason,
    /// More about it, for people
    #[arg(long)]
    note: Option<Note>,
    /// When it ends by itself, or for how long it lasts; never unless given
    #[arg(long, value_name = "TIME", value_parser = future)]
    until: Option<Timestamp>,
    /// Suspend everything below it too
    #[arg(long)]
    subtree: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which tenant, and whom else.
#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// Leave those suspended that were suspended together with it
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which tenant, and how sure.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Its slug or id
    tenant: TenantRef,
    /// For how long it can be restored, such as `30d`; 0 for not at all, and as the control plane says (7 days) unless
    /// given
    #[arg(long, value_name = "SPAN", value_parser = grace)]
    grace: Option<GraceSeconds>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    waiting: WaitOptions,
}

/// Which tenant.
#[derive(Debug, Args)]
pub(crate) struct RestoreArguments {
    /// Its slug or id
    tenant: TenantRef,
    #[command(flatten)]
    waiting: WaitOptions,
}

#[cfg(test)]
impl DeleteArguments {
    pub(in super::super) fn patience(&self) -> Option<Duration> {
        self.waiting.patience()
    }
}

impl SuspendArguments {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        let suspend = SuspendTenant { reason: self.reason, note: self.note, until: self.until, subtree: self.subtree };
        let begun = client.suspend_tenant(&self.tenant, &suspend, None).await?;
        finish_all(context, client, begun, &self.waiting).await
    }
}

impl ResumeArguments {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        let begun = client.resume_tenant(&self.tenant, &ResumeTenant { subtree: !self.alone }, None).await?;
        finish_all(context, client, begun, &self.waiting).await
    }
}

impl DeleteArguments {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        if !self.yes && io::stdin().is_terminal() && io::stderr().is_terminal() {
            let tenant = client.show_tenant(&self.tenant).await?.value;
            confirm(&tenant)?;
        }
        let begun = client.delete_tenant(&self.tenant, &DeleteTenant { grace: self.grace, wait: None }).await?;
        finish(context, client, begun, &self.waiting).await
    }
}

impl RestoreArguments {
    pub(super) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        let mut work = client.restore_tenant(&self.tenant, None).await?;
        if let Some(patience) = self.waiting.patience() {
            work.operation = waiting::for_cancellation(client, work.operation.id, patience).await?;
            work.tenant = client.show_tenant(&self.tenant).await?.value;
        }
        show(context, &work)
    }
}

/// Waits for the work on a tenant and on all below it, each as long as asked, and shows them as they are then.
async fn finish_all(
    context: &Context,
    client: &Client,
    mut begun: TenantWithSubtree,
    options: &WaitOptions,
) -> Result<(), CliError> {
    if let Some(patience) = options.patience() {
        begun.operation = waiting::for_operation(client, begun.operation.id, patience).await?;
        begun.tenant = client.show_tenant(&begun.tenant.id.into()).await?.value;
        for TenantWithOperation { tenant, operation } in &mut begun.below {
            *operation = waiting::for_operation(client, operation.id, patience).await?;
            *tenant = client.show_tenant(&tenant.id.into()).await?.value;
        }
    }
    context.output.composed(&begun, |composition| {
        let mut fields = super::fields_of(&begun.tenant, &begun.operation);
        let below = begun.below.iter().map(|work| format!("{} ({})", work.tenant.slug, work.tenant.status));
        fields.push(("taken along", super::Cell::joined(below)));
        composition.fields(fields);
    })
}

/// Has the slug typed: a tenant that is gone does not come back.
fn confirm(tenant: &Tenant) -> Result<(), CliError> {
    let slug = &tenant.slug;
    let mut stderr = io::stderr().lock();
    let mut answer = String::new();
    write!(stderr, "{slug} ({}) will be shut out, and its data will be gone. Type its slug to go on: ", tenant.id)
        .and_then(|()| stderr.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(CliError::Output)?;
    if answer.trim() == slug.as_str() {
        Ok(())
    } else {
        Err(CliError::usage(format!("nothing was deleted: that is not `{slug}`")))
    }
}

/// Why people suspend tenants.
pub(crate) fn reasons() -> impl Iterator<Item = &'static str> {
    SuspensionReason::ALL.iter().filter(|reason| reason.is_for_people()).map(|reason| reason.as_str())
}

/// A span in whole seconds; a bare 0 is one too.
pub(crate) fn grace(text: &str) -> Result<GraceSeconds, String> {
    let span = if text == "0" { Duration::ZERO } else { duration(text)? };
    GraceSeconds::new(span.as_secs()).map_err(|_| "a grace period is at most a year (365d)".to_owned())
}
