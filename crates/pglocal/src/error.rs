//! Everything that can go wrong with a private cluster, told to the person who has to mend it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::version::{OLDEST_SUPPORTED, Version};

/// Why a cluster could not be found, made, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable server binaries anywhere.
    #[error("{}", binaries_not_found(.searched, .too_old))]
    BinariesNotFound {
        /// The folders that were looked into.
        searched: Vec<PathBuf>,
        /// Installations that were found but are older than [`OLDEST_SUPPORTED`].
        too_old: Vec<(PathBuf, Version)>,
    },

    /// The data directory was made by another major version than any that is installed.
    #[error(
        "{} was made by PostgreSQL {made_by}, which is not installed (found: {}); install PostgreSQL {made_by} \
         or start with another directory",
        .directory.display(), list(.installed)
    )]
    MajorVersionMissing {
        /// The cluster's directory.
        directory: PathBuf,
        /// The major version that made it.
        made_by: u32,
        /// The versions that are installed.
        installed: Vec<Version>,
    },

    /// This process is root, and neither `postgres` nor `nobody` exists to run the server.
    #[error(
        "PostgreSQL does not run as root, and neither user `postgres` nor `nobody` exists; \
         create one of them or start this program as an ordinary user"
    )]
    NoServerUser,

    /// The server's user cannot reach the cluster's directory.
    #[error(
        "the server runs as user `{user}`, which cannot enter {}, a parent of {}; \
         choose a directory elsewhere (for example under /var/lib) or allow it with `chmod o+x {}`",
        .blocked_by.display(), .directory.display(), .blocked_by.display()
    )]
    NotTraversable {
        /// The cluster's directory.
        directory: PathBuf,
        /// The parent that is closed.
        blocked_by: PathBuf,
        /// The user that the server would run as.
        user: String,
    },

    /// The folder for temporary clusters is in memory, and the memory has no room.
    #[error("/dev/shm has less than 2 GiB to spare; put temporary clusters below another folder")]
    NoRoom,

    /// The cluster was made by another user, or by root with another user for the server.
    #[error(
        "{} belongs to the user with id {owner}, but the server would run as {expected}; start this program as the \
         user that made the cluster, or choose another directory",
        .data_directory.display()
    )]
    WrongOwner {
        /// PostgreSQL's data directory.
        data_directory: PathBuf,
        /// The id of the user that owns it.
        owner: u32,
        /// The id of the user that the server would run as.
        expected: u32,
    },

    /// Another program uses this cluster.
    #[error("{} is in use by {}; stop that program or choose another directory", .directory.display(), held_by(.holder.as_ref()))]
    Locked {
        /// The cluster's directory.
        directory: PathBuf,
        /// The process that holds it, where it could be read.
        holder: Option<u32>,
    },

    /// The directory holds something else.
    #[error("{} is not empty and holds no cluster of ours; choose an empty or new directory", .directory.display())]
    ForeignDirectory {
        /// The directory that was asked for.
        directory: PathBuf,
    },

    /// The state file of an existing cluster cannot be understood.
    #[error("{} is damaged; restore it from a backup, or move the whole directory away to begin anew", .path.display())]
    DamagedState {
        /// The state file.
        path: PathBuf,
        /// What the reader says.
        source: serde_json::Error,
    },

    /// A TCP port that was asked for by number is taken, or the kernel's choice was lost several times in a row.
    #[error("port {port} on 127.0.0.1 is taken by another program; choose another port or let the kernel choose")]
    PortTaken {
        /// The port.
        port: u16,
    },

    /// A server setting that cannot be written, or that belongs to this crate.
    #[error("the setting `{name}` {reason}")]
    InvalidSetting {
        /// The setting's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// `initdb`, or the first start that sets the password, failed.
    #[error("{program} could not make a data directory in {}:\n{output}", .directory.display())]
    Initialise {
        /// The program that failed.
        program: &'static str,
        /// Where it worked.
        directory: PathBuf,
        /// What it said.
        output: String,
    },

    /// The server ended while starting.
    #[error("PostgreSQL ended while starting ({status}); {} ends with:\n{log_tail}", .log.display())]
    Startup {
        /// How it ended.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        log_tail: String,
    },

    /// The server did not become ready in time and was stopped.
    #[error("PostgreSQL was not ready after {} s; {} ends with:\n{log_tail}", .waited.as_secs(), .log.display())]
    StartupTimeout {
        /// How long it was waited for.
        waited: Duration,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        log_tail: String,
    },

    /// The call needs a running server, and it is not running (killed, stopped or crashed).
    #[error("the cluster's server is not running; restart it first")]
    NotRunning,

    /// A temporary cluster was stopped: its directory is gone, it cannot come back.
    #[error("the temporary cluster was stopped and deleted; start a new one")]
    Gone,

    /// The operating system refused something.
    #[error("could not {action} {}", .path.display())]
    Io {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },

    /// The runtime ended before the work did.
    #[error("the work on the cluster was abandoned because the program is ending")]
    Abandoned,
}

impl Error {
    /// For `map_err`: names what was tried beside the operating system's answer.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.as_ref().to_owned(), source }
    }
}

fn held_by(pid: Option<&u32>) -> String {
    pid.map_or_else(|| "another program".to_owned(), |pid| format!("process {pid}"))
}

fn list(versions: &[Version]) -> String {
    versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
}

fn binaries_not_found(searched: &[PathBuf], too_old: &[(PathBuf, Version)]) -> String {
    use std::fmt::Write as _;

    let mut text = format!(
        "no PostgreSQL server binaries (version {OLDEST_SUPPORTED} or newer) were found. Install the server package:\n\
         \x20 Debian, Ubuntu   apt-get install postgresql\n\
         \x20 Fedora, RHEL     dnf install postgresql-server\n\
         \x20 Alpine           apk add postgresql\n\
         \x20 Arch             pacman -S postgresql\n\
         \x20 macOS            brew install postgresql\n\
         or name the folder that holds `postgres` and `initdb` (environment variable {}).",
        crate::BINARIES_VARIABLE
    );
    for (folder, version) in too_old {
        let _ = write!(text, "\nToo old: PostgreSQL {version} in {}.", folder.display());
    }
    if !searched.is_empty() {
        let folders: Vec<_> = searched.iter().map(|folder| folder.display().to_string()).collect();
        let _ = write!(text, "\nLooked into: {}.", folders.join(", "));
    }
    text
}
