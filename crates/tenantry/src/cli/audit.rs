//! `tenantry audit`.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::TryStreamExt;
use jiff::Timestamp;
use serde::Serialize;
use tenantry_api::{
    AuditBreach, AuditEntry, AuditLine, AuditVerification, Client, ExportAuditLog, ListAuditChains, ListAuditLog,
    TenantRef,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::arguments::past;
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Who did what to what.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List entries, the newest first
    #[command(after_help = examples!(
        "tenantry audit list --tenant acme",
        "tenantry audit list --since 24h --action tenant.delete",
        "tenantry audit list --all --output json   # with what each object was before and after",
    ))]
    List(ListArguments),
    /// Write entries as JSON lines, the oldest first, with what it takes to verify them
    #[command(after_help = examples!(
        "tenantry audit export > audit.jsonl",
        "tenantry audit export --tenant acme --since 30d > acme.jsonl",
    ))]
    Export(ExportArguments),
    /// Follow every chain of hashes, and say where entries were changed or removed
    #[command(after_help = examples!(
        "tenantry audit verify                       # the platform's chain and every tenant's",
        "tenantry audit verify --tenant acme",
        "tenantry audit verify --file audit.jsonl    # an export, without asking the control plane",
        "",
        "Hashes are computed here, from what the control plane hands out. Exits with 0 if all is sound and with 5 if not.",
        "What was cut off the end of a file is not noticed: keep its last hash, or verify against the control plane.",
    ))]
    Verify(VerifyArguments),
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// About this tenant, by slug or id
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// With this action, such as `tenant.create`
    #[arg(long)]
    action: Option<String>,
    /// By this actor, such as `token/ci`
    #[arg(long)]
    actor: Option<String>,
    /// Not before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
    #[command(flatten)]
    paging: ListOptions,
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// About this tenant, by slug or id; of a purged one, by id
    #[arg(long)]
    tenant: Option<TenantRef>,
    /// Not before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    since: Option<Timestamp>,
    /// Before this time, or this span ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    until: Option<Timestamp>,
}

/// What to verify.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Only this tenant's chain, by slug or id; of a purged one, by id
    #[arg(long, conflicts_with = "file")]
    tenant: Option<TenantRef>,
    /// A file that `tenantry audit export` wrote
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What a verification found.
#[derive(Debug, Serialize)]
struct Verdict {
    sound: bool,
    entries: u64,
    chains: usize,
    breaches: Vec<AuditBreach>,
}

/// The longest line of an export that is read.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

impl AuditCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::List(arguments) => list(context, arguments).await,
            Self::Export(arguments) => export(context, arguments).await,
            Self::Verify(arguments) => {
                let verification = match &arguments.file {
                    Some(file) => of_file(file).await?,
                    None => of_control_plane(&context.client()?, arguments.tenant).await?,
                };
                tell(context, verification)
            }
        }
    }
}

async fn list(context: &Context, arguments: ListArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let ListArguments { tenant, action, actor, since, until, paging } = arguments;
    let filter = ListAuditLog { tenant, action, actor, since, until, limit: None, cursor: None };
    let fetch = async |limit, cursor| {
        client.list_audit_log(&ListAuditLog { limit: Some(limit), cursor, ..filter.clone() }).await
    };
    context.output.list(&paging::gather(&paging, fetch).await?)
}

async fn export(context: &Context, arguments: ExportArguments) -> Result<(), CliError> {
    let ExportArguments { tenant, since, until } = arguments;
    let mut lines = context.client()?.export_audit_log(&ExportAuditLog { tenant, since, until }).await?;
    while let Some(line) = lines.try_next().await? {
        let text = serde_json::to_string(&line).map_err(|error| CliError::Output(error.into()))?;
        context.output.raw(&format!("{text}\n"))?;
    }
    Ok(())
}

/// The length and the end of every chain first, then the entries: chains that grow meanwhile are followed further.
async fn of_control_plane(client: &Client, tenant: Option<TenantRef>) -> Result<AuditVerification, CliError> {
    let fetch = async |limit, cursor| {
        let list = ListAuditChains { tenant: tenant.clone(), limit: Some(limit), cursor };
        client.list_audit_chains(&list).await
    };
    let heads = paging::gather(&ListOptions::everything(), fetch).await?.items;
    let mut verification = AuditVerification::against(heads);
    let mut lines = client.export_audit_log(&ExportAuditLog { tenant, since: None, until: None }).await?;
    while let Some(line) = lines.try_next().await? {
        verification.check(&line);
    }
    Ok(verification)
}

async fn of_file(path: &Path) -> Result<AuditVerification, CliError> {
    let unreadable = |source| CliError::File { what: "the export", path: path.to_owned(), source };
    let mut file = BufReader::new(tokio::fs::File::open(path).await.map_err(unreadable)?);
    let mut verification = AuditVerification::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if (&mut file).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await.map_err(unreadable)? == 0 {
            break;
        }
        let entry: AuditLine = serde_json::from_slice(&line).map_err(|error| {
            unreadable(io::Error::other(format!("line {number} is no entry of an export: {error}")))
        })?;
        verification.check(&entry);
    }
    Ok(verification)
}

fn tell(context: &Context, verification: AuditVerification) -> Result<(), CliError> {
    let (entries, chains) = (verification.entries(), verification.chains());
    let breaches = verification.finish();
    let verdict = Verdict { sound: breaches.is_empty(), entries, chains, breaches };
    context.output.composed(&verdict, |composition| {
        composition.fields(vec![
            ("sound", Cell::verdict(if verdict.sound { "yes" } else { "no" }, verdict.sound)),
            ("entries", Cell::new(entries)),
            ("chains", Cell::new(chains)),
        ]);
        if !verdict.sound {
            composition.list(&verdict.breaches);
        }
    })?;
    match verdict.breaches.len() {
        0 => Ok(()),
        breaches => Err(CliError::Audit { breaches }),
    }
}

impl Tabular for AuditBreach {
    const COLUMNS: &'static [&'static str] = &["chain", "entry", "what is wrong"];

    fn row(&self) -> Vec<Cell> {
        let chain = self.tenant.map_or_else(|| "platform".to_owned(), |tenant| tenant.to_string());
        vec![Cell::new(chain), Cell::optional(self.entry), Cell::new(&self.reason)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for AuditEntry {
    const COLUMNS: &'static [&'static str] = &["at", "actor", "action", "target", "request"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::time(self.at),
            Cell::new(&self.actor),
            Cell::new(&self.action),
            Cell::new(&self.target),
            Cell::optional(self.request_id.as_ref()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("at", Cell::time(self.at)),
            ("actor", Cell::new(&self.actor)),
            ("action", Cell::new(&self.action)),
            ("target", Cell::new(&self.target)),
            ("request", Cell::optional(self.request_id.as_ref())),
            ("operation", Cell::optional(self.operation)),
            ("before", Cell::optional(self.before.as_ref())),
            ("after", Cell::optional(self.after.as_ref())),
            ("hash", Cell::new(&self.hash)),
        ]
    }
}
