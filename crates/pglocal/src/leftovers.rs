//! Server processes that outlived their owner: found by their working directory, which for every process of a
//! server is its data directory, and stopped before anybody else uses or deletes it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::postmaster_pid::PostmasterPid;

const FAST_SHUTDOWN: Duration = Duration::from_secs(10);
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(3);
const AFTER_KILL: Duration = Duration::from_secs(5);

/// Every process of the server on this data directory, in no order.
pub(crate) fn processes_on(data_directory: &Path) -> Vec<Pid> {
    if Path::new("/proc/self/cwd").exists() {
        by_working_directory(data_directory)
    } else {
        by_postmaster_pid(data_directory)
    }
}

/// Ends whatever still runs on this data directory, and takes away the file that would keep a new server out. The
/// server itself looks whether the process of that number exists, and mistakes for its predecessor one that has ended
/// but is not collected (in a container whose first process collects none), or that got the number later.
pub(crate) fn clear(data_directory: &Path) {
    stop_all(data_directory);
    if processes_on(data_directory).is_empty() {
        // Mostly there is none; where it cannot be deleted, the server's own message says what to do.
        let _ = std::fs::remove_file(data_directory.join("postmaster.pid"));
    }
}

/// Asks first, kills in the end.
fn stop_all(data_directory: &Path) {
    if processes_on(data_directory).is_empty() {
        return;
    }
    tracing::info!(directory = %data_directory.display(), "stopping a PostgreSQL server that outlived its owner");
    // Backends cannot act on a signal while they are stopped.
    signal_all(data_directory, Signal::CONT);
    for (signal, patience) in [(Signal::INT, FAST_SHUTDOWN), (Signal::QUIT, IMMEDIATE_SHUTDOWN)] {
        // The main process passes the request on to its children. To a backend that lost its main process it means
        // "cancel" or "quit".
        signal_all_or_main(data_directory, signal);
        if wait_until_gone(data_directory, patience) {
            return;
        }
    }
    signal_all(data_directory, Signal::KILL);
    if !wait_until_gone(data_directory, AFTER_KILL) {
        tracing::warn!(directory = %data_directory.display(), "PostgreSQL processes survived SIGKILL");
    }
}

pub(crate) fn signal_all(data_directory: &Path, signal: Signal) {
    for pid in processes_on(data_directory) {
        // A process that ended meanwhile is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// `true` once no process is left.
pub(crate) fn wait_until_gone(data_directory: &Path, at_most: Duration) -> bool {
    let deadline = Instant::now() + at_most;
    while !processes_on(data_directory).is_empty() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

fn signal_all_or_main(data_directory: &Path, signal: Signal) {
    let running = processes_on(data_directory);
    let main = PostmasterPid::read(data_directory)
        .and_then(|file| Pid::from_raw(file.pid))
        .filter(|main| running.contains(main));
    match main {
        Some(main) => drop(kill_process(main, signal)),
        None => signal_all(data_directory, signal),
    }
}

fn by_working_directory(data_directory: &Path) -> Vec<Pid> {
    let Ok(real) = data_directory.canonicalize() else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            // Others' processes cannot be read, and are none of ours. The name check spares a shell that stands in
            // the directory.
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == real)
                && std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
        })
        .filter_map(Pid::from_raw)
        .collect()
}

/// Where there is no `/proc`: the main process and its children, if the main process names our directory.
fn by_postmaster_pid(data_directory: &Path) -> Vec<Pid> {
    let Some(file) = PostmasterPid::read(data_directory) else { return Vec::new() };
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid=,args="]).output() else { return Vec::new() };
    family(&String::from_utf8_lossy(&output.stdout), file.pid, &data_directory.to_string_lossy())
}

fn family(listing: &str, main: i32, data_directory: &str) -> Vec<Pid> {
    let rows: Vec<(i32, i32, &str)> = listing
        .lines()
        .filter_map(|line| {
            let (pid, rest) = line.trim_start().split_once(char::is_whitespace)?;
            let (parent, args) = rest.trim_start().split_once(char::is_whitespace)?;
            Some((pid.parse().ok()?, parent.parse().ok()?, args))
        })
        .collect();
    if !rows.iter().any(|(pid, _, args)| *pid == main && args.contains(data_directory)) {
        return Vec::new();
    }
    rows.iter()
        .filter(|(pid, parent, _)| *pid == main || *parent == main)
        .filter_map(|(pid, ..)| Pid::from_raw(*pid))
        .collect()
}

#[cfg(test)]
mod tests {
    use rustix::process::Pid;

    use super::family;

    #[test]
    fn a_process_listing_gives_the_main_process_and_its_children() {
        let listing = "    1     0 /sbin/launchd\n  77     1 /opt/pg/bin/postgres -D /tmp/c/data\n   78    77 postgres: checkpointer\n   79     1 postgres: checkpointer\n";
        let pids: Vec<_> = family(listing, 77, "/tmp/c/data").into_iter().map(Pid::as_raw_nonzero).collect();
        assert_eq!(pids.iter().map(|pid| pid.get()).collect::<Vec<_>>(), [77, 78]);
    }

    #[test]
    fn a_reused_process_id_is_left_alone() {
        assert!(family("  77     1 /usr/bin/editor\n", 77, "/tmp/c/data").is_empty());
    }
}
