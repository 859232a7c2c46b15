//! Makes a data directory as a copy of a running cluster's, to follow it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::binaries::Binaries;
use crate::builder::Profile;
use crate::error::Error;
use crate::file_tree;
use crate::initialise::{SUPERUSER, failed, keep, said};
use crate::server_user::ServerUser;

/// The cluster that is followed.
#[derive(Clone)]
pub(crate) struct Primary {
    pub(crate) socket_directory: PathBuf,
    pub(crate) port: u16,
    /// The superuser's, on the copy as well.
    pub(crate) password: String,
}

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Primary").field("socket_directory", &self.socket_directory).finish_non_exhaustive()
    }
}

/// Makes `root/data`. A crash on the way leaves no `data`, and the next start begins anew.
pub(crate) fn make_data_directory(
    root: &Path,
    binaries: &Binaries,
    user: &ServerUser,
    primary: &Primary,
    profile: Profile,
) -> Result<(), Error> {
    let fresh = root.join("data.new");
    file_tree::remove(&fresh)?;
    user.make_private_directory(&fresh)?;
    let program = binaries.client_program("pg_basebackup");
    let mut command = user.command(&program);
    command.arg("--pgdata").arg(&fresh).arg("--host").arg(&primary.socket_directory);
    command.args(["--port", &primary.port.to_string(), "--username", SUPERUSER, "--no-password"]);
    // With what the server needs to follow: where its primary is, and the mark that says that it has one.
    command.args(["--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]);
    command.env("PGPASSWORD", &primary.password).stdin(Stdio::null());
    let run = command.output().map_err(Error::io("run", &program))?;
    if !run.status.success() {
        return Err(failed("pg_basebackup", &fresh, &said(&run)));
    }
    keep(root, &fresh, profile)
}
