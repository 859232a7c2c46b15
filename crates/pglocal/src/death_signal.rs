//! Ties the life of a child process to the thread that spawns it. The one place with `unsafe` code: the standard
//! library offers no safe way to run a system call between fork and exec.

use std::process::Command;

/// Has the kernel send SIGINT (PostgreSQL: disconnect everybody and stop) to the command's process once the
/// spawning *thread* ends, be it by `kill -9` of its process. Linux only; elsewhere nothing happens here and the
/// warden process does the work.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "pre_exec runs in the forked child, where only async-signal-safe calls are sound")]
pub(crate) fn stop_with_spawning_thread(command: &mut Command) {
    use std::io;
    use std::os::unix::process::CommandExt;

    use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

    let parent = getpid();
    let arrange = move || {
        set_parent_process_death_signal(Some(Signal::INT))?;
        // The parent may have died before the signal was arranged: then nobody would ever stop this child.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from_raw_os_error(3)) }
    };
    // SAFETY: the closure makes two plain system calls, allocates nothing and takes no lock. It runs after the
    // change of user, which would clear the setting.
    unsafe {
        command.pre_exec(arrange);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stop_with_spawning_thread(_command: &mut Command) {}
