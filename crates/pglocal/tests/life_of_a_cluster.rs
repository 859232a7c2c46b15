//! A cluster from its start to its end, with a client looking on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed preparation is a failed test")]

mod common;

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::{config, connect, eventually, open_folder, processes_of};
use tenantry_pglocal::{Cluster, Error, Listen, Profile};
use tokio_postgres::{Client, NoTls};

#[tokio::test]
async fn a_temporary_cluster_answers_queries_and_leaves_nothing() {
    let cluster = Cluster::temporary().start().await.unwrap();
    let client = connect(&cluster).await;
    assert_eq!(show(&client, "wal_level").await, "logical");
    assert_eq!(show(&client, "password_encryption").await, "scram-sha-256");
    assert_eq!(show(&client, "server_encoding").await, "UTF8");
    assert_eq!(show(&client, "fsync").await, "off");
    let major: i32 = show(&client, "server_version_num").await.parse::<i32>().unwrap() / 10_000;
    assert_eq!(u32::try_from(major).unwrap(), cluster.version().major);

    let directory = cluster.dir().to_owned();
    assert!(!processes_of(&directory).is_empty());
    cluster.stop().await.unwrap();
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn a_standby_is_a_copy_that_follows() {
    let primary = Cluster::temporary().listen(Listen::AnyPort).setting("max_connections", "250").start().await.unwrap();
    let writer = connect(&primary).await;
    writer.batch_execute("CREATE TABLE notes (body text); INSERT INTO notes VALUES ('before')").await.unwrap();
    let standby = primary.standby().start().await.unwrap();
    assert_eq!((standby.user(), standby.password()), (primary.user(), primary.password()));
    let reader = connect(&standby).await;
    assert_eq!(show(&reader, "in_hot_standby").await, "on");
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let of = async |client: &Client| client.query_one(identifier, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(of(&reader).await, of(&writer).await);
    writer.batch_execute("INSERT INTO notes VALUES ('after')").await.unwrap();
    let mut notes = 0;
    for _ in 0..6_000 {
        notes = reader.query_one("SELECT count(*) FROM notes", &[]).await.unwrap().get::<_, i64>(0);
        if notes == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(notes, 2, "the standby follows");
    assert!(reader.batch_execute("INSERT INTO notes VALUES ('x')").await.is_err(), "and takes no writes");

    let directory = standby.dir().to_owned();
    standby.restart().await.unwrap();
    assert_eq!(show(&connect(&standby).await, "in_hot_standby").await, "on", "it is a standby still");
    standby.stop().await.unwrap();
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
    primary.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_a_cluster_ends_it() {
    let cluster = Cluster::temporary().start().await.unwrap();
    let directory = cluster.dir().to_owned();
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn a_panic_ends_the_cluster_of_its_task() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let cluster = Cluster::temporary().start().await.unwrap();
        tell.send(cluster.dir().to_owned()).unwrap();
        panic!("on purpose");
    });
    let directory = told.await.unwrap();
    assert!(task.await.unwrap_err().is_panic());
    assert!(!directory.exists());
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn a_caller_that_stops_waiting_for_the_start_leaves_nothing() {
    let below = open_folder();
    let start = Cluster::temporary().below(below.path()).start();
    assert!(tokio::time::timeout(Duration::from_millis(30), start).await.is_err());
    eventually("the abandoned cluster is gone", || {
        let folders = std::fs::read_dir(below.path()).unwrap().flatten();
        let clusters = folders.flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten());
        clusters.filter(|entry| entry.file_name() != "lock").count() == 0 && processes_of(below.path()).is_empty()
    })
    .await;
}

#[tokio::test]
async fn the_password_is_needed_on_the_socket_and_on_tcp() {
    let cluster = Cluster::temporary().listen(Listen::AnyPort).start().await.unwrap();
    assert_eq!(cluster.host(), "127.0.0.1");
    connect(&cluster).await;
    for host in [cluster.host(), cluster.socket_dir().to_str().unwrap()] {
        let mut config = tokio_postgres::Config::new();
        config.host(host).port(cluster.port()).user("postgres").dbname("postgres");
        drop(config.password(cluster.password()).connect(NoTls).await.unwrap());
        let error = config.password("wrong").connect(NoTls).await.err().unwrap();
        assert_eq!(error.code().unwrap().code(), "28P01", "{host}");
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn four_clusters_at_once_are_four_servers() {
    let start = || Cluster::temporary().listen(Listen::AnyPort).start();
    let (a, b, c, d) = tokio::try_join!(start(), start(), start(), start()).unwrap();
    let clusters = [a, b, c, d];
    let mut passwords = HashSet::new();
    let mut identifiers = HashSet::new();
    let mut ports = HashSet::new();
    for cluster in &clusters {
        let client = connect(cluster).await;
        let row = client.query_one("SELECT system_identifier FROM pg_control_system()", &[]).await.unwrap();
        identifiers.insert(row.get::<_, i64>(0));
        passwords.insert(cluster.password());
        ports.insert(cluster.port());
    }
    assert_eq!((identifiers.len(), passwords.len(), ports.len()), (4, 4, 4));
    for cluster in clusters {
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn data_port_and_password_survive_a_restart_of_the_program() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    let builder = || Cluster::at(&directory).listen(Listen::AnyPort);

    let first = builder().start().await.unwrap();
    let client = connect(&first).await;
    assert_eq!(show(&client, "fsync").await, "on");
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)").await.unwrap();
    let (port, password) = (first.port(), first.password().to_owned());
    first.stop().await.unwrap();
    assert_eq!(processes_of(&directory), Vec::<String>::new());

    let second = builder().start().await.unwrap();
    assert_eq!(second.password(), password);
    assert_eq!(second.port(), port);
    let row = connect(&second).await.query_one("SELECT n FROM kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    second.stop().await.unwrap();

    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let third = builder().start().await.unwrap();
    assert_ne!(third.port(), port);
    connect(&third).await;
    third.stop().await.unwrap();
    drop(taken);
}

#[tokio::test]
async fn restart_kill_and_pause_keep_committed_data() {
    let cluster = Cluster::temporary().setting("max_connections", "17").start().await.unwrap();
    let client = connect(&cluster).await;
    assert_eq!(show(&client, "max_connections").await, "17");
    client.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)").await.unwrap();

    cluster.restart().await.unwrap();
    assert!(client.simple_query("SELECT 1").await.is_err());
    let client = connect(&cluster).await;
    client.batch_execute("INSERT INTO kept VALUES (2)").await.unwrap();

    cluster.kill().await.unwrap();
    assert!(!cluster.is_running());
    assert!(matches!(cluster.pause().await, Err(Error::NotRunning)));
    assert!(config(&cluster).connect(NoTls).await.is_err());
    cluster.restart().await.unwrap();
    let client = connect(&cluster).await;

    cluster.pause().await.unwrap();
    let query = client.query_one("SELECT sum(n) FROM kept", &[]);
    tokio::pin!(query);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut query).await.is_err());
    cluster.resume().await.unwrap();
    assert_eq!(query.await.unwrap().get::<_, i64>(0), 3);

    // An end while paused must not hang.
    cluster.pause().await.unwrap();
    let directory = cluster.dir().to_owned();
    cluster.stop().await.unwrap();
    assert_eq!(processes_of(&directory), Vec::<String>::new());
}

#[tokio::test]
async fn a_killed_cluster_is_deleted_without_a_restart() {
    let cluster = Cluster::temporary().start().await.unwrap();
    let segments = shared_memory_of(&cluster);
    assert_eq!(segments.len(), 1);
    cluster.kill().await.unwrap();
    let directory = cluster.dir().to_owned();
    cluster.stop().await.unwrap();
    assert!(!directory.exists());
    let left = std::fs::read_to_string("/proc/sysvipc/shm").unwrap();
    assert!(!left.lines().any(|line| line.split_whitespace().nth(1) == Some(&segments[0])), "{left}");
}

#[tokio::test]
async fn a_directory_is_used_by_one_program_at_a_time() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    let first = Cluster::at(&directory).profile(Profile::Fast).start().await.unwrap();
    let error = Cluster::at(&directory).start().await.unwrap_err();
    let Error::Locked { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::process::id()));
    connect(&first).await;
    first.stop().await.unwrap();
    Cluster::at(&directory).profile(Profile::Fast).start().await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Cluster::temporary().listen(Listen::Port(port)).start().await.unwrap_err();
    assert!(matches!(error, Error::PortTaken { port: named } if named == port), "{error}");
}

#[tokio::test]
async fn a_directory_with_other_files_is_left_alone() {
    let folder = open_folder();
    std::fs::write(folder.path().join("thesis.tex"), "precious").unwrap();
    let error = Cluster::at(folder.path()).start().await.unwrap_err();
    assert!(matches!(error, Error::ForeignDirectory { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_server_that_cannot_start_is_quoted() {
    let cluster = Cluster::temporary().setting("max_connections", "many").start().await;
    let error = cluster.unwrap_err();
    let Error::Startup { log_tail, .. } = &error else { panic!("{error}") };
    assert!(log_tail.contains("max_connections"), "{log_tail}");
    let refused = Cluster::temporary().setting("port", "1").start().await.unwrap_err();
    assert!(matches!(refused, Error::InvalidSetting { .. }), "{refused}");
}

#[tokio::test]
async fn missing_binaries_are_an_error_that_helps() {
    let folder = open_folder();
    let error = Cluster::temporary().binaries(folder.path()).start().await.unwrap_err();
    assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
}

#[tokio::test]
async fn a_data_directory_of_another_version_is_refused() {
    let folder = open_folder();
    let directory = folder.path().join("world");
    Cluster::at(&directory).profile(Profile::Fast).start().await.unwrap().stop().await.unwrap();
    std::fs::write(directory.join("data/PG_VERSION"), "13\n").unwrap();
    let error = Cluster::at(&directory).start().await.unwrap_err();
    assert!(matches!(error, Error::MajorVersionMissing { made_by: 13, .. }), "{error}");
}

#[tokio::test]
async fn a_deep_directory_gets_a_short_socket_path() {
    let folder = open_folder();
    let directory =
        folder.path().join("a-folder-with-a-long-name/".repeat(5)).join("with, comma and \"quotes\" 'n all");
    let cluster = Cluster::at(&directory).profile(Profile::Fast).start().await.unwrap();
    assert!(!cluster.socket_dir().starts_with(&directory));
    connect(&cluster).await;
    let socket = cluster.socket_dir().to_owned();
    cluster.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_socket_path_may_hold_what_separates_lists() {
    let folder = tempfile::Builder::new().prefix("a, b\"c").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster::at(folder.path().join("w")).profile(Profile::Fast).start().await.unwrap();
    assert!(cluster.socket_dir().starts_with(folder.path()));
    connect(&cluster).await;
    cluster.stop().await.unwrap();
}

async fn show(client: &Client, setting: &str) -> String {
    client.query_one(&format!("SHOW {setting}"), &[]).await.unwrap().get(0)
}

/// The System V segment that the server names in its `postmaster.pid`.
fn shared_memory_of(cluster: &Cluster) -> Vec<String> {
    let file = std::fs::read_to_string(cluster.data_dir().join("postmaster.pid")).unwrap();
    let ids = file.lines().nth(6).unwrap().split_whitespace().skip(1);
    ids.map(str::to_owned).collect()
}
