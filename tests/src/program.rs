//! The built binary as a child process.

mod binary;
mod dev;
mod serve;

use std::ffi::OsStr;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tenantry_domain::Secret;
use tenantry_testkit::eventually;
use tokio::process::{Child, Command};

pub use binary::tenantry;
pub use dev::{Dev, processes_of};
pub use serve::Serve;

/// The longest that one command may take before it counts as hanging.
const LIMIT: Duration = Duration::from_mins(2);

/// A command line of `tenantry` against one control plane, with a home directory of its own, so that no profile of the
/// person who runs the tests has a say.
#[derive(Debug, Clone)]
pub struct Program {
    home: Arc<TempDir>,
    url: String,
    token: Secret,
    environment: Vec<(&'static str, String)>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// What it said on standard output.
    pub stdout: String,
    /// What it said on standard error.
    pub stderr: String,
}

impl Program {
    /// Commands for the control plane at a URL.
    pub fn new(url: &str, token: &Secret) -> Self {
        let home = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Self { home, url: url.to_owned(), token: token.clone(), environment: Vec::new() }
    }

    /// The same with one more variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Runs a command to its end.
    pub async fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Ended {
        let output = self.command(arguments).output();
        Ended::of(tokio::time::timeout(LIMIT, output).await.expect("a command that ends"))
    }

    /// Starts a command, and lets it be; killed when it is dropped.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        let child = self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.expect("a command that starts")
    }

    /// Runs a command, and sends it a signal once something has come about and the command listens to that signal.
    pub async fn interrupt<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        signal: Signal,
        once: impl Future<Output = ()>,
    ) -> Ended {
        let child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child = child.expect("a command that starts");
        once.await;
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).expect("it still runs");
        eventually("the command listens to the signal", async || catches(pid, signal)).await;
        kill_process(pid, signal).expect("a signal that is sent");
        Ended::of(tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("a command that ends"))
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(tenantry());
        command
            .args(arguments)
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("TENANTRY_URL", &self.url)
            .env("TENANTRY_TOKEN", self.token.expose())
            .env_remove("TENANTRY_OUTPUT")
            .env_remove("TENANTRY_CONFIG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command with `--output json`, which must succeed, and reads its answer.
    pub async fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        let ended = self.run(arguments.chain(["--output".into(), "json".into()])).await.ok();
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }
}

/// Whether a process has a handler for a signal.
fn catches(pid: Pid, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    caught & (1 << (signal.as_raw() - 1)) != 0
}

impl Ended {
    fn of(output: std::io::Result<Output>) -> Self {
        let output = output.expect("a command that starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The command, which must have succeeded.
    #[allow(clippy::return_self_not_must_use, reason = "asserting is a use")]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{}: {}{}", self.status, self.stdout, self.stderr);
        self
    }

    /// The exit code; a signal is none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}
