//! What is left of a cluster when its owner is killed: nothing that runs, and nothing that keeps the next owner out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed preparation is a failed test"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{connect, eventually, open_folder, processes_of};
use rustix::process::{Pid, Signal, kill_process};
use tenantry_pglocal::{Binaries, Cluster, Error, Profile};

const MARK: &str = "the cluster is in ";

#[tokio::test]
async fn the_server_stops_when_its_owner_is_killed() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    let (mut owner, _) = start_owner(Some(&directory), "TENANTRY_PGLOCAL_NOTHING");
    let error = Cluster::at(&directory).start().await.unwrap_err();
    assert!(matches!(&error, Error::Locked { holder, .. } if *holder == Some(owner.id())), "{error}");

    kill(&mut owner);
    eventually("no process is left", || processes_of(&directory).is_empty()).await;
    let pid_file = directory.join("data/postmaster.pid");
    assert!(!pid_file.exists(), "the server was to stop in order");

    let heir = Cluster::at(&directory).start().await.unwrap();
    let row = connect(&heir).await.query_one("SELECT count(*) FROM kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    heir.stop().await.unwrap();
}

#[tokio::test]
async fn a_temporary_cluster_disappears_when_its_owner_is_killed() {
    let (mut owner, directory) = start_owner(None, "TENANTRY_PGLOCAL_NOTHING");
    kill(&mut owner);
    eventually("directory and processes are gone", || !directory.exists() && processes_of(&directory).is_empty()).await;
}

#[tokio::test]
async fn a_paused_temporary_cluster_disappears_too() {
    let (mut owner, directory) = start_owner(None, "TENANTRY_PGLOCAL_PAUSE");
    kill(&mut owner);
    eventually("directory and processes are gone", || !directory.exists() && processes_of(&directory).is_empty()).await;
}

#[tokio::test]
async fn an_owner_that_exits_without_dropping_leaves_no_server() {
    let (mut owner, directory) = start_owner(None, "TENANTRY_PGLOCAL_EXIT");
    owner.wait().unwrap();
    eventually("directory and processes are gone", || !directory.exists() && processes_of(&directory).is_empty()).await;
}

#[tokio::test]
async fn the_next_owner_ends_a_server_that_nobody_stopped() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    let first = Cluster::at(&directory).profile(Profile::Fast).start().await.unwrap();
    let (data, socket) = (first.data_dir(), folder.path().join("socket"));
    first.stop().await.unwrap();
    let mut server = start_server_by_hand(&data, &socket);
    eventually("the other server runs", || {
        std::fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| text.contains("ready"))
    })
    .await;

    let heir = Cluster::at(&directory).start().await.unwrap();
    assert!(server.try_wait().unwrap().is_some());
    connect(&heir).await;
    heir.stop().await.unwrap();
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn after_a_crash_of_owner_and_server_the_next_owner_recovers() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    let (mut owner, _) = start_owner(Some(&directory), "TENANTRY_PGLOCAL_NOTHING");
    kill_process(postmaster(&directory), Signal::KILL).unwrap();
    kill(&mut owner);
    assert!(directory.join("data/postmaster.pid").exists());

    let heir = Cluster::at(&directory).start().await.unwrap();
    let row = connect(&heir).await.query_one("SELECT count(*) FROM kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
    heir.stop().await.unwrap();
}

#[tokio::test]
async fn directories_of_dead_owners_are_swept_by_the_next_start() {
    let folder = open_folder();
    let first = Cluster::temporary().below(folder.path()).start().await.unwrap();
    let abandoned = first.dir().with_file_name("c-0000000000000000");
    std::fs::create_dir(&abandoned).unwrap();
    std::fs::write(abandoned.join("lock"), "1\n").unwrap();
    let second = Cluster::temporary().below(folder.path()).start().await.unwrap();
    assert!(!abandoned.exists());
    assert!(first.dir().exists());
    connect(&first).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// Not a test of its own: the tests above run it in a process of its own, and kill it.
#[tokio::test]
#[ignore = "run by other tests in a process of its own"]
async fn an_owner_of_a_cluster() {
    let builder = match std::env::var_os("TENANTRY_PGLOCAL_DIRECTORY") {
        Some(directory) => Cluster::at(directory).profile(Profile::Fast),
        None => Cluster::temporary(),
    };
    let cluster = builder.start().await.unwrap();
    let client = connect(&cluster).await;
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();
    if std::env::var_os("TENANTRY_PGLOCAL_PAUSE").is_some() {
        cluster.pause().await.unwrap();
    }
    println!("{MARK}{}", cluster.dir().display());
    if std::env::var_os("TENANTRY_PGLOCAL_EXIT").is_some() {
        std::process::exit(0);
    }
    std::future::pending::<()>().await;
}

/// Starts a process that owns a cluster; `flag` is an environment variable that tells it what else to do.
fn start_owner(directory: Option<&Path>, flag: &str) -> (Child, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "an_owner_of_a_cluster", "--ignored", "--nocapture"]).env(flag, "1");
    if let Some(directory) = directory {
        command.env("TENANTRY_PGLOCAL_DIRECTORY", directory);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, directory)) = line.split_once(MARK) {
            return (child, PathBuf::from(directory.trim()));
        }
        line.clear();
    }
    panic!("the owner started no cluster: {}", child.wait().unwrap());
}

/// Starts a server on a cluster's data directory as no owner would: nothing ends it.
fn start_server_by_hand(data: &Path, socket: &Path) -> Child {
    let owner = data.metadata().unwrap();
    std::fs::create_dir(socket).unwrap();
    std::os::unix::fs::chown(socket, Some(owner.uid()), Some(owner.gid())).unwrap();
    let binaries = Binaries::find(None).unwrap();
    let mut command = Command::new(binaries.folder().join("postgres"));
    command.arg("-D").arg(data).arg("-k").arg(socket).args(["-c", "listen_addresses="]).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.gid(owner.gid()).uid(owner.uid());
    }
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(owner: &mut Child) {
    owner.kill().unwrap();
    owner.wait().unwrap();
}

fn postmaster(directory: &Path) -> Pid {
    let file = std::fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap()
}
