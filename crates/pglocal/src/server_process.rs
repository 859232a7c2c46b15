//! The server's main process (postmaster) as a child of ours.

use std::io;
use std::process::{Command, ExitStatus};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::death_signal;

/// A running or ended postmaster. One thread per server spawns it and lives until it has ended: the parent-death
/// signal is tied to that thread, so it must be neither a pool's nor the caller's.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    pid: Pid,
    exit: Arc<Exit>,
}

#[derive(Debug, Default)]
struct Exit {
    status: Mutex<Option<ExitStatus>>,
    ended: Condvar,
}

impl ServerProcess {
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        death_signal::stop_with_spawning_thread(&mut command);
        let exit = Arc::new(Exit::default());
        let (report, started) = mpsc::sync_channel(1);
        let shared = Arc::clone(&exit);
        std::thread::Builder::new()
            .name("postgres-keeper".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || keep(command, &report, &shared))?;
        let pid = started.recv().unwrap_or_else(|_| Err(io::Error::other("the keeping thread died")))?;
        Ok(Self { pid, exit })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.exit.lock()
    }

    /// Sends `signal` unless the server has ended. Its process id cannot have been reused: it is collected under
    /// the same lock.
    pub(crate) fn signal(&self, signal: Signal) {
        let status = self.exit.lock();
        if status.is_none()
            && let Err(error) = kill_process(self.pid, signal)
        {
            tracing::warn!(pid = %self.pid.as_raw_nonzero(), %error, "could not signal PostgreSQL");
        }
    }

    /// Waits for the end of the server, at most this long.
    pub(crate) fn wait(&self, at_most: Duration) -> Option<ExitStatus> {
        let status = self.exit.lock();
        let (status, _) = self
            .exit
            .ended
            .wait_timeout_while(status, at_most, |status| status.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        *status
    }
}

impl Exit {
    fn lock(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(mut command: Command, report: &mpsc::SyncSender<io::Result<Pid>>, exit: &Exit) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = report.send(Err(error));
            return;
        }
    };
    let pid = Pid::from_child(&child);
    let _ = report.send(Ok(pid));
    // Learns of the end without collecting the process, so that the collection can happen under the lock.
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {}
    let mut status = exit.lock();
    *status = Some(child.wait().unwrap_or_default());
    exit.ended.notify_all();
}
