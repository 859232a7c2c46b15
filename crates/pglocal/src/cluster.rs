//! A running cluster, and its end in every way.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::builder::{ClusterBuilder, Place, Profile};
use crate::error::Error;
use crate::initialise::{self, SUPERUSER};
use crate::launch::Launch;
use crate::server_process::ServerProcess;
use crate::standby::Primary;
use crate::version::Version;
use crate::warden::Warden;
use crate::{file_tree, leftovers};

/// A fast shutdown writes a checkpoint, and waits for logical replication to be sent.
const FAST_SHUTDOWN: Duration = Duration::from_secs(20);
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(5);
/// Backends notice the death of their main process at their next wait; one that copies a database does not.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// A private PostgreSQL server with a superuser `postgres`.
///
/// It ends with this value: dropping it blocks for the time of a shutdown (some 30 ms when idle), so prefer
/// [`stop`](Self::stop), which also reports errors. It ends with the process as well, however that ends. All methods
/// take `&self`; those that change the server run one after the other.
pub struct Cluster {
    core: Arc<Core>,
}

struct Core {
    launch: Launch,
    port: AtomicU16,
    condition: Mutex<Condition>,
}

/// What changes over a cluster's life.
struct Condition {
    process: Option<ServerProcess>,
    warden: Option<Warden>,
    ended: bool,
}

impl Cluster {
    /// The cluster in this directory: made at the first start, resumed at later ones. Durable by default. The
    /// directory belongs to the cluster alone; its layout is described at the head of this crate.
    pub fn at(directory: impl Into<PathBuf>) -> ClusterBuilder {
        ClusterBuilder::new(Place::Directory(directory.into()), Profile::Durable)
    }

    /// A cluster in a new directory, deleted together with the server. Fast by default.
    pub fn temporary() -> ClusterBuilder {
        ClusterBuilder::new(Place::Temporary { below: None }, Profile::Fast)
    }

    /// A temporary cluster that follows this one as a physical standby: made by copying it while it runs, with the same
    /// superuser, password and settings, and read-only until it is promoted. Fast by default. Stop it before this one,
    /// which waits in vain for a standby that is paused.
    pub fn standby(&self) -> ClusterBuilder {
        let Launch { binaries, socket_directory, password, builder, .. } = &self.core.launch;
        let mut standby = Self::temporary().binaries(binaries.folder()).settings(builder.settings.clone());
        standby.primary =
            Some(Primary { socket_directory: socket_directory.clone(), port: self.port(), password: password.clone() });
        standby
    }

    pub(crate) fn start(launch: Launch) -> Result<Self, Error> {
        let condition = Mutex::new(Condition { process: None, warden: None, ended: false });
        let core = Arc::new(Core { launch, port: AtomicU16::new(0), condition });
        core.start_server(&mut core.condition())?;
        Ok(Self { core })
    }

    /// What to give a client as its host: `127.0.0.1` when the server listens on TCP, else the socket's directory.
    pub fn host(&self) -> &str {
        let socket = self.core.launch.socket_directory.to_str();
        if self.core.launch.listens_on_tcp() { "127.0.0.1" } else { socket.unwrap_or_default() }
    }

    /// The port; also in the name of the Unix socket. A [`restart`](Self::restart) may change it.
    pub fn port(&self) -> u16 {
        self.core.port.load(Ordering::Acquire)
    }

    /// The directory of the Unix socket, which is there whether the server listens on TCP or not.
    pub fn socket_dir(&self) -> &Path {
        &self.core.launch.socket_directory
    }

    /// The superuser's name.
    pub fn user(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password: random, the same for the life of the cluster.
    pub fn password(&self) -> &str {
        &self.core.launch.password
    }

    /// The directory that was given to [`Cluster::at`], or the temporary one.
    pub fn dir(&self) -> &Path {
        &self.core.launch.root
    }

    /// PostgreSQL's own data directory, inside [`dir`](Self::dir).
    pub fn data_dir(&self) -> PathBuf {
        self.core.launch.data_directory()
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.core.launch.log()
    }

    /// The version of the server's binaries.
    pub fn version(&self) -> Version {
        self.core.launch.binaries.version()
    }

    /// The id of the server's main process while it runs.
    pub fn pid(&self) -> Option<u32> {
        let condition = self.core.condition();
        let process = condition.process.as_ref().filter(|process| process.exit_status().is_none())?;
        u32::try_from(process.pid().as_raw_nonzero().get()).ok()
    }

    /// Whether the server runs. `false` also after a crash of its own.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Stops the server (if it runs) and starts it again with the same settings, on the same port if that is free.
    /// Open sessions end.
    pub async fn restart(&self) -> Result<(), Error> {
        self.change(|core, condition| {
            core.shut_down(condition);
            core.start_server(condition)
        })
        .await
    }

    /// Ends the server as a crash would: kills its main process, then waits until the last backend is gone.
    /// [`restart`](Self::restart) brings it back, through recovery.
    pub async fn kill(&self) -> Result<(), Error> {
        self.change(|core, condition| {
            let process = condition.process.take().ok_or(Error::NotRunning)?;
            let data = core.launch.data_directory();
            process.signal(Signal::KILL);
            process.wait(AFTER_KILL);
            if !leftovers::wait_until_gone(&data, AFTER_KILL) {
                leftovers::signal_all(&data, Signal::KILL);
                leftovers::wait_until_gone(&data, AFTER_KILL);
            }
            Ok(())
        })
        .await
    }

    /// Freezes every process of the server: connections stay open, and nothing answers.
    pub async fn pause(&self) -> Result<(), Error> {
        self.change(|core, condition| {
            let process = condition.process.as_ref().ok_or(Error::NotRunning)?;
            // The main process first, so that it starts no backend that is missed.
            process.signal(Signal::STOP);
            leftovers::signal_all(&core.launch.data_directory(), Signal::STOP);
            Ok(())
        })
        .await
    }

    /// Ends a [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), Error> {
        self.change(|core, condition| {
            condition.process.as_ref().ok_or(Error::NotRunning)?;
            leftovers::signal_all(&core.launch.data_directory(), Signal::CONT);
            Ok(())
        })
        .await
    }

    /// Stops the server in good order, ending open sessions; deletes the directory of a temporary cluster.
    pub async fn stop(self) -> Result<(), Error> {
        self.change(Core::end).await
    }

    async fn change(
        &self,
        change: impl FnOnce(&Core, &mut Condition) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let core = Arc::clone(&self.core);
        blocking(move || {
            let mut condition = core.condition();
            if condition.ended { Err(Error::Gone) } else { change(&core, &mut condition) }
        })
        .await
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("dir", &self.dir())
            .field("host", &self.host())
            .field("port", &self.port())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl Core {
    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_server(&self, condition: &mut Condition) -> Result<(), Error> {
        if condition.warden.is_none() && (self.launch.is_temporary() || !cfg!(target_os = "linux")) {
            let doomed = self.launch.is_temporary().then_some(self.launch.root.as_path());
            let warden = Warden::post(&self.launch.data_directory(), doomed).map_err(Error::io("run", "/bin/sh"))?;
            condition.warden = Some(warden);
        }
        // What a killed server left would keep a new one from starting.
        leftovers::clear(&self.launch.data_directory());
        let (process, port) = self.launch.launch()?;
        self.port.store(port, Ordering::Release);
        condition.process = Some(process);
        Ok(())
    }

    fn shut_down(&self, condition: &mut Condition) {
        let Some(process) = condition.process.take() else { return };
        if process.exit_status().is_none() {
            // A paused backend could not end.
            leftovers::signal_all(&self.launch.data_directory(), Signal::CONT);
        }
        for (signal, patience) in [(Signal::INT, FAST_SHUTDOWN), (Signal::QUIT, IMMEDIATE_SHUTDOWN)] {
            process.signal(signal);
            if process.wait(patience).is_some() {
                return;
            }
            tracing::warn!(directory = %self.launch.root.display(), ?signal, "PostgreSQL does not stop; insisting");
        }
        process.signal(Signal::KILL);
        process.wait(AFTER_KILL);
    }

    /// Stops the server for good and leaves nothing behind. Harmless when done twice.
    fn end(&self, condition: &mut Condition) -> Result<(), Error> {
        if std::mem::replace(&mut condition.ended, true) {
            return Ok(());
        }
        self.shut_down(condition);
        let Launch { root, binaries, user, socket_directory, .. } = &self.launch;
        let data = self.launch.data_directory();
        // The file stays when a server was killed: then its backends and its shared memory may be left.
        if data.join("postmaster.pid").exists() {
            leftovers::clear(&data);
            if self.launch.is_temporary() {
                initialise::release_shared_memory(&data, binaries, user);
            }
        }
        let deleted = file_tree::remove(socket_directory)
            .and_then(|()| if self.launch.is_temporary() { file_tree::remove(root) } else { Ok(()) });
        if let Some(warden) = condition.warden.take() {
            warden.dismiss();
        }
        deleted
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let mut condition =
            std::mem::replace(&mut *self.condition(), Condition { process: None, warden: None, ended: true });
        if let Err(error) = self.end(&mut condition) {
            tracing::warn!(%error, "a private PostgreSQL cluster left something behind");
        }
    }
}

/// Runs `work`, which waits for processes and files, beside the asynchronous tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::Abandoned),
        },
    }
}
