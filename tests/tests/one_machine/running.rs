//! A program that stays until it is told to end.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tenantry_api::{Client, ClientConfig, ListClusters};
use tenantry_domain::Secret;
use tenantry_testkit::eventually;
use tenantry_tests::tenantry;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

/// Names the folder of PostgreSQL's programs.
const BINARIES: &str = "TENANTRY_POSTGRES_BIN";

/// `tenantry` with some arguments. Killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Heard,
    stderr: Heard,
    listening: [JoinHandle<()>; 2],
}

/// How it ended, and all that it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

type Heard = Arc<Mutex<String>>;

impl Running {
    /// Starts it without the settings of the person who runs the tests.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::spawn(command(arguments))
    }

    /// The same, with a folder named for PostgreSQL's programs that has none.
    pub(crate) fn without_postgresql<S: AsRef<OsStr>>(folder: &Path, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = command(arguments);
        command.env(BINARIES, folder);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("a program that starts");
        let (stdout, stderr) = (Heard::default(), Heard::default());
        let listening = [
            tokio::spawn(hear(child.stdout.take().expect("its standard output"), Arc::clone(&stdout))),
            tokio::spawn(hear(child.stderr.take().expect("its standard error"), Arc::clone(&stderr))),
        ];
        Self { child, stdout, stderr, listening }
    }

    /// Waits until it has said something on standard output; answers with all that it said.
    pub(crate) async fn says(&mut self, text: &str) -> String {
        eventually(text, async || {
            if let Some(status) = self.child.try_wait().expect("a look at the child") {
                panic!("it ended with {status}: {}", heard(&self.stderr));
            }
            heard(&self.stdout).contains(text)
        })
        .await;
        heard(&self.stdout)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("a child that runs")
    }

    pub(crate) async fn signalled(self, signal: Signal) -> Ended {
        let pid = Pid::from_raw(self.id().cast_signed()).expect("a process");
        kill_process(pid, signal).expect("a signal");
        self.ended().await
    }

    pub(crate) async fn ended(mut self) -> Ended {
        let status = self.child.wait().await.expect("its status");
        for listening in self.listening {
            listening.await.expect("all that it said");
        }
        Ended { status, stdout: heard(&self.stdout), stderr: heard(&self.stderr) }
    }
}

fn command<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(tenantry());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENANTRY_") && name != BINARIES {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

async fn hear(from: impl AsyncRead + Unpin, heard: Heard) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push_str(&line);
        heard.push('\n');
    }
}

fn heard(heard: &Heard) -> String {
    heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A client of a control plane.
pub(crate) fn client(url: &str, token: &str) -> Client {
    let config = ClientConfig::new(url, Some(Secret::new(token.to_owned()))).expect("a URL");
    Client::new(config).expect("a client")
}

/// Every port that a world listens on: the control plane's and those of its servers.
pub(crate) async fn addresses(url: &str, client: &Client) -> Vec<SocketAddr> {
    let clusters = client.list_clusters(&ListClusters::default()).await.expect("clusters");
    let of_clusters = clusters.items.iter().map(|cluster| format!("{}:{}", cluster.host, cluster.port));
    let of_api = url.trim_start_matches("http://").to_owned();
    of_clusters.chain([of_api]).map(|address| address.parse().expect("an address")).collect()
}

/// Whether somebody listens there.
pub(crate) fn answers(address: &SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}
