//! `tenantry dev` as a child process.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tenantry_domain::Secret;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{LIMIT, Program, tenantry};

/// A running `tenantry dev`. Told to stop, it takes its PostgreSQL servers along.
#[derive(Debug)]
pub struct Dev {
    child: Child,
    directory: PathBuf,
    /// What it said of itself.
    pub welcome: Value,
}

impl Dev {
    /// Starts it over a data directory and waits until it says where it is.
    pub async fn start(directory: &Path) -> Self {
        let mut child = Command::new(tenantry())
            .args(["dev", "--output", "json", "--data-dir"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Its progress, for people.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a program that starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its standard output")).lines();
        let reading = async {
            let mut said = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                said.push_str(&line);
                if let Ok(welcome) = serde_json::from_str::<Value>(&said) {
                    return welcome;
                }
            }
            panic!("it ended without a word of where it is: {said}");
        };
        let welcome = tokio::time::timeout(LIMIT, reading).await.expect("a world in time");
        Self { child, directory: directory.to_owned(), welcome }
    }

    /// Commands for it.
    pub fn program(&self) -> Program {
        let text = |field: &str| self.welcome[field].as_str().expect("a field of the welcome").to_owned();
        Program::new(&text("api_url"), &Secret::new(text("token")))
    }

    /// Ctrl-C or SIGTERM, and waits for its end.
    pub async fn signal(mut self, signal: Signal) -> ExitStatus {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("a child that runs");
        kill_process(pid, signal).expect("a signal");
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("a program that ends").expect("its status")
    }

    /// Its command line and those of all processes that were started over its directory.
    pub fn processes(&self) -> Vec<String> {
        processes_of(&self.directory)
    }
}

/// The command lines of all processes that name a directory.
pub fn processes_of(directory: &Path) -> Vec<String> {
    let name = directory.to_str().expect("a path that is text");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let lines = entries.flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(name)).collect()
}
