//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit of open files to at least `wanted`, as far as the system allows, and says what it is now;
/// `None` means that there is none. Many systems start programs with 1,024, which a thousand connections exceed.
pub fn allow_open_files(wanted: u64) -> std::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return Ok(None) };
    let raised = limit.maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if raised <= current {
        return Ok(Some(current));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum })?;
    Ok(Some(raised))
}
