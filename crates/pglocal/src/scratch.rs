//! Where temporary clusters live, and the sweeping of those whose owner is gone.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::directory_lock::DirectoryLock;
use crate::error::Error;
use crate::server_user::{ServerUser, set_mode};
use crate::{file_tree, leftovers};

const MEMORY: &str = "/dev/shm";
/// A cluster takes some 40 MB empty and grows with its tests; less room than this is left to others.
const ROOM_IN_MEMORY: u64 = 2 << 30;

/// A new directory for a temporary cluster, already locked.
pub(crate) struct Temporary {
    pub(crate) directory: PathBuf,
    pub(crate) lock: DirectoryLock,
}

/// Makes a directory below `wanted`, or else in memory where there is room, or else in the system's temporary
/// folders; deletes what dead programs left in any of these.
pub(crate) fn create(wanted: Option<&Path>, user: &ServerUser) -> Result<Temporary, Error> {
    let bases = wanted.map_or_else(usual_bases, |wanted| vec![wanted.to_owned()]);
    // First of all: what lies in memory takes the room that is asked for next.
    for base in &bases {
        sweep(&folder_below(base));
    }
    let root = choose(&bases, user)?;
    // Between its creation and its locking a directory looks like a dead one's: this lock keeps sweepers out.
    let making = DirectoryLock::wait(&root.join("lock"))?;
    let directory = root.join(format!("c-{:016x}", rand::random::<u64>()));
    make(&directory, user)?;
    let lock = DirectoryLock::take(&directory)?;
    drop(making);
    Ok(Temporary { directory, lock })
}

/// The place for the socket of a cluster whose own path is too long: the same at every start.
pub(crate) fn socket_directory(cluster: &Path, user: &ServerUser) -> Result<PathBuf, Error> {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    cluster.hash(&mut hasher);
    let root = per_user(Path::new("/tmp"), user)?;
    Ok(root.join(format!("s-{:016x}", hasher.finish())))
}

/// In order of preference.
fn usual_bases() -> Vec<PathBuf> {
    vec![MEMORY.into(), std::env::temp_dir(), "/var/tmp".into(), "/tmp".into()]
}

fn choose(bases: &[PathBuf], user: &ServerUser) -> Result<PathBuf, Error> {
    let mut refusal = None;
    for base in bases {
        if base == Path::new(MEMORY) && room_in_memory(base) < ROOM_IN_MEMORY {
            continue;
        }
        match per_user(base, user) {
            Ok(root) => return Ok(root),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or(Error::NoRoom))
}

fn folder_below(base: &Path) -> PathBuf {
    base.join(format!("tenantry-pglocal-{}", rustix::process::geteuid().as_raw()))
}

fn is_ours(folder: &Path) -> Result<bool, Error> {
    let metadata = folder.symlink_metadata().map_err(Error::io("inspect", folder))?;
    Ok(metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw())
}

/// This user's own folder below a shared one.
fn per_user(base: &Path, user: &ServerUser) -> Result<PathBuf, Error> {
    let root = folder_below(base);
    make(&root, user)?;
    // Another user may have made the folder, or a link of that name, to get at our files.
    if !is_ours(&root)? {
        let stranger = io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user; delete it");
        return Err(Error::io("use", &root)(stranger));
    }
    set_mode(&root, user.passage_mode())?;
    user.check_passage(&root)?;
    Ok(root)
}

/// Deletes the temporary clusters below `root` whose owner is gone.
fn sweep(root: &Path) {
    if !is_ours(root).unwrap_or(false) {
        return;
    }
    let Ok(making) = DirectoryLock::wait(&root.join("lock")) else { return };
    let dead = abandoned(root);
    drop(making);
    for Temporary { directory, lock } in dead {
        tracing::info!(directory = %directory.display(), "deleting the temporary cluster of a program that is gone");
        leftovers::clear(&directory.join("data"));
        if let Err(error) = file_tree::remove(&directory) {
            tracing::warn!(%error, "a temporary cluster could not be deleted");
        }
        drop(lock);
    }
}

fn make(directory: &Path, user: &ServerUser) -> Result<(), Error> {
    match std::fs::DirBuilder::new().mode(user.passage_mode()).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create the directory", directory)(error))
        }
        _ => Ok(()),
    }
}

/// Directories whose lock is free, now locked by us. Only one program can delete each.
fn abandoned(root: &Path) -> Vec<Temporary> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("c-")))
        .filter_map(|directory| {
            let lock = DirectoryLock::take(&directory).ok()?;
            Some(Temporary { directory, lock })
        })
        .collect()
}

/// Free bytes of a file system in memory: its own limit, and at most half of the memory that is available.
fn room_in_memory(path: &Path) -> u64 {
    let of_file_system = rustix::fs::statvfs(path).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    of_file_system.min(available_memory() / 2)
}

fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}
