//! Writing a snapshot.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::SnapshotFile;
use super::records::{RecordWriter, Title};
use super::seal::Sealer;
use crate::inner::Inner;

/// How often routes are told again that changed while the others were written. Each time there are far fewer.
const PASSES_MAX: usize = 4;
/// What temporary files end with. A crash may leave one behind; the next router that starts takes it away.
const SUFFIX: &str = ".new";
/// So old a temporary file is nobody's any more.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// Writes the table to a temporary file beside the last snapshot, and puts it in its place once it is on the disk: there
/// is one whole file at every moment. Answers its bytes; `None` where there is nothing to write yet.
///
/// Nobody waits for it, and it takes the memory of one chunk, however many routes there are. What changes meanwhile may
/// be in it or not: it says of the version that was applied when it began, so the feed tells the rest.
pub(super) fn save(file: &SnapshotFile, inner: &Inner) -> io::Result<Option<u64>> {
    let (Some(version), Some(age)) = (inner.feed.borrow().applied, inner.freshness.age()) else { return Ok(None) };
    let heard_at = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH);
    let title = Title {
        plane: file.plane.clone(),
        version,
        heard_at_ms: heard_at.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        routes: inner.table.len(),
    };
    let folder = folder_of(&file.path);
    // Its mode is 0600.
    let mut temporary = tempfile::Builder::new().prefix(&prefix_of(&file.path)).suffix(SUFFIX).tempfile_in(folder)?;
    let mut records = RecordWriter::new(Sealer::new(temporary.as_file_mut(), &file.key)?);
    records.title(&title)?;
    let mut since = None;
    // Names that change hands while this goes on lead to one tenant in the end: what changed is told once more.
    for _ in 0..PASSES_MAX {
        let upto = inner.feed.borrow().applied;
        // A cluster comes before its routes, as the feed has it.
        inner.table.clusters.all().iter().try_for_each(|cluster| records.cluster(cluster))?;
        let mut told = 0_u64;
        inner.table.each_after(since, |found, packed, terms| {
            told += 1;
            records.route(found, packed, terms)
        })?;
        since = upto;
        if told == 0 {
            break;
        }
    }
    inner.table.clusters.leases().iter().try_for_each(|lease| records.lease(lease))?;
    let (written, bytes) = records.end()?;
    written.flush()?;
    temporary.as_file().sync_all()?;
    temporary.persist(&file.path).map_err(|error| error.error)?;
    // The name is on the disk once the folder is.
    File::open(folder)?.sync_all()?;
    Ok(Some(bytes))
}

/// Takes away what a crash left behind.
pub(super) fn clear_leftovers(path: &Path) {
    let prefix = prefix_of(path);
    let Ok(entries) = folder_of(path).read_dir() else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_leftover = name.to_str().is_some_and(|name| name.starts_with(&prefix) && name.ends_with(SUFFIX));
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_leftover && age.is_some_and(|age| age > LEFTOVER_AGE) {
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn prefix_of(path: &Path) -> String {
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    format!(".{}.", name.display())
}
