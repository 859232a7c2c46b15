//! Orphans: what the catalog and a cluster disagree on.

use crate::word::words;
use serde::{Deserialize, Serialize};

words! {
    /// What kind of object it is.
    OrphanKind, "kind of orphan", "use database, role, schema, slot, backend or directory", {
        /// A database, or the rest of a drop that was interrupted.
        Database => "database",
        /// A role.
        Role => "role",
        /// A schema in a shared database.
        Schema => "schema",
        /// A replication slot.
        Slot => "slot",
        /// A session of the control plane on behalf of a home that is gone.
        Backend => "backend",
        /// A directory of the server's that no database claims.
        Directory => "directory",
    }
}

words! {
    /// What is to be thought of it.
    OrphanVerdict, "verdict", "use ours, foreign or missing", {
        /// On the cluster, and known as something that should be gone. Removed once its delay is over.
        Ours => "ours",
        /// On the cluster under a name as we give them, and unknown here. Never touched.
        Foreign => "foreign",
        /// Recorded as made, and not on the cluster as it should be. Never made again by itself.
        Missing => "missing",
    }
}

/// The part of a physical name that says to what it belongs: `h_`, `s_` or `t_` and 32 hexadecimal digits. `None` for names
/// that we do not give.
pub fn stem(name: &str) -> Option<&str> {
    let stem = name.get(..34)?;
    let (prefix, digits) = stem.split_at(2);
    let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let goes_on = name.len() == 34 || name.as_bytes().get(34) == Some(&b'_');
    (["h_", "s_", "t_"].contains(&prefix) && is_hexadecimal && goes_on).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_to_what_it_belongs() {
        let home = "h_0192f00d0192f00d0192f00d0192f00d";
        assert_eq!(stem(home), Some(home));
        assert_eq!(stem(&format!("{home}_owner")), Some(home));
        for foreign in ["", "postgres", "h_acme", &format!("{home}x"), &home.to_uppercase(), &home.replace('h', "x")] {
            assert_eq!(stem(foreign), None, "{foreign}");
        }
    }
}
