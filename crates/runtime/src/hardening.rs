//! Keeping what is in this process's memory out of files and out of other processes.

use rustix::process::{Resource, Rlimit, setrlimit};

/// Forbids core dumps of this process and of the programs that it starts, and lets nobody but root attach to it or read
/// its memory and environment. Failing is reported and not fatal: a system that cannot do so leaves the rest as it is.
pub fn forbid_core_dumps() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
