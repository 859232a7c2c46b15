//! `tenantry psql`: a session in a tenant's own home, as the tenant.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use tenantry_api::route::ResolveBy;
use tenantry_api::{ClusterRef, Route, TenantRef};
use tenantry_domain::{Endpoint, RouteState, RouteTarget, Secret, TlsMode};

use super::error::CliError;
use super::password_file::PasswordFile;
use super::{Context, examples};

/// What our own settings in the environment begin with, tokens and keys among them.
const OWN_VARIABLES: &[u8] = b"TENANTRY_";

/// What would lead psql elsewhere, or to somebody else, than the route says.
const STEERING: &[&str] = &[
    "PGHOSTADDR",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGREQUIREAUTH",
    "PGREQUIREPEER",
    "PGREQUIRESSL",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
];

/// Which tenant, and what psql is told.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry psql acme",
    "tenantry psql acme --read-only",
    "tenantry psql acme -- --command 'select count(*) from flights'",
    "tenantry psql acme -- --file report.sql --csv",
    "",
    "Needs a token with routes:secrets and clusters:read, and psql on the PATH. The password goes through a",
    "nameless file that only psql has open, never through arguments or the environment.",
))]
pub(crate) struct PsqlArguments {
    /// The tenant's slug or id
    tenant: TenantRef,
    /// Log in as the role that can only read
    #[arg(long)]
    read_only: bool,
    /// The psql to run
    #[arg(long, env = "TENANTRY_PSQL", value_name = "PROGRAM", default_value = "psql")]
    psql: PathBuf,
    /// PEM of the authority for clusters with `verify_ca` and `verify_full`; else PGSSLROOTCERT
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Arguments for psql
    #[arg(last = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// What a session needs.
struct Session {
    endpoint: Endpoint,
    tls_mode: TlsMode,
    database: String,
    schema: String,
    role: String,
    password: Secret,
}

impl PsqlArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        let by = match &self.tenant {
            TenantRef::Id(id) => ResolveBy::Id(*id),
            TenantRef::Slug(slug) => ResolveBy::Slug(slug.clone()),
        };
        let route = client.resolve_route(by).await?;
        let target = target(route)?;
        let cluster = client.show_cluster(&ClusterRef::Id(target.cluster)).await?.value;
        let endpoint =
            Endpoint::new(&cluster.host, cluster.port).map_err(|error| CliError::usage(error.to_string()))?;
        let session = Session::new(target, endpoint, cluster.tls_mode, self.read_only)?;
        let mut command = Command::new(&self.psql);
        command.args(&self.arguments);
        let password = session.password_file().map_err(|source| CliError::Program {
            message: "the password cannot be handed to psql".to_owned(),
            source,
        })?;
        session.prepare(&mut command, &password);
        if let Some(path) = &self.tls_ca {
            command.env("PGSSLROOTCERT", path);
        }
        Err(replace_by(command, &self.psql))
    }
}

/// The place to connect to; refused where the tenant is not to be reached now.
fn target(route: Route) -> Result<RouteTarget, CliError> {
    let route = tenantry_domain::Route::try_from(route).map_err(|error| CliError::usage(error.to_string()))?;
    match (route.state, route.target) {
        (RouteState::Active, Some(target)) => Ok(target),
        (state, _) => Err(CliError::usage(format!(
            "tenant {} is {state} and cannot be reached now; see `tenantry tenant show {}`",
            route.slug, route.slug
        ))),
    }
}

impl Session {
    fn new(target: RouteTarget, endpoint: Endpoint, tls_mode: TlsMode, read_only: bool) -> Result<Self, CliError> {
        if tls_mode == TlsMode::Disable && !endpoint.is_local() {
            return Err(CliError::usage(format!(
                "the cluster at {endpoint} is registered without TLS; a password is not sent there in the clear"
            )));
        }
        let credential = if read_only { target.read_only_credential } else { target.credential };
        let password = credential
            .password
            .ok_or_else(|| CliError::usage("the token may not see passwords; use one with the scope routes:secrets"))?;
        Ok(Self {
            endpoint,
            tls_mode,
            database: target.database.to_string(),
            schema: target.schema.to_string(),
            role: credential.role.to_string(),
            password,
        })
    }

    /// What psql reads the password from, once this process has become psql.
    fn password_file(&self) -> io::Result<PasswordFile> {
        let file = PasswordFile::new(&self.endpoint, &self.role, &self.password)?;
        file.hand_over()?;
        Ok(file)
    }

    /// Sets what libpq reads. It comes through the environment, since other users of the machine see arguments, but for
    /// the password: an environment is inherited by whatever is started from there, and shown to the same user. What is
    /// ours in it is none of psql's business.
    fn prepare(&self, command: &mut Command, password: &PasswordFile) {
        let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| name.as_bytes().starts_with(OWN_VARIABLES));
        for name in STEERING.iter().map(OsString::from).chain(ours) {
            command.env_remove(name);
        }
        command
            .env("PGHOST", self.endpoint.host())
            .env("PGPORT", self.endpoint.port().to_string())
            .env("PGDATABASE", &self.database)
            .env("PGUSER", &self.role)
            .env("PGPASSFILE", password.path())
            .env("PGSSLMODE", self.tls_mode.as_str().replace('_', "-"))
            .env("PGAPPNAME", "tenantry-psql")
            .env("PGCONNECT_TIMEOUT", "10")
            .env("PGOPTIONS", search_path_option(&self.schema));
    }
}

/// `-c search_path=…` for libpq, which splits at blanks unless a backslash precedes them. The role has this path too,
/// unless the tenant has changed its own role.
fn search_path_option(schema: &str) -> String {
    let quoted = format!("\"{}\",extensions", schema.replace('"', "\"\""));
    let mut option = "-c search_path=".to_owned();
    for character in quoted.chars() {
        if character == '\\' || character.is_whitespace() {
            option.push('\\');
        }
        option.push(character);
    }
    option
}

/// Becomes psql, so that signals and the terminal are its own. Comes back only when that fails.
fn replace_by(mut command: Command, program: &Path) -> CliError {
    let source = command.exec();
    let program = program.display();
    let message = match source.kind() {
        io::ErrorKind::NotFound => format!(
            "`{program}` is not installed; install PostgreSQL's client programs (Debian and Ubuntu: \
             postgresql-client, Fedora: postgresql, macOS: libpq), or name it by --psql"
        ),
        _ => format!("`{program}` cannot be run"),
    };
    CliError::Program { message, source }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use std::ffi::OsStr;

    use super::*;

    fn route(state: &str) -> Route {
        serde_json::from_value(json!({
            "version": 7, "tenant": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506", "slug": "acme", "hosts": [],
            "state": state, "generation": 1, "cluster": "01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f507",
            "database": "s_1", "schema": "h_1", "role": "h_1_a",
            "credential": {"role": "h_1_a", "password": "hunter2"}, "read_only_credential": {"role": "h_1_ro"},
            "limits": {}, "pooling": "own", "schema_version": 12,
        }))
        .expect("a route")
    }

    fn endpoint(text: &str) -> Endpoint {
        text.parse().expect("an endpoint")
    }

    #[test]
    fn everything_but_the_password_goes_through_the_environment() {
        let target = target(route("active")).expect("reachable");
        let session = Session::new(target, endpoint("db.example.com:5433"), TlsMode::VerifyFull, false);
        let session = session.expect("permitted");
        let file = session.password_file().expect("a file");
        let mut command = Command::new("psql");
        session.prepare(&mut command, &file);
        let value =
            |name: &str| command.get_envs().find(|(key, _)| *key == OsStr::new(name)).and_then(|(_, value)| value);
        let path = value("PGPASSFILE").expect("a password file");
        assert_eq!(std::fs::read_to_string(path).expect("readable"), "db.example.com:5433:*:h_1_a:hunter2\n");
        assert!(command.get_envs().all(|(_, value)| value.is_none_or(|value| value != "hunter2")));
        assert!(command.get_envs().any(|(key, value)| key == "PGPASSWORD" && value.is_none()), "it would win");
        assert_eq!(value("PGUSER"), Some(OsStr::new("h_1_a")));
        assert_eq!(value("PGSSLMODE"), Some(OsStr::new("verify-full")));
        assert_eq!(value("PGOPTIONS"), Some(OsStr::new("-c search_path=\"h_1\",extensions")));
        assert_eq!(command.get_args().count(), 0);
    }

    #[test]
    fn a_tenant_that_is_not_active_is_not_reached() {
        let error = target(route("suspended")).expect_err("refused").to_string();
        assert!(error.contains("acme is suspended"), "{error}");
    }

    #[test]
    fn no_password_goes_out_in_the_clear_or_is_made_up() {
        let reach = |endpoint: &str, read_only| {
            let target = target(route("active")).expect("reachable");
            Session::new(target, endpoint.parse().expect("valid"), TlsMode::Disable, read_only)
        };
        assert!(reach("127.0.0.1:1", false).is_ok());
        assert!(reach("db.example.com:1", false).is_err());
        assert!(reach("127.0.0.1:1", true).is_err(), "the read-only credential has no password");
    }

    #[test]
    fn a_schema_name_cannot_add_options() {
        assert_eq!(search_path_option("a b\"\\"), "-c search_path=\"a\\ b\"\"\\\\\",extensions");
    }
}
