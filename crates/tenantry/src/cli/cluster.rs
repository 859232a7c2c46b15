//! `tenantry cluster`.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use tenantry_api::cluster::{CertificatePem, Host};
use tenantry_api::{
    Client, Cluster, ClusterRef, DrainMove, DrainQuery, ListClusters, PageLimit, Patch, RegisterCluster, SecretText,
    UpdateCluster,
};
use tenantry_domain::{
    Check, ClusterLimits, ClusterName, ClusterState, DatabaseName, Endpoint, Region, RoleName, Secret, Tenancy,
    TlsMode, Verdict,
};

use super::arguments::words;
use super::cluster_replica::ClusterReplicaCommand;
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
        "tenantry cluster register eu-1 --region eu-central-1 --host db-1.example.com --password-file p --dry-run",
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
        "tenantry cluster update eu-1 --max-tenants 2000 --max-connections 400 --max-disk 500GB",
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
    /// Let no new homes onto a cluster, and plan where each tenant would go; nothing moves
    #[command(after_help = examples!(
        "tenantry cluster drain eu-1 --dry-run     # only plan",
        "tenantry cluster drain eu-1               # and let no new homes in; `cluster uncordon` takes that back",
    ))]
    Drain {
        /// Its name or id
        cluster: ClusterRef,
        /// Only plan; the cluster goes on taking new homes
        #[arg(long)]
        dry_run: bool,
        /// Show at most so many tenants, those first that cannot go
        #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=500))]
        limit: u64,
    },
    /// Physical standbys to read from: add, list, remove
    #[command(subcommand)]
    Replica(ClusterReplicaCommand),
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
    /// Make every check, show what it comes to, and change nothing, here or on the server
    #[arg(long)]
    dry_run: bool,
}

/// How connections to the cluster are protected.
#[derive(Debug, Args)]
pub(crate) struct TlsArguments {
    /// `disable` for this machine and `verify_full` for others unless given; for a replica, as its cluster
    #[arg(long, value_parser = words::<TlsMode>(TlsMode::ALL.iter().map(|it| it.as_str())))]
    pub(crate) tls_mode: Option<TlsMode>,
    /// PEM of the authority for `verify_ca` and `verify_full`; the system's unless given, or the replica's cluster's
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
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
    /// Most connections that the ceilings of its tenants may add up to; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    max_connections: Option<u32>,
    /// Most connections that all routers together may hold; 0 for what the server has less a tenth
    #[arg(long, value_name = "NUMBER")]
    max_router_connections: Option<u32>,
    /// No new homes once those that are there take so much of the disk, such as 500GB; 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_disk: Option<u64>,
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
    "schemas_per_database", "concurrent_creations", "max_connections", "max_router_connections",
    "max_disk",
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
            Self::Register(arguments) => register(context, &client, *arguments).await,
            Self::List(arguments) => list(context, &client, arguments).await,
            Self::Show { cluster } => context.output.object(&client.show_cluster(&cluster).await?.value),
            Self::Update(arguments) => context.output.object(&update(&client, *arguments).await?),
            Self::Cordon { cluster } => context.output.object(&client.cordon_cluster(&cluster).await?),
            Self::Uncordon { cluster } => context.output.object(&client.uncordon_cluster(&cluster).await?),
            Self::Drain { cluster, dry_run, limit } => drain(context, &client, &cluster, dry_run, limit).await,
            Self::Replica(command) => command.run(context, &client).await,
            Self::Remove { cluster } => {
                client.delete_cluster(&cluster).await?;
                let json = json!({ "removed": cluster });
                context.output.done(&json, &format!("Cluster {cluster} is forgotten; the server itself stays."))
            }
        }
    }
}

async fn register(context: &Context, client: &Client, arguments: RegisterArguments) -> Result<(), CliError> {
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
    if arguments.dry_run {
        let preview = client.preview_cluster(&register).await?;
        context.output.composed(&preview, |composition| {
            let version = preview.server_version.map(server_version);
            composition.fields(vec![
                ("accepted", Cell::verdict(if preview.is_accepted { "yes" } else { "no" }, preview.is_accepted)),
                ("server version", Cell::optional(version)),
                ("connections", Cell::optional(preview.connections_max)),
            ]);
            composition.list(&preview.checks);
        })?;
        let failed = preview.checks.iter().filter(|check| check.verdict == Verdict::Failed);
        let reasons: Vec<String> = failed.map(Check::sentence).collect();
        return if reasons.is_empty() { Ok(()) } else { Err(CliError::WouldFail { reason: reasons.join("; ") }) };
    }
    context.output.object(&client.register_cluster(&register).await?)
}

async fn drain(
    context: &Context,
    client: &Client,
    cluster: &ClusterRef,
    dry_run: bool,
    limit: u64,
) -> Result<(), CliError> {
    let limit = PageLimit::new(limit).map_err(|error| CliError::usage(error.to_string()))?;
    let plan = client.drain_cluster(cluster, &DrainQuery { dry_run, limit: Some(limit) }).await?;
    context.output.composed(&plan, |composition| {
        composition.fields(vec![
            ("cluster", Cell::new(&plan.cluster.name)),
            ("state", Cell::state(plan.cluster.state)),
            ("tenants", Cell::new(plan.tenants)),
            ("with a place elsewhere", Cell::new(plan.placeable)),
        ]);
        composition.list(&plan.moves);
    })?;
    if plan.is_truncated && !context.output.is_json() {
        context.output.note("There are more tenants; ask for them with a higher --limit.");
    }
    Ok(())
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
        let numbers = [
            self.max_tenants,
            self.max_databases,
            self.schemas_per_database,
            self.concurrent_creations,
            self.max_connections,
            self.max_router_connections,
        ];
        numbers.iter().any(Option::is_some) || self.max_disk.is_some()
    }

    /// These limits over others; `None` where none is given.
    fn over(&self, others: ClusterLimits) -> Option<ClusterLimits> {
        self.is_given().then(|| ClusterLimits {
            tenants: self.max_tenants.unwrap_or(others.tenants),
            databases: self.max_databases.unwrap_or(others.databases),
            schemas_per_database: self.schemas_per_database.unwrap_or(others.schemas_per_database),
            concurrent_creations: self.concurrent_creations.unwrap_or(others.concurrent_creations),
            connections: self.max_connections.or(others.connections).filter(|limit| *limit > 0),
            router_connections: self.max_router_connections.or(others.router_connections).filter(|limit| *limit > 0),
            disk_bytes: self.max_disk.or(others.disk_bytes).filter(|limit| *limit > 0),
        })
    }
}

pub(crate) fn host(text: &str) -> Result<Host, String> {
    Host::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// A size such as `500GB` or `2TiB`, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let rule = || "write it as a number with a unit: 500GB, 2TiB".to_owned();
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(rule()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(rule)
}

fn read_password(path: &Path) -> Result<SecretText, CliError> {
    let text = connection::read(path, "the password file")?;
    // Only the line end goes: a password may end in a blank.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(CliError::usage(format!("the password file {} is empty", path.display()))),
        password => Ok(Secret::new(password.to_owned()).into()),
    }
}

pub(crate) fn read_certificate(path: &Path) -> Result<CertificatePem, CliError> {
    let text = connection::read(path, "the certificate authority")?;
    CertificatePem::try_from(text).map_err(|error| CliError::usage(format!("{}: {error}", path.display())))
}

impl Tabular for Cluster {
    const COLUMNS: &'static [&'static str] =
        &["name", "state", "region", "tenancy", "provider", "endpoint", "server", "health", "homes", "databases", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::state(self.state),
            Cell::new(&self.region),
            Cell::new(self.tenancy),
            Cell::new(self.provider),
            Cell::new(endpoint(&self.host, self.port)),
            Cell::new(server_version(self.server_version)),
            Cell::state(self.health.state),
            Cell::new(self.usage.claimed_homes()),
            Cell::new(self.usage.claimed_databases()),
            Cell::new(self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let (health, limits, usage) = (&self.health, &self.limits, &self.usage);
        let findings = health.findings.join("\n");
        let concerns: Vec<String> = health
            .checks
            .iter()
            .filter(|check| check.verdict != Verdict::Passed)
            .map(|check| format!("{}: {}", check.name, check.sentence()))
            .collect();
        let concerns = concerns.join("\n");
        let most = |limit: Option<String>| limit.map_or_else(String::new, |limit| format!(" of {limit} at most"));
        let server = health.observed.as_ref();
        vec![
            ("name", Cell::new(&self.name)),
            ("id", Cell::new(self.id)),
            ("state", Cell::state(self.state)),
            ("region", Cell::new(&self.region)),
            ("tenancy", Cell::new(self.tenancy)),
            ("provider", Cell::new(self.provider)),
            ("endpoint", Cell::new(endpoint(&self.host, self.port))),
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
            (
                "connection ceilings",
                Cell::new(format!("{}{}", usage.connections, most(limits.connections.map(|limit| limit.to_string())))),
            ),
            (
                "disk",
                Cell::optional(
                    usage.disk_bytes.map(|used| format!("{}{}", bytes(used), most(limits.disk_bytes.map(bytes)))),
                ),
            ),
            ("health", Cell::state(health.state)),
            ("seen", Cell::optional_time(health.seen_at)),
            ("checked", Cell::optional_time(health.checked_at)),
            (
                "trouble",
                Cell::optional(
                    health.error.as_ref().map(|error| format!("{error} ({} looks in a row)", health.failures)),
                ),
            ),
            (
                "server connections",
                Cell::optional(server.map(|it| {
                    format!(
                        "{} open of {}, {} kept by the server",
                        it.connections_open, it.connections_max, it.connections_reserved
                    )
                })),
            ),
            ("concerns", Cell::optional((!concerns.is_empty()).then_some(concerns))),
            ("findings", Cell::optional((!findings.is_empty()).then_some(findings))),
        ]
    }
}

/// Host and port as one would write them; the control plane has checked them.
pub(crate) fn endpoint(host: &str, port: u16) -> String {
    Endpoint::new(host, port).map_or_else(|_| format!("{host}:{port}"), |endpoint| endpoint.to_string())
}

/// `server_version_num` as PostgreSQL names its releases: 150018 is 15.18.
fn server_version(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

/// A number of bytes for people.
fn bytes(number: u64) -> String {
    match number {
        0..1_000_000 => format!("{number} B"),
        1_000_000..1_000_000_000 => format!("{} MB", number / 1_000_000),
        1_000_000_000..10_000_000_000_000 => {
            format!("{}.{} GB", number / 1_000_000_000, number / 100_000_000 % 10)
        }
        _ => format!("{} TB", number / 1_000_000_000_000),
    }
}

impl Tabular for Check {
    const COLUMNS: &'static [&'static str] = &["check", "verdict", "found", "what to do"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::verdict(self.verdict.as_str(), self.verdict == Verdict::Passed),
            Cell::new(&self.found),
            Cell::optional(self.advice.as_ref()),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

impl Tabular for DrainMove {
    const COLUMNS: &'static [&'static str] = &["tenant", "isolation", "to", "why not", "id"];

    fn row(&self) -> Vec<Cell> {
        let to = match (&self.to, self.is_possible) {
            (Some(to), _) => Cell::new(&to.name),
            (None, true) => Cell::new("a cluster started for it"),
            (None, false) => Cell::verdict("nowhere", false),
        };
        vec![
            Cell::new(&self.slug),
            Cell::new(self.isolation),
            to,
            Cell::optional(self.reason.as_ref()),
            Cell::new(self.tenant),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
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
            max_connections: None,
            max_router_connections: None,
            max_disk: None,
        };
        assert_eq!(none.over(ClusterLimits::default()), None);
        let some = LimitArguments { max_tenants: Some(7), ..none };
        let expected = ClusterLimits { tenants: 7, ..ClusterLimits::default() };
        assert_eq!(some.over(ClusterLimits::default()), Some(expected));
    }

    #[test]
    fn sizes_have_units_and_zero_takes_a_limit_away() {
        assert_eq!(size("500GB"), Ok(500_000_000_000));
        assert_eq!(size("2TiB"), Ok(2 << 40));
        for bad in ["", "GB", "5 stones", "-1GB", "99999999999TB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        let limited = ClusterLimits {
            connections: Some(9),
            router_connections: Some(9),
            disk_bytes: Some(9),
            ..ClusterLimits::default()
        };
        let none = LimitArguments {
            max_tenants: None,
            max_databases: None,
            schemas_per_database: None,
            concurrent_creations: None,
            max_connections: Some(0),
            max_router_connections: Some(0),
            max_disk: Some(0),
        };
        assert_eq!(none.over(limited), Some(ClusterLimits::default()));
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
