//! A password file as PostgreSQL's programs read one, that nobody finds in a file system.

use std::fs::{File, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};
use tenantry_domain::{Endpoint, Secret};
use zeroize::Zeroizing;

/// A file without a name, for one server and role. It is gone with the last program that has it open, however that ends.
#[derive(Debug)]
pub(super) struct PasswordFile(File);

impl PasswordFile {
    /// With the one line that lets the role in at the endpoint, into any database.
    pub(super) fn new(endpoint: &Endpoint, role: &str, password: &Secret) -> io::Result<Self> {
        let mut file = nameless()?;
        // libpq reads no file that others could.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(line(endpoint, role, password).as_bytes())?;
        file.rewind()?;
        Ok(Self(file))
    }

    /// The name by which this process, and the one that it becomes, can open it.
    pub(super) fn path(&self) -> PathBuf {
        format!("/dev/fd/{}", self.0.as_raw_fd()).into()
    }

    /// Lets it stay open when this process becomes another program.
    pub(super) fn hand_over(&self) -> io::Result<()> {
        Ok(fcntl_setfd(&self.0, FdFlags::empty())?)
    }
}

/// In memory alone.
#[cfg(target_os = "linux")]
fn nameless() -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create("tenantry-psql", MemfdFlags::CLOEXEC)?.into())
}

/// Private from its first moment, and without its name from the second.
#[cfg(not(target_os = "linux"))]
fn nameless() -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = std::env::temp_dir().join(format!("tenantry-psql-{}", uuid::Uuid::now_v7().simple()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// `host:port:database:role:password`.
fn line(endpoint: &Endpoint, role: &str, password: &Secret) -> Zeroizing<String> {
    // libpq looks for a socket's folder under a name that depends on how it was built.
    let host = if endpoint.host().starts_with('/') { escaped("*") } else { escaped(endpoint.host()) };
    let password = escaped(password.expose());
    Zeroizing::new(format!("{}:{}:*:{}:{}\n", *host, endpoint.port(), *escaped(role), *password))
}

fn escaped(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.replace('\\', "\\\\").replace(':', "\\:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_for_one_server_and_role_and_what_would_split_it_is_escaped() {
        let line = |endpoint: &str| {
            let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
            line(&endpoint, "h_1_a", &Secret::new(r"a:b\c".to_owned())).to_string()
        };
        assert_eq!(line("db.example.com:5433"), "db.example.com:5433:*:h_1_a:a\\:b\\\\c\n");
        assert_eq!(line("[::1]:5433"), "\\:\\:1:5433:*:h_1_a:a\\:b\\\\c\n");
    }

    #[test]
    fn nobody_else_may_read_it_and_it_has_no_name() {
        use std::os::unix::fs::MetadataExt;
        let endpoint: Endpoint = "127.0.0.1:1".parse().expect("an endpoint");
        let file = PasswordFile::new(&endpoint, "h_1_a", &Secret::new("hunter2".to_owned())).expect("made");
        let found = std::fs::metadata(file.path()).expect("there");
        assert!(found.is_file());
        assert_eq!((found.mode() & 0o777, found.nlink()), (0o600, 0));
        assert!(std::fs::read_to_string(file.path()).expect("readable").ends_with(":hunter2\n"));
        let path = file.path();
        drop(file);
        assert!(std::fs::read_to_string(path).map_or(true, |text| !text.contains("hunter2")));
    }
}
