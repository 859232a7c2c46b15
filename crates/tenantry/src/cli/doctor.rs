//! `tenantry doctor`.

use clap::Args;
use tenantry_api::{ClusterRef, DoctorFinding, DoctorQuery, DoctorReport, ListClusters};

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Checks that catalog and clusters agree exactly, and that nobody has changed the audit log.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry doctor                  # exit status 0: all is well; 5: something was found",
    "tenantry doctor --cluster main   # that cluster and the catalog",
    "tenantry doctor --output json    # for monitoring",
    "tenantry doctor --without-audit-log    # sooner done where the log is long",
    "",
    "Follows the chains of the audit log from their first entry to their last. `tenantry audit verify` does so with what",
    "the control plane hands out, and trusts it less.",
))]
pub(crate) struct DoctorArguments {
    /// Only these clusters, by name or id
    #[arg(long)]
    cluster: Vec<ClusterRef>,
    /// Leave out the chains of the audit log
    #[arg(long)]
    without_audit_log: bool,
}

impl DoctorArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        let clusters = if self.cluster.is_empty() {
            let fetch = async |limit, cursor| {
                client.list_clusters(&ListClusters { limit: Some(limit), cursor, ..ListClusters::default() }).await
            };
            let clusters = paging::gather(&ListOptions::everything(), fetch).await?.items;
            clusters.into_iter().map(|cluster| ClusterRef::Id(cluster.id)).collect()
        } else {
            self.cluster
        };
        let mut report = DoctorReport::default();
        let mut query = DoctorQuery::default();
        loop {
            add(&mut report, client.examine_catalog(&query).await?, &mut query);
            if query.cursor.is_none() || self.without_audit_log {
                break;
            }
        }
        for cluster in clusters {
            let mut query = DoctorQuery::default();
            loop {
                add(&mut report, client.examine_cluster(&cluster, &query).await?, &mut query);
                if query.cursor.is_none() {
                    break;
                }
            }
        }
        show(context, &report)?;
        match report.findings.len() {
            0 => Ok(()),
            findings => Err(CliError::Unwell { findings }),
        }
    }
}

/// Takes a round into the whole, and turns to the one after it.
fn add(whole: &mut DoctorReport, round: DoctorReport, query: &mut DoctorQuery) {
    whole.checked += round.checked;
    whole.findings.extend(round.findings);
    query.cursor = round.next;
}

fn show(context: &Context, report: &DoctorReport) -> Result<(), CliError> {
    context.output.composed(report, |parts| {
        parts.fields(vec![("checked", Cell::new(report.checked)), ("findings", Cell::new(report.findings.len()))]);
        if !report.findings.is_empty() {
            parts.list(&report.findings);
        }
    })
}

impl Tabular for DoctorFinding {
    const COLUMNS: &'static [&'static str] = &["check", "subject", "finding"];

    fn row(&self) -> Vec<Cell> {
        vec![Cell::new(&self.check), Cell::new(&self.subject), Cell::new(&self.message)]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("check", Cell::new(&self.check)),
            ("subject", Cell::new(&self.subject)),
            ("finding", Cell::new(&self.message)),
        ]
    }
}
