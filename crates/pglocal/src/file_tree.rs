//! Copies, syncs and deletes whole data directories.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::error::Error;
use crate::server_user::ServerUser;

/// Copies the directory `from` to `to`, which must not exist, and gives the copy to `user`. A directory is given away
/// after its content, so that nobody can put a link into the way of a privileged copier.
pub(crate) fn copy(from: &Path, to: &Path, user: &ServerUser) -> Result<(), Error> {
    std::fs::DirBuilder::new().mode(0o700).create(to).map_err(Error::io("create the directory", to))?;
    for entry in std::fs::read_dir(from).map_err(Error::io("read the directory", from))? {
        let entry = entry.map_err(Error::io("read the directory", from))?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(Error::io("inspect", from))?.is_dir() {
            copy(&entry.path(), &target, user)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(Error::io("write", &target))?;
            user.take_over(&target)?;
        }
    }
    user.take_over(to)
}

/// Brings every file and directory below `path` to the disk.
pub(crate) fn sync(path: &Path) -> Result<(), Error> {
    if path.symlink_metadata().map_err(Error::io("inspect", path))?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(Error::io("read the directory", path))? {
            sync(&entry.map_err(Error::io("read the directory", path))?.path())?;
        }
    }
    File::open(path).and_then(|file| file.sync_all()).map_err(Error::io("sync", path))
}

/// Deletes a directory with all that is in it; one that is gone already is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", path)(error)),
        _ => Ok(()),
    }
}
