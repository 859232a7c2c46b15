//! How a table is locked.

use crate::word::words;
use serde::{Deserialize, Serialize};

words! {
    /// PostgreSQL's lock modes of a table, the weakest first.
    LockMode, "lock mode", "use a mode of PostgreSQL's table locks in small letters, such as access_exclusive", {
        /// Reads.
        AccessShare => "access_share",
        /// Locks rows.
        RowShare => "row_share",
        /// Writes rows.
        RowExclusive => "row_exclusive",
        /// Keeps other changes of the table out; reads and writes go on.
        ShareUpdateExclusive => "share_update_exclusive",
        /// Keeps writers out.
        Share => "share",
        /// Keeps writers out, and others like itself.
        ShareRowExclusive => "share_row_exclusive",
        /// Keeps everybody out but readers.
        Exclusive => "exclusive",
        /// Keeps everybody out.
        AccessExclusive => "access_exclusive",
    }
}

impl LockMode {
    /// Rises from the weakest to the strongest.
    pub const fn strength(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_that_keeps_everybody_out_is_the_strongest() {
        assert!(LockMode::ALL.windows(2).all(|pair| pair[0].strength() < pair[1].strength()));
        assert_eq!(LockMode::ALL.last(), Some(&LockMode::AccessExclusive));
    }
}
