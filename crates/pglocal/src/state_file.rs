//! What a cluster remembers between starts, in a file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// 40 letters and digits: about 238 bits.
const PASSWORD_LENGTH: usize = 40;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) password: String,
    /// The TCP port of the last start, asked for again at the next one.
    pub(crate) port: Option<u16>,
}

impl State {
    /// The state of the cluster in `root`; a new one, with a random password, where there is none yet.
    pub(crate) fn load_or_create(root: &Path) -> Result<Self, Error> {
        let path = path(root);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::DamagedState { path, source }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let random = rand::rng().sample_iter(Alphanumeric).take(PASSWORD_LENGTH);
                let state = Self { password: random.map(char::from).collect(), port: None };
                state.save(root)?;
                Ok(state)
            }
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// Replaces the file in one step, so that a crash leaves the old or the new one.
    pub(crate) fn save(&self, root: &Path) -> Result<(), Error> {
        let path = path(root);
        let fresh = root.join("cluster.json.new");
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&fresh, &path)?;
            File::open(root)?.sync_all()
        };
        write().map_err(Error::io("write", &path))
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("cluster.json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_state_is_made_once_and_read_by_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let mut first = State::load_or_create(root.path()).unwrap();
        assert_eq!(first.password.len(), PASSWORD_LENGTH);
        first.port = Some(4711);
        first.save(root.path()).unwrap();

        let second = State::load_or_create(root.path()).unwrap();
        assert_eq!((second.password, second.port), (first.password, Some(4711)));
        assert_eq!(path(root.path()).metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_state_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(path(root.path()), "{").unwrap();
        let error = State::load_or_create(root.path()).err().unwrap();
        assert!(error.to_string().contains("cluster.json is damaged"), "{error}");
    }
}
