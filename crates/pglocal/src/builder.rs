//! What a cluster shall be like, before it is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cluster::{Cluster, blocking};
use crate::error::Error;
use crate::launch::Launch;
use crate::settings;
use crate::standby::Primary;

/// How careful the server is with its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Committed data survives a crash of the machine.
    Durable,
    /// For tests: no fsync. Data survives a crash of the server, but not of the machine.
    Fast,
}

/// Where the server listens. The Unix socket is there in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// On a Unix socket only, in a directory that only the cluster's owner can enter.
    Socket,
    /// Also on 127.0.0.1, on the port of the last start if it is free, else on one that the kernel chooses.
    AnyPort,
    /// Also on 127.0.0.1, on this port or not at all.
    Port(u16),
}

/// A cluster to be started. Made by [`Cluster::at`] or [`Cluster::temporary`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until `start` is called"]
pub struct ClusterBuilder {
    pub(crate) place: Place,
    pub(crate) binaries: Option<PathBuf>,
    pub(crate) profile: Profile,
    pub(crate) listen: Listen,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) startup_timeout: Duration,
    pub(crate) primary: Option<Primary>,
}

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Directory(PathBuf),
    Temporary { below: Option<PathBuf> },
}

impl ClusterBuilder {
    pub(crate) fn new(place: Place, profile: Profile) -> Self {
        Self {
            place,
            binaries: None,
            profile,
            listen: Listen::Socket,
            settings: BTreeMap::new(),
            startup_timeout: Duration::from_mins(1),
            primary: None,
        }
    }

    /// Uses the server binaries in this folder and no others. Without it they are searched for, see
    /// [`Binaries::find`](crate::Binaries::find).
    pub fn binaries(mut self, folder: impl Into<PathBuf>) -> Self {
        self.binaries = Some(folder.into());
        self
    }

    /// [`Profile::Durable`] unless said otherwise; [`Profile::Fast`] for temporary clusters.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// [`Listen::Socket`] unless said otherwise.
    pub fn listen(mut self, listen: Listen) -> Self {
        self.listen = listen;
        self
    }

    /// A server setting, as in `postgresql.conf`. Wins over the profile's. What the cluster decides itself (port,
    /// addresses, authentication) is refused at the start with [`Error::InvalidSetting`].
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// Several settings at once, see [`setting`](Self::setting).
    pub fn settings<N: Into<String>, V: Into<String>>(mut self, settings: impl IntoIterator<Item = (N, V)>) -> Self {
        self.settings.extend(settings.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// How long the server may take to accept connections; 60 seconds unless said otherwise. Recovery after a crash
    /// counts.
    pub fn startup_timeout(mut self, timeout: Duration) -> Self {
        self.startup_timeout = timeout;
        self
    }

    /// Puts a temporary cluster below this folder, which must exist. Without it, memory (`/dev/shm`) is used where
    /// it has 2 GiB to spare, else the system's temporary folder. Changes nothing for other clusters.
    pub fn below(mut self, folder: impl AsRef<Path>) -> Self {
        if let Place::Temporary { below } = &mut self.place {
            *below = Some(folder.as_ref().to_owned());
        }
        self
    }

    /// Makes the cluster if it is not there yet, starts its server and waits until it accepts connections.
    ///
    /// A caller that gives up waiting leaves nothing behind: the start is completed and undone in the background.
    pub async fn start(self) -> Result<Cluster, Error> {
        for (name, value) in &self.settings {
            settings::check(name, value)?;
        }
        blocking(move || Launch::prepare(self)?.start()).await
    }
}
