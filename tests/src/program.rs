//! The built binary as a child process.

mod binary;
mod dev;
mod serve;

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tenantry_domain::Secret;

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
        let mut command = tokio::process::Command::new(tenantry());
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
        let output = tokio::time::timeout(LIMIT, command.output()).await.expect("a command that ends");
        let output = output.expect("a command that starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ended { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs a command with `--output json`, which must succeed, and reads its answer.
    pub async fn json<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Value {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        let ended = self.run(arguments.chain(["--output".into(), "json".into()])).await.ok();
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}", ended.stdout))
    }
}

impl Ended {
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
