//! What the tests of this crate share: a client, and a look at what is left of a cluster.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tenantry_pglocal::Cluster;
use tokio_postgres::{Client, Config, NoTls};

pub(crate) fn config(cluster: &Cluster) -> Config {
    let mut config = Config::new();
    config
        .host(cluster.host())
        .port(cluster.port())
        .user(cluster.user())
        .password(cluster.password())
        .dbname("postgres")
        .connect_timeout(Duration::from_secs(10));
    config
}

pub(crate) async fn connect(cluster: &Cluster) -> Client {
    let (client, connection) = config(cluster).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The processes whose command line or working directory names `directory`.
pub(crate) fn processes_of(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        // An ended process that nobody has collected has no command line and no working directory.
        if command.contains(&*directory.to_string_lossy()) || cwd.starts_with(directory) {
            found.push(format!("{} {command}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Waits for `condition`; a test that waits in vain fails here rather than by a time of its own.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !condition() {
        assert!(Instant::now() < deadline, "still not the case: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A folder that the server's user may pass through; a temporary one is closed to others by default.
pub(crate) fn open_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
