//! The clusters of a world, as its operator sees them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use tenantry_api::cluster::Host;
use tenantry_api::{Client, Cluster, RegisterCluster, SecretText};
use tenantry_domain::{ClusterLimits, ClusterName, DatabaseName, Region, RoleName, Secret, Tenancy};
use tenantry_testkit::{Login, Server};

use super::World;
use crate::admin::{Admin, AdminLogin};
use crate::traces::Traces;

/// A registered cluster and the server behind it.
pub(crate) struct Managed {
    pub(crate) cluster: Cluster,
    pub(crate) admin: AdminLogin,
    /// A server of the world's own; `None` for the one behind `main`.
    pub(crate) own: Option<Server>,
}

/// The request that registers a server.
pub(crate) fn register(
    name: &str,
    tenancy: Tenancy,
    address: SocketAddr,
    admin: &AdminLogin,
    limits: Option<ClusterLimits>,
) -> RegisterCluster {
    RegisterCluster {
        name: ClusterName::parse(name).expect("a name"),
        region: Region::parse("local").expect("a region"),
        tenancy,
        host: Host::try_from(address.ip().to_string()).expect("a host"),
        port: NonZeroU16::new(address.port()).expect("a port"),
        user: RoleName::parse(&admin.login.name).expect("a role"),
        password: SecretText::new(Secret::new(admin.login.password.clone())),
        database: Some(DatabaseName::parse(&admin.database).expect("a database")),
        tls_mode: None,
        tls_ca: None,
        limits,
    }
}

/// Starts an empty server and registers it for one tenant alone.
pub(crate) async fn add_dedicated(client: &Client, name: &str, kind: Admin) -> Managed {
    let server = Server::own().await;
    let login = match kind {
        Admin::Superuser => {
            Login { name: server.cluster().user().to_owned(), password: server.cluster().password().to_owned() }
        }
        Admin::Managed => server.admin_without_superuser().await,
    };
    let root = server.connect("postgres").await;
    let database = "management".to_owned();
    root.batch_execute(&format!("CREATE DATABASE {database} OWNER \"{}\"", login.name)).await.expect("a database");
    let admin = AdminLogin { login, database };
    let wish = register(name, Tenancy::Dedicated, server.address(), &admin, None);
    let cluster = client.register_cluster(&wish).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    Managed { cluster, admin, own: Some(server) }
}

impl World<'_> {
    /// The cluster `main`.
    pub fn main_cluster(&self) -> &Cluster {
        &self.clusters[0].cluster
    }

    /// The superuser's way into the server that a tenant is on.
    pub async fn root(&self, cluster: &Cluster, database: &str) -> tokio_postgres::Client {
        self.server_of(cluster).connect(database).await
    }

    /// The server behind a cluster.
    pub fn server_of(&self, cluster: &Cluster) -> &Server {
        let managed = self.clusters.iter().find(|managed| managed.cluster.id == cluster.id);
        managed.expect("a cluster of this world").own.as_ref().unwrap_or(self.homes.server())
    }

    /// Registers one more empty server for one tenant alone.
    pub async fn add_dedicated(&mut self, name: &str, kind: Admin) -> Cluster {
        let managed = add_dedicated(&self.client, name, kind).await;
        let cluster = managed.cluster.clone();
        self.clusters.push(managed);
        cluster
    }

    /// Asserts that what is on each server is what the catalog says, no more and no less.
    pub async fn assert_nothing_orphaned(&self) {
        let catalog = self.catalog_client().await;
        let prefixes = Traces::prefixes(&catalog).await;
        for managed in &self.clusters {
            let server = self.root(&managed.cluster, "postgres").await;
            let there = Traces::on_server(&server, &prefixes, &managed.admin.login.name).await;
            let id = managed.cluster.id.as_uuid();
            let (made, planned) = (Traces::made(&catalog, &id).await, Traces::planned(&catalog, &id).await);
            let lost = made.without(&there);
            assert!(lost.is_empty(), "recorded as made on {}, and not there: {lost:?}", managed.cluster.name);
            let orphaned = there.without(&made).without(&planned);
            assert!(orphaned.is_empty(), "on {}, and recorded nowhere: {orphaned:?}", managed.cluster.name);
        }
    }

    /// The superuser's way into the catalog, for looking at what no interface shows.
    pub async fn catalog_client(&self) -> tokio_postgres::Client {
        self.catalog.server().connect(&self.catalog.name("catalog")).await
    }
}
