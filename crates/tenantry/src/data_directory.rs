//! Where `tenantry dev` keeps its world unless told otherwise, and the profile that it leaves there for the client
//! commands.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The profile's name in the data directory.
pub(crate) const PROFILE_FILE: &str = "dev.json";

/// Where root's world is: PostgreSQL never runs as root, and the user that it runs as cannot enter root's home.
const OF_ROOT: &str = "/var/lib";

/// `$XDG_DATA_HOME/tenantry/dev`, else `/var/lib/tenantry/dev` for root and `~/.local/share/tenantry/dev` for others;
/// `None` where no variable names an absolute path, so that nothing is ever written relative to wherever the program
/// happens to run.
pub(crate) fn default_data_directory() -> Option<PathBuf> {
    let is_root = rustix::process::geteuid().is_root();
    data_directory(std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME"), is_root)
}

/// The profile in a data directory.
pub(crate) fn profile_path(data_directory: &Path) -> PathBuf {
    data_directory.join(PROFILE_FILE)
}

fn data_directory(xdg_data_home: Option<OsString>, home: Option<OsString>, is_root: bool) -> Option<PathBuf> {
    // The XDG specification has relative paths ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || if is_root { Some(OF_ROOT.into()) } else { absolute(home).map(|home| home.join(".local/share")) };
    let base = absolute(xdg_data_home).or_else(own)?;
    Some(base.join("tenantry").join("dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(xdg_data_home: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        data_directory(xdg_data_home.map(OsString::from), home.map(OsString::from), false)
    }

    #[test]
    fn the_data_directory_follows_xdg_then_home() {
        assert_eq!(directory(Some("/data"), Some("/home/a")), Some("/data/tenantry/dev".into()));
        assert_eq!(directory(None, Some("/home/a")), Some("/home/a/.local/share/tenantry/dev".into()));
        assert_eq!(directory(Some(""), Some("/home/a")), Some("/home/a/.local/share/tenantry/dev".into()));
    }

    #[test]
    fn roots_world_is_where_a_server_can_reach_it() {
        let of_root = |xdg: Option<&str>| data_directory(xdg.map(OsString::from), Some("/root".into()), true);
        assert_eq!(of_root(None), Some("/var/lib/tenantry/dev".into()));
        assert_eq!(of_root(Some("/data")), Some("/data/tenantry/dev".into()));
    }

    #[test]
    fn a_relative_path_is_never_used() {
        assert_eq!(directory(Some("data"), None), None);
        assert_eq!(directory(None, Some("home")), None);
        assert_eq!(directory(None, None), None);
    }

    #[test]
    fn the_profile_lies_in_the_data_directory() {
        assert_eq!(profile_path(Path::new("/data")), Path::new("/data/dev.json"));
    }
}
