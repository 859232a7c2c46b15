//! The directory of a world that lasts.
//!
//! ```text
//! DIR/postgres/    the embedded server: catalog, shared databases, databases of tenants
//! DIR/clusters/    servers of tenants that have one to themselves, by cluster id
//! DIR/master.key   opens the passwords in the catalog; readable by its owner only
//! DIR/dev.json     where the control plane is, and a token; readable by its owner only
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tenantry_domain::Secret;
use tenantry_store::Keyring;

use super::error::WorldError;

/// The embedded server's own directory.
pub(super) fn postgres(directory: &Path) -> PathBuf {
    directory.join("postgres")
}

/// Where clusters for single tenants are.
pub(super) fn clusters(directory: &Path) -> PathBuf {
    directory.join("clusters")
}

/// Makes the directory if there is none, and answers with its master key, which is made with it.
pub(super) fn prepare(directory: &Path) -> Result<Secret, WorldError> {
    make(directory)?;
    make(&clusters(directory))?;
    let path = directory.join("master.key");
    if !path.exists() {
        if postgres(directory).join("data").exists() {
            return Err(WorldError::KeyMissing { key: path });
        }
        let key = Keyring::generate()?;
        // Whoever is first decides: two programs that start here at once must not seal with different keys.
        match place(&path, key.expose().as_bytes(), |new, path| fs::hard_link(new, path)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(WorldError::file("write", &path)(error));
            }
            _ => {}
        }
    }
    let text = fs::read_to_string(&path).map_err(WorldError::file("read", &path))?;
    Ok(Secret::new(text.trim().to_owned()))
}

/// Replaces a file by one that only its owner may read, in one step: a reader sees the old or the new one.
pub(super) fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    place(path, content, |new, path| fs::rename(new, path))
}

fn place(path: &Path, content: &[u8], put: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let written = || -> io::Result<()> {
        // What an earlier process of this number left; the new file must be made by us, with our mode.
        remove_if_there(&new)?;
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        put(&new, path)
    };
    let outcome = written();
    // Gone already after a rename.
    let removed = remove_if_there(&new);
    outcome.and(removed)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory that others cannot look into. Where PostgreSQL runs as another user than this program (it never
/// runs as root), that user must be able to pass.
fn make(directory: &Path) -> Result<(), WorldError> {
    if directory.is_dir() {
        return Ok(());
    }
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(mode)))
        .map_err(WorldError::file("create the directory", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[test]
    fn a_directory_is_made_once_with_one_key() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = parent.path().join("a/b");
        let key = prepare(&directory).expect("prepared");
        assert_eq!(prepare(&directory).expect("prepared").expose(), key.expose());
        assert!(Keyring::parse(&key).is_ok());
        assert_eq!(mode(&directory.join("master.key")), 0o600);
        assert_eq!(mode(&directory) & 0o066, 0, "nobody else may look into it");
        let names: Vec<_> =
            fs::read_dir(&directory).expect("readable").map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names.len(), 2, "no temporary file stays: {names:?}");
    }

    #[test]
    fn a_lost_key_is_not_replaced_by_one_that_opens_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path()).expect("prepared");
        fs::create_dir_all(postgres(directory.path()).join("data")).expect("made");
        fs::remove_file(directory.path().join("master.key")).expect("removed");
        let error = prepare(directory.path()).expect_err("refused");
        assert!(error.to_string().contains("put it back"), "{error}");
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_whatever_was_there_ends_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("dev.json");
        fs::write(&path, "old and longer").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("permitted");
        write_private(&path, b"new").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
    }
}
