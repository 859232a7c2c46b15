//! The routing table on disk, sealed: a router that starts while the control plane is away serves from it.
//!
//! It is a cache. What it says is checked by the home itself, as whatever the feed says, and the feed goes on from the
//! version that it is of. A file that cannot be used as a whole is not used at all.

mod keeper;
mod key;
mod load;
mod records;
mod save;
mod seal;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use self::keeper::{Mark, keep};
pub use self::key::{InvalidSnapshotKey, SnapshotKey};
pub(crate) use self::load::{Loaded, load};
pub(crate) use self::save::folder_of;

/// Where a router keeps its table, and for whom.
pub(crate) struct SnapshotFile {
    pub(crate) path: PathBuf,
    pub(crate) key: SnapshotKey,
    /// The control plane whose routes they are: those of another one would lead astray.
    pub(crate) plane: String,
    pub(crate) age_max: Option<Duration>,
}
