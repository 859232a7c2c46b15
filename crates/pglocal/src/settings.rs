//! `postgresql.conf` and `pg_hba.conf`, written anew at every start.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::builder::Profile;
use crate::error::Error;
use crate::server_user::set_mode;

const COMMON: &[(&str, &str)] = &[
    ("password_encryption", "scram-sha-256"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("max_wal_senders", "32"),
    ("max_replication_slots", "32"),
    ("max_logical_replication_workers", "16"),
    ("max_worker_processes", "32"),
    // Dropping a schema of 40 tables takes some 640 locks at once.
    ("max_locks_per_transaction", "256"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_line_prefix", "%m [%p] %a %d "),
    // A statement that fails may hold a password's verifier; the client is told anyway.
    ("log_min_error_statement", "panic"),
    ("log_checkpoints", "off"),
];

const DURABLE: &[(&str, &str)] = &[("shared_buffers", "128MB"), ("max_wal_size", "1GB")];

const FAST: &[(&str, &str)] = &[
    // With fsync off a commit costs one write: synchronous_commit stays on, so that a killed server loses nothing.
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
    // Bounds what a throw-away cluster takes from memory on tmpfs.
    ("max_wal_size", "256MB"),
    ("min_wal_size", "32MB"),
    ("checkpoint_timeout", "30min"),
    // In the data directory, so that even a killed server leaves nothing in /dev/shm.
    ("dynamic_shared_memory_type", "mmap"),
];

/// Decided by this crate: others would break the start, the lock or the authentication.
const RESERVED: &[&str] = &[
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "listen_addresses",
    "logging_collector",
    "password_encryption",
    "port",
    "unix_socket_directories",
];

const HBA: &str = "# Written at every start.\n\
                   local all all scram-sha-256\n\
                   local replication all scram-sha-256\n\
                   host all all 127.0.0.1/32 scram-sha-256\n\
                   host replication all 127.0.0.1/32 scram-sha-256\n";

/// Refuses what cannot be written as a line of `postgresql.conf` or is not the caller's to decide.
pub(crate) fn check(name: &str, value: &str) -> Result<(), Error> {
    let refuse = |reason| Err(Error::InvalidSetting { name: name.to_owned(), reason });
    let well_formed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if name.is_empty() || !name.chars().all(well_formed) {
        return refuse("has a name that PostgreSQL does not know; names are lower case letters, digits, `_` and `.`");
    }
    if RESERVED.contains(&name) {
        return refuse("is decided by the cluster itself and cannot be given");
    }
    if value.contains(['\n', '\r', '\0']) {
        return refuse("has a value of more than one line");
    }
    Ok(())
}

pub(crate) fn configuration_path(root: &Path) -> PathBuf {
    root.join("postgresql.conf")
}

pub(crate) fn authentication_path(root: &Path) -> PathBuf {
    root.join("pg_hba.conf")
}

/// Writes both files; the caller's settings win over the profile's.
pub(crate) fn write(root: &Path, profile: Profile, given: &BTreeMap<String, String>) -> Result<(), Error> {
    write_readable(&configuration_path(root), &render(profile, given))?;
    write_readable(&authentication_path(root), HBA)
}

fn render(profile: Profile, given: &BTreeMap<String, String>) -> String {
    let of_profile = match profile {
        Profile::Durable => DURABLE,
        Profile::Fast => FAST,
    };
    let mut settings: BTreeMap<&str, &str> = COMMON.iter().chain(of_profile).copied().collect();
    settings.extend(given.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut text = String::from("# Written at every start. Use ALTER SYSTEM for changes that shall stay.\n");
    for (name, value) in settings {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "''"));
    }
    text
}

/// No secret is in these files, and the server's user must read them.
fn write_readable(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::io("write", path))?;
    set_mode(path, 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_settings_win_and_are_quoted() {
        let given = BTreeMap::from([
            ("max_connections".to_owned(), "300".to_owned()),
            ("app.motto".to_owned(), r"it's a \ test".to_owned()),
        ]);
        let text = render(Profile::Fast, &given);
        assert!(text.contains("max_connections = '300'\n"));
        assert!(!text.contains("max_connections = '200'"));
        assert!(text.contains(r"app.motto = 'it''s a \\ test'"));
        assert!(text.contains("fsync = 'off'"));
    }

    #[test]
    fn the_durable_profile_keeps_fsync_on() {
        let text = render(Profile::Durable, &BTreeMap::new());
        assert!(!text.contains("fsync"));
    }

    #[test]
    fn settings_that_would_break_the_cluster_are_refused() {
        assert!(check("max_connections", "10").is_ok());
        for (name, value) in
            [("port", "1"), ("hba_file", "/x"), ("Work Mem", "1"), ("", "1"), ("work_mem", "1\nfsync=off")]
        {
            assert!(check(name, value).is_err(), "{name}");
        }
    }
}
