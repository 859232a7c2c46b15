//! Reading a snapshot.

use std::fs::File;
use std::io::{self, BufReader};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tenantry_domain::FeedVersion;

use super::SnapshotFile;
use super::records::{Record, RecordReader};
use super::save::clear_leftovers;
use super::seal::{OpenError, Opener};
use crate::table::{Prepared, Table};

/// What was read.
pub(crate) struct Loaded {
    pub(crate) table: Table,
    pub(crate) version: FeedVersion,
    /// Since the control plane last said something.
    pub(crate) age: Duration,
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("it has routes of the control plane at {plane}")]
    OtherPlane { plane: String },
    #[error("it is {} s old, and the most is {} s", age.as_secs(), age_max.as_secs())]
    TooOld { age: Duration, age_max: Duration },
}

/// Reads the snapshot into a table of its own, so that one that turns out wrong in the end was never used. Whatever is
/// wrong with it is a warning: the router then waits for the control plane.
pub(crate) fn load(file: &SnapshotFile, cluster_connections_max: u32) -> Option<Loaded> {
    clear_leftovers(&file.path);
    let opened = match File::open(&file.path) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %file.path.display(), %error, "the snapshot cannot be read");
            return None;
        }
    };
    match read(file, opened, cluster_connections_max) {
        Ok(loaded) => {
            tracing::info!(
                path = %file.path.display(), version = %loaded.version, routes = loaded.table.len(),
                age_s = loaded.age.as_secs(), "the snapshot is read"
            );
            Some(loaded)
        }
        Err(error) => {
            tracing::warn!(path = %file.path.display(), %error, "the snapshot is not used");
            None
        }
    }
}

fn read(file: &SnapshotFile, opened: File, cluster_connections_max: u32) -> Result<Loaded, LoadError> {
    let mut records = RecordReader::new(Opener::new(BufReader::new(opened), &file.key)?);
    let Record::Title(title) = records.next()? else { return Err(OpenError::Damaged.into()) };
    if title.plane != file.plane {
        return Err(LoadError::OtherPlane { plane: title.plane });
    }
    let age = age_of(UNIX_EPOCH + Duration::from_millis(title.heard_at_ms), SystemTime::now());
    if let Some(age_max) = file.age_max
        && age > age_max
    {
        return Err(LoadError::TooOld { age, age_max });
    }
    let table = Table::new(cluster_connections_max);
    table.reserve(title.routes);
    loop {
        match records.next()? {
            Record::Title(_) => return Err(OpenError::Damaged.into()),
            Record::Cluster(cluster) => {
                table.clusters.apply(cluster).map_err(|_| OpenError::Damaged)?;
            }
            Record::Lease(lease) => table.clusters.lease(lease),
            // A route that was told again is newer than before.
            Record::Route(route) => {
                table.apply(Prepared::from(&*route));
            }
            Record::End => break,
        }
    }
    records.finish()?;
    Ok(Loaded { table, version: title.version, age })
}

/// Wall clocks are set; one that was behind when the file was written, or is now, does not make it unusable. Only the time
/// between two processes is measured so; from here on the age counts on the clock that nobody sets.
fn age_of(heard_at: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(heard_at).unwrap_or_else(|ahead| {
        let ahead_s = ahead.duration().as_secs();
        tracing::warn!(ahead_s, "the snapshot is from the future; check the clock of this machine");
        Duration::ZERO
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_from_the_future_is_new_and_a_clock_that_was_set_ahead_makes_it_older() {
        let (heard_at, hour) = (SystemTime::now(), Duration::from_hours(1));
        assert_eq!(age_of(heard_at, heard_at - hour), Duration::ZERO);
        assert_eq!(age_of(heard_at, UNIX_EPOCH), Duration::ZERO);
        assert_eq!(age_of(heard_at, heard_at + hour), hour);
        assert_eq!(age_of(UNIX_EPOCH, UNIX_EPOCH + hour * 500_000), hour * 500_000);
    }
}
