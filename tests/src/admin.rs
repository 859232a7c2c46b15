//! With which rights a control plane manages its clusters.

use tenantry_testkit::{Login, Namespace, Server};

/// The kind of role that manages a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admin {
    /// A superuser.
    #[default]
    Superuser,
    /// `NOSUPERUSER CREATEDB CREATEROLE`, as managed PostgreSQL gives.
    Managed,
}

impl Admin {
    /// Both kinds, for journeys that must hold with either.
    pub const ALL: [Self; 2] = [Self::Superuser, Self::Managed];

    const fn attributes(self) -> &'static str {
        match self {
            Self::Superuser => "SUPERUSER",
            Self::Managed => "NOSUPERUSER CREATEDB CREATEROLE",
        }
    }
}

/// A role of a world's own that manages one server, and the database that it logs in to.
///
/// Databases belong to the role that makes them, so those of this role are those of this world, and many worlds can
/// share a server.
#[derive(Debug, Clone)]
pub(crate) struct AdminLogin {
    pub(crate) login: Login,
    pub(crate) database: String,
}

impl AdminLogin {
    pub(crate) async fn make(server: &Server, names: &Namespace<'_>, kind: Admin) -> Self {
        let login = names.login("admin", kind.attributes()).await;
        let database = names.database("admin").await;
        let statement = format!("ALTER DATABASE \"{database}\" OWNER TO \"{}\"", login.name);
        let client = server.connect("postgres").await;
        client.batch_execute(&statement).await.expect("the admin's database gets its owner");
        Self { login, database }
    }

    /// The same on a server that nobody else uses.
    pub(crate) async fn on_own_server(server: &Server, kind: Admin) -> Self {
        let login = match kind {
            Admin::Superuser => {
                let cluster = server.cluster();
                Login { name: cluster.user().to_owned(), password: cluster.password().to_owned() }
            }
            Admin::Managed => server.admin_without_superuser().await,
        };
        let database = "management".to_owned();
        let statement = format!("CREATE DATABASE {database} OWNER \"{}\"", login.name);
        let client = server.connect("postgres").await;
        client.batch_execute(&statement).await.expect("a database for the admin");
        Self { login, database }
    }
}
