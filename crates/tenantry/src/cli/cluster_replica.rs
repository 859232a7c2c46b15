//! `tenantry cluster replica`.

use std::num::NonZeroU16;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tenantry_api::cluster::Host;
use tenantry_api::{AddClusterReplica, Client, ClusterRef, ClusterReplica, ListQuery};
use tenantry_domain::{ClusterReplicaId, LagMax};

use super::arguments::duration;
use super::cluster::{TlsArguments, endpoint, host, read_certificate};
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Physical standbys of a cluster, from which routers may read.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterReplicaCommand {
    /// Register a physical standby of a cluster
    #[command(after_help = examples!(
        "tenantry cluster replica add eu-1 --host db-1-replica.example.com",
        "tenantry cluster replica add eu-1 --host 10.0.0.8 --port 5433 --max-lag 2s --tls-mode verify_ca --tls-ca ca.pem",
        "",
        "It must follow this very server (pg_basebackup makes such a copy). Roles and passwords are the cluster's.",
    ))]
    Add(Box<AddArguments>),
    /// List a cluster's replicas, with how far each is behind
    #[command(after_help = examples!(
        "tenantry cluster replica list eu-1",
        "tenantry cluster replica list eu-1 --output json | jq '.items[] | select(.health.state != \"healthy\")'",
    ))]
    List {
        /// The cluster's name or id
        cluster: ClusterRef,
        #[command(flatten)]
        paging: ListOptions,
    },
    /// Forget a replica; the server itself stays
    #[command(after_help = examples!("tenantry cluster replica remove eu-1 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Remove {
        /// The cluster's name or id
        cluster: ClusterRef,
        /// The replica's id, as the list shows it
        replica: ClusterReplicaId,
    },
}

/// A standby and when to read from it.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// The cluster's name or id
    cluster: ClusterRef,
    /// Host name, IP address, or the absolute path of a unix socket's folder
    #[arg(long, value_parser = host)]
    host: Host,
    /// Its port
    #[arg(long, default_value = "5432")]
    port: NonZeroU16,
    /// Further behind than this, nothing is read from it
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = duration)]
    max_lag: Duration,
    #[command(flatten)]
    tls: TlsArguments,
}

impl ClusterReplicaCommand {
    pub(crate) async fn run(self, context: &Context, client: &Client) -> Result<(), CliError> {
        match self {
            Self::Add(arguments) => context.output.object(&add(client, *arguments).await?),
            Self::List { cluster, paging } => {
                let fetch = async |limit, cursor| {
                    client.list_cluster_replicas(&cluster, &ListQuery { limit: Some(limit), cursor }).await
                };
                context.output.list(&paging::gather(&paging, fetch).await?)
            }
            Self::Remove { cluster, replica } => {
                client.remove_cluster_replica(&cluster, replica).await?;
                let json = json!({ "cluster": cluster, "removed": replica });
                context.output.done(&json, &format!("Replica {replica} is forgotten; the server itself stays."))
            }
        }
    }
}

async fn add(client: &Client, arguments: AddArguments) -> Result<ClusterReplica, CliError> {
    let lag_max = u32::try_from(arguments.max_lag.as_millis()).unwrap_or(u32::MAX);
    let add = AddClusterReplica {
        host: arguments.host,
        port: arguments.port,
        tls_mode: arguments.tls.tls_mode,
        tls_ca: arguments.tls.tls_ca.as_deref().map(read_certificate).transpose()?,
        lag_max_ms: LagMax::from_ms(lag_max).map_err(|error| CliError::usage(format!("--max-lag: {error}")))?,
    };
    Ok(client.add_cluster_replica(&arguments.cluster, &add).await?)
}

impl Tabular for ClusterReplica {
    const COLUMNS: &'static [&'static str] = &["endpoint", "health", "lag", "lag at most", "checked", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(endpoint(&self.host, self.port)),
            Cell::state(self.health.state),
            Cell::optional(self.health.lag_ms.map(|lag| format!("{lag} ms"))),
            Cell::new(format!("{} ms", self.lag_max_ms.as_ms())),
            Cell::time(self.health.checked_at),
            Cell::new(self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("cluster", Cell::new(self.cluster)),
            ("endpoint", Cell::new(endpoint(&self.host, self.port))),
            ("tls mode", Cell::new(self.tls_mode)),
            ("health", Cell::state(self.health.state)),
            ("what is wrong", Cell::optional(self.health.error.as_ref())),
            ("lag", Cell::optional(self.health.lag_ms.map(|lag| format!("{lag} ms")))),
            ("lag at most", Cell::new(format!("{} ms", self.lag_max_ms.as_ms()))),
            ("seen", Cell::time(self.health.seen_at)),
            ("checked", Cell::time(self.health.checked_at)),
            ("created", Cell::time(self.created_at)),
        ]
    }
}
