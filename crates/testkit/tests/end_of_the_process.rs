//! The shared server is a static, which nobody drops. After the process nothing is left all the same.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed preparation is a failed test"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tenantry_testkit::{Namespace, Server, eventually};

const MARK: &str = "the cluster is in ";

#[tokio::test]
async fn nothing_is_left_after_a_test_process_that_ends_by_itself() {
    let (mut child, directory) = start_another_test_process(false);
    assert!(child.wait().unwrap().success());
    assert_nothing_is_left(&directory).await;
}

#[tokio::test]
async fn nothing_is_left_after_a_test_process_that_is_killed() {
    let (mut child, directory) = start_another_test_process(true);
    assert!(!processes_of(&directory).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_is_left(&directory).await;
}

/// Not a test of its own: the tests above run it in a process of its own.
#[tokio::test]
#[ignore = "run by other tests in a process of its own"]
async fn a_process_that_uses_the_shared_server() {
    let server = Server::shared().await;
    Namespace::on(server).database("some").await;
    println!("{MARK}{}", server.cluster().dir().display());
    if std::env::var_os("TENANTRY_TESTKIT_LINGER").is_some() {
        std::future::pending::<()>().await;
    }
}

fn start_another_test_process(linger: bool) -> (Child, PathBuf) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_uses_the_shared_server", "--ignored", "--nocapture"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if linger {
        command.env("TENANTRY_TESTKIT_LINGER", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        if let Some((_, directory)) = line.split_once(MARK) {
            let directory = PathBuf::from(directory.trim());
            // The rest must be read, or the child would fail to write it.
            std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
            return (child, directory);
        }
        line.clear();
    }
    panic!("the process started no server: {}", child.wait().unwrap());
}

async fn assert_nothing_is_left(directory: &Path) {
    eventually("server, warden and directory are gone", async || {
        !directory.exists() && processes_of(directory).is_empty()
    })
    .await;
}

/// The processes whose command line or working directory names `directory`.
fn processes_of(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.contains(&*directory.to_string_lossy()) || cwd.starts_with(directory) {
            found.push(command);
        }
    }
    found
}
