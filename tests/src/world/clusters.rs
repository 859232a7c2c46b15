//! The clusters of a world, as its operator sees them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use tenantry_api::cluster::Host;
use tenantry_api::{Cluster, RegisterCluster, SecretText};
use tenantry_domain::{ClusterName, DatabaseName, Region, RoleName, Secret, Tenancy};
use tenantry_testkit::Server;

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

/// The request that registers a server, in the region `local`.
pub(crate) fn register(name: &str, tenancy: Tenancy, address: SocketAddr, admin: &AdminLogin) -> RegisterCluster {
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
        limits: None,
    }
}

impl World<'_> {
    /// The cluster `main`.
    pub fn main_cluster(&self) -> &Cluster {
        &self.clusters[0].cluster
    }

    /// The database by which the control plane manages the cluster `main`.
    pub fn admin_database(&self) -> &str {
        &self.clusters[0].admin.database
    }

    /// The role by which the control plane manages the cluster `main`.
    pub fn admin_user(&self) -> &str {
        &self.clusters[0].admin.login.name
    }

    /// The password by which the control plane manages the cluster `main`.
    pub fn admin_password(&self) -> &str {
        &self.clusters[0].admin.login.password
    }

    /// The superuser's way into the server that a tenant is on.
    pub async fn root(&self, cluster: &Cluster, database: &str) -> tokio_postgres::Client {
        self.server_of(cluster).connect(database).await
    }

    /// The superuser's way into the database of the cluster `main` that holds the fences.
    pub async fn fences(&self) -> tokio_postgres::Client {
        self.root(self.main_cluster(), &self.clusters[0].admin.database).await
    }

    /// The server behind a cluster.
    pub fn server_of(&self, cluster: &Cluster) -> &Server {
        let managed = self.clusters.iter().find(|managed| managed.cluster.id == cluster.id);
        managed.expect("a cluster of this world").own.as_ref().unwrap_or(self.homes.server())
    }

    /// Starts an empty server and registers it; `change` says where it is and for whom, if not in the region `local` and
    /// for several.
    pub async fn add_cluster(&mut self, name: &str, kind: Admin, change: impl FnOnce(&mut RegisterCluster)) -> Cluster {
        let server = Server::own().await;
        let admin = AdminLogin::on_own_server(&server, kind).await;
        let mut wish = register(name, Tenancy::Shared, server.address(), &admin);
        change(&mut wish);
        let cluster = self.client.register_cluster(&wish).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.clusters.push(Managed { cluster: cluster.clone(), admin, own: Some(server) });
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
