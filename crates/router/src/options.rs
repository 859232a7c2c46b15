//! What other drivers need to reach a tenant's home by themselves.

use std::fmt;

use tenantry_domain::{Generation, Secret, TlsMode};

use crate::connect::attach_statement;
use crate::error::RouterError;
use crate::inner::CHANGING_RETRY;
use crate::tenant::Tenant;

/// How to reach a tenant's home with another driver, such as sqlx or diesel-async.
///
/// **Run [`ConnectionOptions::attach`] first on every new connection**: it raises unless that tenant lives there in that
/// generation, and sets the search path. Without it a connection may reach another tenant's data after a move.
///
/// With sqlx:
///
/// ```text
/// let options = tenant.connection_options().await?;
/// let attach = options.attach.clone();
/// let pool = PgPoolOptions::new()
///     .max_connections(4)
///     .after_connect(move |connection, _| {
///         let attach = attach.clone();
///         Box::pin(async move { connection.execute(sqlx::raw_sql(&attach)).await.map(drop) })
///     })
///     .connect(options.url().expose())
///     .await?;
/// ```
///
/// With diesel-async:
///
/// ```text
/// let options = tenant.connection_options().await?;
/// let mut connection = AsyncPgConnection::establish(options.url().expose()).await?;
/// connection.batch_execute(&options.attach).await?;
/// ```
///
/// It logs in as the tenant, also where the router's own connections are shared with other tenants.
///
/// What a pool of one's own does without, all of which [`Tenant::client`] does:
///
/// - it does not follow the tenant: after a move, a suspension or a rotation its connections are cut, and new ones are
///   refused (SQLSTATE `TN001`, `TN002` or `28P01`) until the options are asked for again; watch
///   [`ConnectionOptions::generation`], and drop the pool on such an error;
/// - callers are not held while the tenant moves;
/// - nothing is cleaned between two borrowers but what the driver cleans;
/// - it knows no limits of the tenant but those that PostgreSQL enforces, and stays open when nobody uses it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Host name, IP address, or the absolute path of a unix socket's folder.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The role that logs in.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// How the connection is protected.
    pub tls_mode: TlsMode,
    /// PEM of the authority for `verify_ca` and `verify_full`; absent means the system's.
    pub tls_ca: Option<String>,
    /// The schema with the tenant's objects, which `attach` makes the first of the search path.
    pub schema: String,
    /// Of the placement that the rest describes.
    pub generation: Generation,
    /// The statement to run first on every new connection.
    pub attach: String,
}

impl Tenant {
    /// What another driver needs to reach the tenant's home with this handle's access, as it is now. Waits while the tenant
    /// moves, within the pause budget, and fails as [`Tenant::client`] does where it cannot be served. It leads to the cluster
    /// itself, also for a handle that reads from replicas: how far those are behind is for a router to watch.
    pub async fn connection_options(&self) -> Result<ConnectionOptions, RouterError> {
        let tenant = self.id();
        let table = &self.router.table;
        let found = self.router.reachable_within(&self.found, self.versions).await?;
        let unavailable = || RouterError::Unavailable { tenant, retry_after: CHANGING_RETRY, source: None };
        let route = table.route(&found).ok_or_else(unavailable)?;
        let target = route.target.as_ref().ok_or_else(unavailable)?;
        let cluster = table.clusters.get(target.cluster).ok_or_else(unavailable)?;
        let server = &cluster.primary;
        let credential = self.access().credential(target);
        let password = credential.password.clone().ok_or_else(|| RouterError::Refused {
            reason: "the feed bears no passwords; give the router a token with the scope `routes:secrets`".to_owned(),
            source: None,
        })?;
        Ok(ConnectionOptions {
            host: server.endpoint.host().to_owned(),
            port: server.endpoint.port(),
            database: target.database.as_str().to_owned(),
            user: credential.role.as_str().to_owned(),
            password,
            tls_mode: server.tls_mode,
            tls_ca: server.tls_ca.clone(),
            schema: target.schema.as_str().to_owned(),
            generation: route.generation,
            attach: attach_statement(tenant, route.generation),
        })
    }
}

impl ConnectionOptions {
    /// All but the authority and the statement as a URL, as libpq and most drivers read it. An authority of the cluster's
    /// own goes into a file that the driver is told of (`sslrootcert`).
    pub fn url(&self) -> Secret {
        let mut url = format!("postgres://{}:{}@", encoded(&self.user), encoded(self.password.expose()));
        let is_socket = self.host.starts_with('/');
        if !is_socket {
            // An IPv6 address stands in brackets.
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            url.push_str(&format!("{host}:{}", self.port));
        }
        let tls_mode = match self.tls_mode {
            TlsMode::Disable => "disable",
            TlsMode::Require => "require",
            TlsMode::VerifyCa => "verify-ca",
            TlsMode::VerifyFull => "verify-full",
        };
        url.push_str(&format!("/{}?sslmode={tls_mode}", encoded(&self.database)));
        if is_socket {
            url.push_str(&format!("&host={}&port={}", encoded(&self.host), self.port));
        }
        Secret::new(url)
    }
}

/// Everything but what no URL gives a meaning, in hexadecimal.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

impl fmt::Debug for ConnectionOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConnectionOptions")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("tls_mode", &self.tls_mode)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::Config;
    use tokio_postgres::config::Host;

    use super::*;

    fn options(host: &str) -> ConnectionOptions {
        ConnectionOptions {
            host: host.to_owned(),
            port: 6543,
            database: "a b/c?d".to_owned(),
            user: "u@s:er".to_owned(),
            password: Secret::new("p%41/+&? #ß".to_owned()),
            tls_mode: TlsMode::Require,
            tls_ca: None,
            schema: "public".to_owned(),
            generation: Generation(1),
            attach: String::new(),
        }
    }

    #[test]
    fn the_url_says_what_the_fields_say() {
        for host in ["db.example.com", "10.0.0.1", "/var/run/post gres"] {
            let config: Config = options(host).url().expose().parse().expect("a URL");
            assert_eq!(config.get_user(), Some("u@s:er"));
            assert_eq!(config.get_password(), Some("p%41/+&? #ß".as_bytes()));
            assert_eq!(config.get_dbname(), Some("a b/c?d"));
            assert_eq!(config.get_ports(), [6543]);
            let found = match &config.get_hosts()[0] {
                Host::Tcp(name) => name.clone(),
                Host::Unix(path) => path.display().to_string(),
            };
            assert_eq!(found, host);
        }
        assert!(options("::1").url().expose().contains("@[::1]:6543/"));
    }

    #[test]
    fn nothing_prints_the_password() {
        assert!(!format!("{:?}", options("localhost")).contains("p%41"));
    }
}
