//! Which server, and with which rights.

use tenantry_domain::{ClusterId, ClusterLocale, DatabaseName, Endpoint, Secret, TlsMode};

/// A cluster and the admin credential for it. The admin is a superuser, or a role with `CREATEDB` and `CREATEROLE`.
#[derive(Debug, Clone)]
pub struct ClusterTarget {
    /// Its id.
    pub id: ClusterId,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// How connections are protected; on a unix socket there is nothing to protect and this is ignored.
    pub tls_mode: TlsMode,
    /// PEM of the authority for `verify_ca` and `verify_full`; absent means the system's.
    pub tls_ca: Option<String>,
    /// The admin's role.
    pub user: String,
    /// The admin's password.
    pub password: Secret,
    /// Where the fence is, and where statements on roles and databases are issued.
    pub admin_database: DatabaseName,
    /// `server_version_num` as recorded, for example 150018.
    pub server_version: i32,
    /// What every database gets.
    pub locale: ClusterLocale,
    /// How many `CREATE DATABASE` run at the same time; zero counts as one.
    pub concurrent_creations: u32,
}

impl ClusterTarget {
    /// A server that was never seen, for [`Fleet::inspect`](crate::Fleet::inspect), which reads neither version nor
    /// locale. Fill both in from the inspection before anything else is done with it.
    pub fn unseen(
        id: ClusterId,
        endpoint: Endpoint,
        tls_mode: TlsMode,
        tls_ca: Option<String>,
        user: String,
        password: Secret,
        admin_database: DatabaseName,
    ) -> Self {
        let locale = ClusterLocale {
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            provider: "libc".to_owned(),
            provider_locale: None,
        };
        Self {
            id,
            endpoint,
            tls_mode,
            tls_ca,
            user,
            password,
            admin_database,
            server_version: 0,
            locale,
            concurrent_creations: 1,
        }
    }
}
