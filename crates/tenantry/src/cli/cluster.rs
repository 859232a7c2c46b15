//! `tenantry cluster`.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use tenantry_api::cluster::{CertificatePem, Host};
use tenantry_api::{Client, Cluster, ClusterRef, ListClusters, Patch, RegisterCluster, SecretText, UpdateCluster};
use tenantry_domain::{
    ClusterLimits, ClusterName, ClusterState, DatabaseName, Endpoint, Region, RoleName, Secret, Tenancy, TlsMode,
};

use super::arguments::words;
use super::connection;
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// The variable that a cluster's password comes from where no file is named.
const PASSWORD_VARIABLE: &str = "TENANTRY_CLUSTER_PASSWORD";

/// PostgreSQL servers that homes are placed on.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Register a PostgreSQL server
    #[command(after_help = examples!(
        "tenantry cluster register eu-1 --region eu-central-1 --host db-1.example.com --password-file db-1.password",
        "TENANTRY_CLUSTER_PASSWORD=… tenantry cluster register local --region local --host 127.0.0.1",
        "tenantry cluster register big-1 --region eu-central-1 --host 10.0.0.7 --tenancy dedicated \\",
        "    --tls-mode verify_ca --tls-ca ca.pem --password-file big-1.password",
        "",
        "The role must be a superuser, or have CREATEDB and CREATEROLE. PUBLIC loses its CONNECT on the server's",
        "databases.",
    ))]
    Register(Box<RegisterArguments>),
    /// List clusters
    #[command(after_help = examples!("tenantry cluster list --region eu-central-1 --state active"))]
    List(ListArguments),
    /// Show one cluster
    #[command(after_help = examples!("tenantry cluster show eu-1"))]
    Show {
        /// Its name or id
        cluster: ClusterRef,
    },
    /// Change address, credential, TLS or limits; it must stay the same server
    #[command(after_help = examples!(
        "tenantry cluster update eu-1 --host db-1-new.example.com",
        "tenantry cluster update eu-1 --password-file db-1.password",
        "tenantry cluster update eu-1 --max-tenants 2000",
    ))]
    Update(Box<UpdateArguments>),
    /// Let no new homes onto a cluster; those that are there stay
    #[command(after_help = examples!("tenantry cluster cordon eu-1"))]
    Cordon {
        /// Its name or id
        cluster: ClusterRef,
    },
    /// Let new homes onto a cluster again
    #[command(after_help = examples!("tenantry cluster uncordon eu-1"))]
    Uncordon {
        /// Its name or id
        cluster: ClusterRef,
    },
    /// Forget a cluster on which no tenant lives; the server itself stays
    #[command(after_help = examples!("tenantry cluster remove eu-1"))]
    Remove {
        /// Its name or id
        cluster: ClusterRef,
    },
}

/// A server and how to manage it.
#[derive(Debug, Args)]
pub(crate) struct RegisterArguments {
    /// Its name, unique
    name: ClusterName,
    /// Where its data is
    #[arg(long)]
    region: Region,
    /// Whether several tenants may share it
    #[arg(long, default_value = "shared", value_parser = words::<Tenancy>(Tenancy::ALL.iter().map(|it| it.as_str())))]
    tenancy: Tenancy,
    /// Host name, IP address, or the absolute path of a unix socket's folder
    #[arg(long, value_parser = host)]
    host: Host,
    /// Its port
    #[arg(long, default_value = "5432")]
    port: NonZeroU16,
    /// The role that manages it
    #[arg(long, default_value = "postgres", value_parser = RoleName::parse)]
    user: RoleName,
    /// Read that role's password from this file; else TENANTRY_CLUSTER_PASSWORD
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The database to connect to for managing; `postgres` unless given
    #[arg(long, value_parser = DatabaseName::parse)]
    database: Option<DatabaseName>,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

/// How connections to the cluster are protected.
#[derive(Debug, Args)]
struct TlsArguments {
    /// `disable` for this machine and `verify_full` for others unless given
    #[arg(long, value_parser = words::<TlsMode>(TlsMode::ALL.iter().map(|it| it.as_str())))]
    tls_mode: Option<TlsMode>,
    /// PEM of the authority for `verify_ca` and `verify_full`; the system's unless given
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
}

/// How much a cluster takes.
#[derive(Debug, Args)]
struct LimitArguments {
    /// Most tenants
    #[arg(long, value_name = "NUMBER")]
    max_tenants: Option<u32>,
    /// Most databases of tenants
    #[arg(long, value_name = "NUMBER")]
    max_databases: Option<u32>,
    /// Most schema homes in one shared database
    #[arg(long, value_name = "NUMBER")]
    schemas_per_database: Option<u32>,
    /// How many databases are created at the same time
    #[arg(long, value_name = "NUMBER")]
    concurrent_creations: Option<u32>,
}

/// Filters are joined by "and".
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// In this region
    #[arg(long)]
    region: Option<Region>,
    /// With this tenancy
    #[arg(long, value_parser = words::<Tenancy>(Tenancy::ALL.iter().map(|it| it.as_str())))]
    tenancy: Option<Tenancy>,
    /// In this state
    #[arg(long, value_parser = words::<ClusterState>(ClusterState::ALL.iter().map(|it| it.as_str())))]
    state: Option<ClusterState>,
    #[command(flatten)]
    paging: ListOptions,
}

/// What is not named stays.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true).args([
    "host", "port", "user", "password_file", "tls_mode", "tls_ca", "max_tenants", "max_databases",
    "schemas_per_database", "concurrent_creations",
]))]
pub(crate) struct UpdateArguments {
    /// Its name or id
    cluster: ClusterRef,
    /// Host name, IP address, or the absolute path of a unix socket's folder
    #[arg(long, value_parser = host)]
    host: Option<Host>,
    /// Its port
    #[arg(long)]
    port: Option<NonZeroU16>,
    /// The role that manages it
    #[arg(long, value_parser = RoleName::parse)]
    user: Option<RoleName>,
    /// Read that role's new password from this file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    limits: LimitArguments,
}

impl ClusterCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Register(arguments) => context.output.object(&register(&client, *arguments).await?),
            Self::List(arguments) => list(context, &client, arguments).await,
            Self::Show { cluster } => context.output.object(&client.show_cluster(&cluster).await?.value),
            Self::Update(arguments) => context.output.object(&update(&client, *arguments).await?),
            Self::Cordon { cluster } => context.output.object(&client.cordon_cluster(&cluster).await?),
            Self::Uncordon { cluster } => context.output.object(&client.uncordon_cluster(&cluster).await?),
            Self::Remove { cluster } => {
                client.delete_cluster(&cluster).await?;
                let json = json!({ "removed": cluster });
                context.output.done(&json, &format!("Cluster {cluster} is forgotten; the server itself stays."))
            }
        }
    }
}

async fn register(client: &Client, arguments: RegisterArguments) -> Result<Cluster, CliError> {
    let password = match &arguments.password_file {
        Some(path) => read_password(path)?,
        None => std::env::var(PASSWORD_VARIABLE).map(|text| Secret::new(text).into()).map_err(|_| {
            CliError::usage(format!("give the role's password by --password-file or {PASSWORD_VARIABLE}"))
        })?,
    };
    let register = RegisterCluster {
        name: arguments.name,
        region: arguments.region,
        tenancy: arguments.tenancy,
        host: arguments.host,
        port: arguments.port,
        user: arguments.user,
        password,
        database: arguments.database,
        tls_mode: arguments.tls.tls_mode,
        tls_ca: arguments.tls.tls_ca.as_deref().map(read_certificate).transpose()?,
        limits: arguments.limits.over(ClusterLimits::default()),
    };
    Ok(client.register_cluster(&register).await?)
}

async fn list(context: &Context, client: &Client, arguments: ListArguments) -> Result<(), CliError> {
    let ListArguments { region, tenancy, state, paging } = arguments;
    let filter = ListClusters { region, tenancy, state, limit: None, cursor: None };
    let fetch = async |limit, cursor| {
        client.list_clusters(&ListClusters { limit: Some(limit), cursor, ..filter.clone() }).await
    };
    context.output.list(&paging::gather(&paging, fetch).await?)
}

async fn update(client: &Client, arguments: UpdateArguments) -> Result<Cluster, CliError> {
    let mut update = UpdateCluster {
        host: arguments.host,
        port: arguments.port,
        user: arguments.user,
        password: arguments.password_file.as_deref().map(read_password).transpose()?,
        tls_mode: arguments.tls.tls_mode,
        tls_ca: match &arguments.tls.tls_ca {
            Some(path) => Patch::Set(read_certificate(path)?),
            None => Patch::Keep,
        },
        limits: None,
    };
    let mut etag = None;
    if arguments.limits.is_given() {
        // Limits are replaced as a whole, so those not named are taken over, unless someone changes them meanwhile.
        let current = client.show_cluster(&arguments.cluster).await?;
        update.limits = arguments.limits.over(current.value.limits);
        etag = current.etag;
    }
    Ok(client.update_cluster(&arguments.cluster, &update, etag.as_deref()).await?.value)
}

impl LimitArguments {
    fn is_given(&self) -> bool {
        let Self { max_tenants, max_databases, schemas_per_database, concurrent_creations } = self;
        [max_tenants, max_databases, schemas_per_database, concurrent_creations].into_iter().any(Option::is_some)
    }

    /// These limits over others; `None` where none is given.
    fn over(&self, others: ClusterLimits) -> Option<ClusterLimits> {
        self.is_given().then(|| ClusterLimits {
            tenants: self.max_tenants.unwrap_or(others.tenants),
            databases: self.max_databases.unwrap_or(others.databases),
            schemas_per_database: self.schemas_per_database.unwrap_or(others.schemas_per_database),
            concurrent_creations: self.concurrent_creations.unwrap_or(others.concurrent_creations),
        })
    }
}

fn host(text: &str) -> Result<Host, String> {
    Host::try_from(text.to_owned()).map_err(|error| error.to_string())
}

fn read_password(path: &Path) -> Result<SecretText, CliError> {
    let text = connection::read(path, "the password file")?;
    // Only the line end goes: a password may end in a blank.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(CliError::usage(format!("the password file {} is empty", path.display()))),
        password => Ok(Secret::new(password.to_owned()).into()),
    }
}

fn read_certificate(path: &Path) -> Result<CertificatePem, CliError> {
    let text = connection::read(path, "the certificate authority")?;
    CertificatePem::try_from(text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

impl Tabular for Cluster {
    const COLUMNS: &'static [&'static str] =
        &["name", "state", "region", "tenancy", "provider", "endpoint", "server", "homes", "databases", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::state(self.state),
            Cell::new(&self.region),
            Cell::new(self.tenancy),
            Cell::new(self.provider),
            Cell::new(endpoint(self)),
            Cell::new(server_version(self.server_version)),
            Cell::new(self.usage.claimed_homes()),
            Cell::new(self.usage.claimed_databases()),
            Cell::new(self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let findings = self.health.findings.join("\n");
        vec![
            ("name", Cell::new(&self.name)),
            ("id", Cell::new(self.id)),
            ("state", Cell::state(self.state)),
            ("region", Cell::new(&self.region)),
            ("tenancy", Cell::new(self.tenancy)),
            ("provider", Cell::new(self.provider)),
            ("endpoint", Cell::new(endpoint(self))),
            ("tls mode", Cell::new(self.tls_mode)),
            ("server version", Cell::new(server_version(self.server_version))),
            ("homes", Cell::new(format!("{} of {} tenants at most", self.usage.claimed_homes(), self.limits.tenants))),
            ("warm homes", Cell::new(self.usage.warm)),
            (
                "databases",
                Cell::new(format!("{} of {} at most", self.usage.claimed_databases(), self.limits.databases)),
            ),
            ("schemas per database", Cell::new(self.limits.schemas_per_database)),
            ("concurrent creations", Cell::new(self.limits.concurrent_creations)),
            ("seen", Cell::optional_time(self.health.seen_at)),
            ("findings", Cell::optional((!findings.is_empty()).then_some(findings))),
        ]
    }
}

/// Host and port as one would write them; the control plane has checked them.
fn endpoint(cluster: &Cluster) -> String {
    Endpoint::new(&cluster.host, cluster.port)
        .map_or_else(|_| format!("{}:{}", cluster.host, cluster.port), |endpoint| endpoint.to_string())
}

/// `server_version_num` as PostgreSQL names its releases: 150018 is 15.18.
fn server_version(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_named_are_taken_over() {
        let none = LimitArguments {
            max_tenants: None,
            max_databases: None,
            schemas_per_database: None,
            concurrent_creations: None,
        };
        assert_eq!(none.over(ClusterLimits::default()), None);
        let some = LimitArguments { max_tenants: Some(7), ..none };
        let expected = ClusterLimits { tenants: 7, ..ClusterLimits::default() };
        assert_eq!(some.over(ClusterLimits::default()), Some(expected));
    }

    #[test]
    fn a_server_version_reads_as_postgresql_names_it() {
        assert_eq!(server_version(150_018), "15.18");
        assert_eq!(server_version(180_000), "18.0");
    }

    #[test]
    fn a_password_keeps_its_blanks_and_loses_its_line_end() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), " pass word \n").expect("written");
        let password = read_password(file.path()).expect("readable");
        assert_eq!(password.as_secret().expose(), " pass word ");
        std::fs::write(file.path(), "\n").expect("written");
        assert!(read_password(file.path()).is_err());
    }
}
