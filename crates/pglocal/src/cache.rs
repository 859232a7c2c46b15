//! Data directories as `initdb` leaves them, one per installation, kept per user and copied for each new cluster:
//! a copy takes a tenth of the time that `initdb` takes.
//!
//! They hold no password; each cluster sets its own. Deleting the whole folder is always safe.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::binaries::Binaries;
use crate::directory_lock::DirectoryLock;
use crate::error::Error;
use crate::file_tree;
use crate::server_user::ServerUser;

/// Rises when the flags of `initdb` change, so that older directories are not used any more.
const FLAGS_VERSION: u32 = 1;

/// One place in the cache, held against other processes that want to fill it.
pub(crate) struct Entry {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl Entry {
    /// The entry of this installation. Waits while another process fills it.
    pub(crate) fn open(binaries: &Binaries) -> Result<Option<Self>, Error> {
        let Some(directory) = directory() else { return Ok(None) };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(Error::io("create the directory", &directory))?;
        let path = directory.join(name(binaries));
        let lock = DirectoryLock::wait(&path.with_extension("lock"))?;
        Ok(Some(Self { path, _lock: lock }))
    }

    /// The directory to copy, if it has been made.
    pub(crate) fn made(&self) -> Option<&Path> {
        self.path.is_dir().then_some(self.path.as_path())
    }

    /// Keeps a copy of `fresh`, a directory just made by `initdb`.
    pub(crate) fn keep(&self, fresh: &Path) -> Result<(), Error> {
        let unfinished = self.path.with_extension("new");
        file_tree::remove(&unfinished)?;
        file_tree::copy(fresh, &unfinished, &ServerUser::Same)?;
        // Without this a power failure could leave empty files that every later cluster would copy.
        file_tree::sync(&unfinished)?;
        std::fs::rename(&unfinished, &self.path).map_err(Error::io("rename to", &self.path))
    }
}

/// `None` where the user has no home: then every cluster runs `initdb`.
fn directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(caches.join("tenantry/pglocal"))
}

/// The version, and a hash of the folder: two builds of one version may differ in their block size.
fn name(binaries: &Binaries) -> String {
    let mut hasher = DefaultHasher::new();
    binaries.folder().hash(&mut hasher);
    let version = binaries.version();
    // No dots: what follows a dot is replaced for the lock and the unfinished copy.
    format!("{}-{}-{:016x}-{FLAGS_VERSION}", version.major, version.minor, hasher.finish())
}
