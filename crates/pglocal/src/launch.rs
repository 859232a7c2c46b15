//! The start of a cluster in one piece: its place, its lock, what an earlier owner left, its data, its server.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binaries::Binaries;
use crate::builder::{ClusterBuilder, Listen, Place};
use crate::cluster::Cluster;
use crate::directory_lock::DirectoryLock;
use crate::error::Error;
use crate::postmaster_pid::PostmasterPid;
use crate::server_process::ServerProcess;
use crate::server_user::{ServerUser, set_mode};
use crate::standby::Primary;
use crate::state_file::State;
use crate::{file_tree, initialise, leftovers, scratch, settings, standby};

/// In the name of the socket where there is no TCP port; the directory is the cluster's own.
const SOCKET_PORT: u16 = 5432;
/// How often a port chosen by the kernel may be lost to somebody quicker.
const PORT_ATTEMPTS: u32 = 8;
/// `sun_path` holds 104 bytes on the narrowest system; `/.s.PGSQL.65535` takes 15, and a lock file 5 more.
const SOCKET_DIRECTORY_LENGTH: usize = 80;
const LOG_SIZE_KEPT: u64 = 8 << 20;
const LOG_TAIL: u64 = 8 << 10;
const LOG_TAIL_LINES: usize = 20;
const FILES: &[&str] = &[
    "cluster.json",
    "cluster.json.new",
    "data",
    "data.new",
    "lock",
    "pg_hba.conf",
    "postgresql.conf",
    "server.log",
    "server.log.old",
    "socket",
];

/// A place that is ready, and all that is needed to start (and restart) its server.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) builder: ClusterBuilder,
    pub(crate) root: PathBuf,
    pub(crate) binaries: Binaries,
    pub(crate) user: ServerUser,
    pub(crate) socket_directory: PathBuf,
    pub(crate) password: String,
    _lock: DirectoryLock,
}

impl Launch {
    /// Takes possession of the cluster's directory and makes its data directory if there is none.
    pub(crate) fn prepare(builder: ClusterBuilder) -> Result<Self, Error> {
        let installed = Binaries::find_all(builder.binaries.as_deref())?;
        let user = ServerUser::choose()?;
        let temporary = matches!(builder.place, Place::Temporary { .. });
        let (root, lock) = match &builder.place {
            Place::Directory(directory) => occupy(directory, &user)?,
            Place::Temporary { below } => {
                let made = scratch::create(below.as_deref(), &user)?;
                (made.directory, made.lock)
            }
        };
        Self::furnish(builder, root.clone(), lock, &installed, user).inspect_err(|_| {
            if temporary {
                // The error that is under way says more than a failed deletion.
                let _ = file_tree::remove(&root);
            }
        })
    }

    fn furnish(
        builder: ClusterBuilder,
        root: PathBuf,
        lock: DirectoryLock,
        installed: &[Binaries],
        user: ServerUser,
    ) -> Result<Self, Error> {
        let launch = Self {
            binaries: suitable(&root, installed)?,
            socket_directory: socket_directory(&root, &user)?,
            password: password(&root, builder.primary.as_ref())?,
            builder,
            root,
            user,
            _lock: lock,
        };
        launch.make_data()?;
        Ok(launch)
    }

    pub(crate) fn start(self) -> Result<Cluster, Error> {
        Cluster::start(self)
    }

    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.builder.place, Place::Temporary { .. })
    }

    pub(crate) fn listens_on_tcp(&self) -> bool {
        self.builder.listen != Listen::Socket
    }

    pub(crate) fn data_directory(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("server.log")
    }

    /// Starts the server and waits until it is ready. Answers with it and its port.
    pub(crate) fn launch(&self) -> Result<(ServerProcess, u16), Error> {
        settings::write(&self.root, self.builder.profile, &self.builder.settings)?;
        // A killed server leaves a socket with a lock file that may keep the next one out.
        file_tree::remove(&self.socket_directory)?;
        self.user.make_private_directory(&self.socket_directory)?;
        if std::fs::metadata(self.log()).is_ok_and(|log| log.len() > LOG_SIZE_KEPT) {
            std::fs::rename(self.log(), self.root.join("server.log.old")).map_err(Error::io("rename", self.log()))?;
        }
        let mut state = State::load_or_create(&self.root)?;
        let mut attempt = 1;
        loop {
            let port = self.choose_port(&state)?;
            match self.try_port(port) {
                Err(Error::PortTaken { .. }) if self.builder.listen == Listen::AnyPort && attempt < PORT_ATTEMPTS => {
                    tracing::debug!(port, "the port was taken by somebody else; choosing another");
                    state.port = None;
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(process) => {
                    if self.builder.listen == Listen::AnyPort && state.port != Some(port) {
                        state.port = Some(port);
                        state.save(&self.root)?;
                    }
                    return Ok((process, port));
                }
            }
        }
    }

    fn make_data(&self) -> Result<(), Error> {
        let data = self.data_directory();
        if !data.exists() {
            let Self { root, binaries, user, password, builder, .. } = self;
            if let Some(primary) = &builder.primary {
                return standby::make_data_directory(root, binaries, user, primary, builder.profile);
            }
            return initialise::make_data_directory(root, binaries, user, password, builder.profile);
        }
        self.user.check_ownership(&data)?;
        leftovers::clear(&data);
        Ok(())
    }

    fn choose_port(&self, state: &State) -> Result<u16, Error> {
        match self.builder.listen {
            Listen::Socket => Ok(SOCKET_PORT),
            Listen::Port(port) => Ok(port),
            Listen::AnyPort => {
                let kept = state.port.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
                let free = || Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
                kept.map_or_else(free, Ok).map_err(Error::io("find a free port on", "127.0.0.1"))
            }
        }
    }

    fn try_port(&self, port: u16) -> Result<ServerProcess, Error> {
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.log())
            .map_err(Error::io("open", self.log()))?;
        let log_start = log.metadata().map_err(Error::io("inspect", self.log()))?.len();
        let process = self.spawn(port, log).map_err(Error::io("run", self.binaries.program("postgres")))?;
        let deadline = Instant::now() + self.builder.startup_timeout;
        loop {
            if let Some(status) = process.wait(Duration::from_millis(3)) {
                return Err(self.ended(status, port, log_start));
            }
            let pid = process.pid().as_raw_nonzero().get();
            if PostmasterPid::read(&self.data_directory()).is_some_and(|file| file.ready && file.pid == pid) {
                return Ok(process);
            }
            if Instant::now() >= deadline {
                process.signal(Signal::QUIT);
                if process.wait(Duration::from_secs(5)).is_none() {
                    process.signal(Signal::KILL);
                }
                let waited = self.builder.startup_timeout;
                return Err(Error::StartupTimeout { waited, log: self.log(), log_tail: tail(&self.log(), log_start) });
            }
        }
    }

    fn spawn(&self, port: u16, log: File) -> std::io::Result<ServerProcess> {
        let addresses = if self.listens_on_tcp() { "127.0.0.1" } else { "" };
        let setting = |name: &str, value: &Path| format!("{name}={}", value.display());
        let mut command = self.user.command(self.binaries.program("postgres"));
        command
            .arg("-D")
            .arg(self.data_directory())
            .args(["-c", &setting("config_file", &settings::configuration_path(&self.root))])
            .args(["-c", &setting("hba_file", &settings::authentication_path(&self.root))])
            .args(["-c", &format!("unix_socket_directories={}", list_item(&self.socket_directory))])
            .args(["-c", &format!("listen_addresses={addresses}"), "-c", &format!("port={port}")])
            // A group of its own: a Ctrl-C at the terminal is for the owner, which then stops the server in order.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        ServerProcess::spawn(command)
    }

    fn ended(&self, status: ExitStatus, port: u16, log_start: u64) -> Error {
        let log_tail = tail(&self.log(), log_start);
        // The server's messages are English: it runs with lc_messages = C.
        if self.listens_on_tcp() && log_tail.contains("could not bind IPv4 address") {
            return Error::PortTaken { port };
        }
        Error::Startup { status: status.to_string(), log: self.log(), log_tail }
    }
}

/// The superuser's password: one of the cluster's own, or that of the cluster which it is a copy of.
fn password(root: &Path, primary: Option<&Primary>) -> Result<String, Error> {
    let mut state = State::load_or_create(root)?;
    if let Some(primary) = primary
        && state.password != primary.password
    {
        state.password.clone_from(&primary.password);
        state.save(root)?;
    }
    Ok(state.password)
}

/// Makes `directory` ours: creates it, refuses what belongs to others, locks it.
fn occupy(directory: &Path, user: &ServerUser) -> Result<(PathBuf, DirectoryLock), Error> {
    let directory = std::path::absolute(directory).map_err(Error::io("resolve", directory))?;
    std::fs::create_dir_all(&directory).map_err(Error::io("create the directory", &directory))?;
    let entries = std::fs::read_dir(&directory).map_err(Error::io("read the directory", &directory))?;
    for entry in entries {
        let name = entry.map_err(Error::io("read the directory", &directory))?.file_name();
        if !FILES.iter().any(|known| name == *known) {
            return Err(Error::ForeignDirectory { directory });
        }
    }
    set_mode(&directory, user.passage_mode())?;
    user.check_passage(&directory)?;
    let lock = DirectoryLock::take(&directory)?;
    Ok((directory, lock))
}

/// An existing data directory needs the major version that made it; a new one takes the first choice.
fn suitable(root: &Path, installed: &[Binaries]) -> Result<Binaries, Error> {
    let path = root.join("data/PG_VERSION");
    let made_by = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().parse::<u32>().ok(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let fits = |binaries: &&Binaries| made_by.is_none_or(|major| binaries.version().major == major);
    installed.iter().find(fits).cloned().ok_or_else(|| Error::MajorVersionMissing {
        directory: root.to_owned(),
        made_by: made_by.unwrap_or_default(),
        installed: installed.iter().map(Binaries::version).collect(),
    })
}

fn socket_directory(root: &Path, user: &ServerUser) -> Result<PathBuf, Error> {
    let own = root.join("socket");
    if own.as_os_str().len() <= SOCKET_DIRECTORY_LENGTH { Ok(own) } else { scratch::socket_directory(root, user) }
}

/// One item of a list setting: quoted, since a comma or a space would end it.
fn list_item(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('"', "\"\""))
}

fn tail(log: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(LOG_TAIL))))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|error| format!("(the log cannot be read: {error})"));
    let lines: Vec<_> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
