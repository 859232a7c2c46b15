//! The user that the server's processes run as. PostgreSQL refuses to run as root.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// Whom the server runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerUser {
    /// This process is an ordinary user: the server runs as the same.
    Same,
    /// This process is root: the server runs as someone without privileges.
    Dropped { name: String, uid: u32, gid: u32 },
}

impl ServerUser {
    pub(crate) fn choose() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Same);
        }
        let path = "/etc/passwd";
        let users = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        ["postgres", "nobody"].into_iter().find_map(|name| lookup(&users, name)).ok_or(Error::NoServerUser)
    }

    /// A command that runs as this user, in `/`, without this process's environment: the server hands its
    /// environment to whatever a superuser executes, and variables such as `PGOPTIONS` would change it.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        for name in ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Self::Dropped { uid, gid, .. } = self {
            // As root, the standard library drops the supplementary groups together with the user.
            command.gid(*gid).uid(*uid);
        }
        command
    }

    /// Gives `path` (itself, not what a link points to) to this user.
    pub(crate) fn take_over(&self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Same => Ok(()),
            Self::Dropped { uid, gid, .. } => {
                std::os::unix::fs::lchown(path, Some(*uid), Some(*gid)).map_err(Error::io("give away", path))
            }
        }
    }

    /// Makes a directory for this user's own use.
    pub(crate) fn make_private_directory(&self, path: &Path) -> Result<(), Error> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create the directory", path)(error));
            }
            _ => {}
        }
        set_mode(path, 0o700)?;
        self.take_over(path)
    }

    /// The mode of a directory of ours that this user must pass through.
    pub(crate) fn passage_mode(&self) -> u32 {
        match self {
            Self::Same => 0o700,
            Self::Dropped { .. } => 0o711,
        }
    }

    /// Fails when a data directory that exists belongs to somebody else, which PostgreSQL refuses.
    pub(crate) fn check_ownership(&self, data_directory: &Path) -> Result<(), Error> {
        let expected = match self {
            Self::Same => rustix::process::geteuid().as_raw(),
            Self::Dropped { uid, .. } => *uid,
        };
        let owner = data_directory.metadata().map_err(Error::io("inspect", data_directory))?.uid();
        if owner == expected {
            return Ok(());
        }
        Err(Error::WrongOwner { data_directory: data_directory.to_owned(), owner, expected })
    }

    /// Fails when this user cannot enter `directory` or one of its parents. `directory` must exist.
    pub(crate) fn check_passage(&self, directory: &Path) -> Result<(), Error> {
        let Self::Dropped { name, uid, gid } = self else { return Ok(()) };
        let real = directory.canonicalize().map_err(Error::io("resolve", directory))?;
        for ancestor in real.ancestors() {
            let metadata = ancestor.metadata().map_err(Error::io("inspect", ancestor))?;
            let needed = if metadata.uid() == *uid {
                0o100
            } else if metadata.gid() == *gid {
                0o010
            } else {
                0o001
            };
            if metadata.permissions().mode() & needed == 0 {
                return Err(Error::NotTraversable {
                    directory: directory.to_owned(),
                    blocked_by: ancestor.to_owned(),
                    user: name.clone(),
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::io("set permissions of", path))
}

fn lookup(passwd: &str, name: &str) -> Option<ServerUser> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    let uid = id(fields.nth(1)?)?;
    let gid = id(fields.next()?)?;
    (uid != 0).then(|| ServerUser::Dropped { name: name.to_owned(), uid, gid })
}

/// An id as `/etc/passwd` writes it; macOS writes `nobody`'s as `-2`.
fn id(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().or_else(|| text.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
                          nobody:*:-2:-2:Unprivileged User:/var/empty:/usr/bin/false\n\
                          postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn users_are_read_from_the_password_file() {
        let postgres = ServerUser::Dropped { name: "postgres".into(), uid: 101, gid: 104 };
        assert_eq!(lookup(PASSWD, "postgres"), Some(postgres));
        let nobody = ServerUser::Dropped { name: "nobody".into(), uid: u32::MAX - 1, gid: u32::MAX - 1 };
        assert_eq!(lookup(PASSWD, "nobody"), Some(nobody));
        assert_eq!(lookup(PASSWD, "postgre"), None);
    }

    #[test]
    fn a_server_never_runs_as_root_by_another_name() {
        assert_eq!(lookup("postgres:x:0:0::/:/bin/sh\n", "postgres"), None);
    }

    #[test]
    fn a_data_directory_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let stranger = ServerUser::Dropped { name: "postgres".into(), uid: 61234, gid: 61234 };
        let error = stranger.check_ownership(directory.path()).unwrap_err();
        assert!(matches!(error, Error::WrongOwner { expected: 61234, .. }), "{error}");
        ServerUser::Same.check_ownership(directory.path()).unwrap();
    }

    #[test]
    fn a_closed_parent_is_named() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().canonicalize().unwrap();
        let inner = closed.join("cluster");
        std::fs::create_dir(&inner).unwrap();
        set_mode(&inner, 0o711).unwrap();
        set_mode(&closed, 0o700).unwrap();
        let stranger = ServerUser::Dropped { name: "postgres".into(), uid: 61234, gid: 61234 };

        let error = stranger.check_passage(&inner).unwrap_err();
        let Error::NotTraversable { blocked_by, .. } = &error else { panic!("{error}") };
        assert_eq!(blocked_by, &closed);

        set_mode(&closed, 0o711).unwrap();
        stranger.check_passage(&inner).unwrap();
    }
}
