//! `tenantry serve` as a child process.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tenantry_testkit::eventually;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::{LIMIT, tenantry};
use crate::world::World;

/// A running `tenantry serve`. Killed when it is dropped.
#[derive(Debug)]
pub struct Serve {
    child: Child,
    url: String,
    log: Log,
}

/// What a program has said so far on standard output and standard error.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Serve {
    /// Starts one more replica over the catalog of a world, and waits until it is up.
    pub async fn start(world: &World<'_>) -> Self {
        Self::start_with(world, &[]).await
    }

    /// The same with settings of its own, as environment variables.
    pub async fn start_with(world: &World<'_>, settings: &[(&str, &str)]) -> Self {
        let (catalog, keys) = world.catalog();
        let mut child = Command::new(tenantry())
            .arg("serve")
            .env("TENANTRY__CATALOG__URL", catalog.expose())
            .env("TENANTRY__SECRETS__MASTER_KEYS", keys.expose())
            .env("TENANTRY__SERVER__LISTEN", "127.0.0.1:0")
            // As soon as the configuration allows: what a killed replica held is taken over then.
            .env("TENANTRY__CONTROL__LEASE", "1s")
            .env("TENANTRY__CONTROL__ROTATION_OVERLAP", "0s")
            // Tests count what is on their servers.
            .env("TENANTRY__CONTROL__WARM_POOL_MAX", "0")
            .env("TENANTRY__CONTROL__DRIFT_SAMPLE", "0")
            .env("TENANTRY__WEBHOOKS__ALLOW_LOOPBACK", "true")
            .env("TENANTRY__WEBHOOKS__TIMEOUT", "1s")
            .env("TENANTRY__TELEMETRY__LOG_FORMAT", "json")
            .env("TENANTRY__TELEMETRY__LOG_FILTER", "debug,hyper=info,h2=info")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a program that starts");
        let log = Log::default();
        tokio::spawn(log.clone().take_down(child.stdout.take().expect("its standard output")));
        tokio::spawn(log.clone().take_down(child.stderr.take().expect("its standard error")));
        let mut url = None;
        eventually("the control plane is up", async || {
            if let Some(status) = child.try_wait().expect("a look at the child") {
                panic!("it ended with {status}: {}", log.text());
            }
            url = log.url();
            url.is_some()
        })
        .await;
        Self { child, url: url.expect("a URL"), log }
    }

    /// Where its door is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A line of its `/proc/…/status` that tells memory, such as `VmRSS` or `VmHWM`, in megabytes.
    pub fn memory_mb(&self, line: &str) -> f64 {
        let pid = self.pid().expect("a process that runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let kilobytes =
            status.lines().find_map(|it| it.strip_prefix(line)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
        kilobytes.and_then(|text| text.trim().parse::<f64>().ok()).expect("a number of kilobytes") / 1024.0
    }

    /// All that it has said so far; its log is on standard error.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Whether it has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a look at the child").is_some()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }

    /// `kill -9`.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child that can be killed");
    }

    /// `SIGTERM`, and waits for its end.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        tokio::time::timeout(LIMIT, self.child.wait()).await.expect("a program that ends").expect("its status")
    }
}

impl Log {
    async fn take_down(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.lines().push(line);
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn text(&self) -> String {
        self.lines().join("\n")
    }

    fn url(&self) -> Option<String> {
        let lines = self.lines();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut up = events.filter(|event| event["message"] == "the control plane is up");
        up.find_map(|event| Some(event["url"].as_str()?.to_owned()))
    }
}
