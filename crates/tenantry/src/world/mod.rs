//! A whole Tenantry in one process: embedded PostgreSQL, catalog, control plane and its HTTP door. `dev` lives in one for
//! as long as it pleases, `demo` in one that is thrown away.
//!
//! Start reading at [`World::start`]: it is the order in which things come up, each before the first that needs it.

mod catalog;
mod control_plane;
mod directory;
mod error;
mod furnishing;
mod narration;
mod profile;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tenantry_domain::Secret;
use tenantry_pglocal::{Cluster, Listen};
use tenantry_runtime::Telemetry;
use tenantry_store::Keyring;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::local_provider::{ClustersPlace, LocalProvider};

pub(crate) use control_plane::ApiPort;
pub(crate) use error::WorldError;
pub(crate) use furnishing::SAMPLE_SET;
pub(crate) use narration::Narration;

/// The one region of a world: this machine.
pub(crate) const REGION: &str = "local";
/// How long the parts may take to end before they are cut off.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// How often the embedded server is looked after.
const LOOK_AFTER_POSTGRES: Duration = Duration::from_secs(2);

/// The embedded server holds the catalog and all tenants without a server of their own. Each of their pools may hold
/// several connections.
const SETTINGS: &[(&str, &str)] = &[("max_connections", "300")];

/// Where a world's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorldPlace {
    /// In this directory, to be resumed at the next start; durable.
    Directory(PathBuf),
    /// Nowhere that lasts: its servers are fast and forgetful, and gone with the program.
    Temporary,
}

/// A running world. Dropping it ends everything abruptly; [`stop`](Self::stop) ends it in good order.
pub(crate) struct World {
    /// Where the control plane is.
    pub(crate) api_url: String,
    /// A token that may do everything.
    pub(crate) token: Secret,
    /// How its owner reaches the catalog with a client of PostgreSQL.
    pub(crate) catalog_url: Secret,
    parts: JoinSet<Result<(), WorldError>>,
    stop: CancellationToken,
    // Dropped in this order: what serves, then what it stands on.
    _stop_on_drop: DropGuard,
    provider: Arc<LocalProvider>,
    postgres: Cluster,
}

impl World {
    /// Brings everything up, or resumes what the directory holds. Returns once requests are served, the sample migration
    /// set is what new tenants start with, and, in a directory, the profile for the client commands is written.
    pub(crate) async fn start(
        place: &WorldPlace,
        port: ApiPort,
        telemetry: Telemetry,
        narration: &Narration,
    ) -> Result<Self, WorldError> {
        let key = match place {
            WorldPlace::Directory(directory) => directory::prepare(directory)?,
            WorldPlace::Temporary => Keyring::generate()?,
        };
        let postgres = narration.step("start PostgreSQL", start_postgres(place)).await?;
        let catalog_url = catalog::url(&postgres, catalog::DATABASE);
        let store = narration.step("bring the catalog up to date", catalog::open(&postgres, &key)).await?;

        let provider = Arc::new(LocalProvider::new(clusters_place(place), catalog::region()?));
        let resumed = provider.resume().await.map_err(WorldError::io("read", "the folder of private clusters"))?;
        let control = control_plane::assemble(store.clone(), Arc::clone(&provider)).await?;
        // Routes lead to these addresses: they must be right before anything is served or worked on.
        furnishing::relocate(&control, resumed, narration).await?;
        // Boxed, because nothing else in this start needs so many steps.
        let registered = Box::pin(furnishing::register(&control, &store, &postgres));
        narration.step("register the embedded server", registered).await?;

        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let (api_url, parts) = control_plane::serve(&control, port, telemetry, &stop)?;
        narration.step("promote the sample migration set", furnishing::promote_sample(&control)).await?;
        let token = furnishing::token(&control, place).await?;
        let world = Self { api_url, token, catalog_url, parts, stop, _stop_on_drop: stop_on_drop, provider, postgres };
        if let WorldPlace::Directory(directory) = place {
            profile::write(directory, &world)?;
        }
        Ok(world)
    }

    /// Returns when a part has ended by itself, with what is known about it: the world is of no use any longer.
    pub(crate) async fn ended(&mut self) -> WorldError {
        let server_ended = async {
            while self.postgres.is_running() {
                tokio::time::sleep(LOOK_AFTER_POSTGRES).await;
            }
        };
        tokio::select! {
            ended = self.parts.join_next() => match ended {
                Some(Ok(Err(error))) => error,
                Some(Ok(Ok(()))) | None => WorldError::Ended { source: None },
                Some(Err(error)) => WorldError::Ended { source: Some(error) },
            },
            () = server_ended => WorldError::PostgresEnded { log: self.postgres.log() },
        }
    }

    /// Ends everything: requests finish, work in progress is handed back to the catalog, then the servers stop.
    pub(crate) async fn stop(mut self) -> Result<(), WorldError> {
        self.stop.cancel();
        let ended = async { while self.parts.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, ended).await.is_err() {
            tracing::warn!("parts of the control plane were cut off because they did not end");
        }
        self.parts.shutdown().await;
        self.provider.stop().await;
        Ok(self.postgres.stop().await?)
    }
}

async fn start_postgres(place: &WorldPlace) -> Result<Cluster, WorldError> {
    let builder = match place {
        WorldPlace::Directory(directory) => Cluster::at(directory::postgres(directory)),
        WorldPlace::Temporary => Cluster::temporary(),
    };
    let started = builder.listen(Listen::AnyPort).settings(SETTINGS.iter().copied()).start().await;
    started.map_err(|error| match (error, place) {
        // The lock of the embedded server's directory is that of the whole world: it is taken first.
        (tenantry_pglocal::Error::Locked { holder, .. }, WorldPlace::Directory(directory)) => {
            WorldError::InUse { directory: directory.clone(), holder }
        }
        (error, _) => error.into(),
    })
}

fn clusters_place(place: &WorldPlace) -> ClustersPlace {
    match place {
        WorldPlace::Directory(directory) => ClustersPlace::Folder(directory::clusters(directory)),
        WorldPlace::Temporary => ClustersPlace::Temporary,
    }
}
