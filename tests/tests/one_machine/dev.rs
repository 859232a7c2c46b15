//! A world that lasts: resumed with everything in it, one owner at a time, nothing running once it ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tenantry_api::{Client, CreateTenant, ListTenants, WaitSeconds};
use tenantry_domain::{Isolation, OperationState, Slug};
use tenantry_testkit::eventually;

use crate::running::{Running, addresses, answers, client};

/// The last thing that it says once it is up.
const UP: &str = "brings everything back";

/// A directory that the server's user can reach when the tests run as root.
fn directory() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(parent.path(), Permissions::from_mode(0o711)).expect("passable");
    let directory = parent.path().join("world");
    (parent, directory)
}

async fn start(directory: &Path) -> Running {
    let mut dev = Running::start([Path::new("dev"), Path::new("--data-dir"), directory]);
    dev.says(UP).await;
    dev
}

/// What the profile says: URL, token, client.
fn profile(directory: &Path) -> (String, String, Client) {
    let path = directory.join("dev.json");
    assert_eq!(std::fs::metadata(&path).expect("a profile").permissions().mode() & 0o777, 0o600);
    let profile: Value = serde_json::from_slice(&std::fs::read(path).expect("a profile")).expect("JSON");
    let text = |name: &str| profile[name].as_str().expect(name).to_owned();
    assert!(text("catalog_url").starts_with("postgres://"));
    let (url, token) = (text("api_url"), text("token"));
    let client = client(&url, &token);
    (url, token, client)
}

async fn create(client: &Client, slug: &str, isolation: Isolation) {
    let wish = CreateTenant { isolation: Some(isolation), ..CreateTenant::new(Slug::parse(slug).expect("a slug")) };
    let made = client.create_tenant(&wish, WaitSeconds::new(60).ok()).await.expect("a tenant");
    assert_eq!(made.operation.state, OperationState::Succeeded, "{:?}", made.operation);
}

async fn slugs(client: &Client) -> Vec<String> {
    let tenants = client.list_tenants(&ListTenants::default()).await.expect("tenants").items;
    tenants.into_iter().map(|tenant| tenant.slug.to_string()).collect()
}

#[tokio::test]
async fn a_world_is_resumed_with_its_tenants_and_its_token_after_a_good_end_and_after_a_bad_one() {
    let (_parent, directory) = directory();
    let dev = start(&directory).await;
    let (url, token, client) = profile(&directory);
    assert!(slugs(&client).await.is_empty());
    for (slug, isolation) in [("a", Isolation::Schema), ("b", Isolation::Database), ("c", Isolation::Cluster)] {
        create(&client, slug, isolation).await;
    }
    let before = addresses(&url, &client).await;
    assert!(before.iter().all(answers));
    let ended = dev.signalled(Signal::TERM).await;
    assert!(ended.status.success(), "{ended:?}");
    assert!(!before.iter().any(answers), "{before:?}");

    let dev = start(&directory).await;
    let (url, same_token, client) = profile(&directory);
    assert_eq!(same_token, token);
    assert_eq!(slugs(&client).await, ["a", "b", "c"]);
    create(&client, "d", Isolation::Schema).await;
    let before = addresses(&url, &client).await;
    assert!(before.iter().all(answers), "the tenant's own server is back too");
    dev.signalled(Signal::KILL).await;
    eventually("every server has followed the program that it belonged to", async || !before.iter().any(answers)).await;

    let dev = start(&directory).await;
    let (url, same_token, client) = profile(&directory);
    assert_eq!(same_token, token);
    assert_eq!(slugs(&client).await, ["a", "b", "c", "d"]);
    assert!(addresses(&url, &client).await.iter().all(answers));
    assert!(dev.signalled(Signal::INT).await.status.success());
}

/// The owner's way into the catalog.
async fn catalog(directory: &Path) -> tokio_postgres::Client {
    let profile: Value = serde_json::from_slice(&std::fs::read(directory.join("dev.json")).unwrap()).unwrap();
    let url = profile["catalog_url"].as_str().unwrap();
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn the_control_plane_works_as_a_role_that_cannot_change_the_audit_log() {
    let (_parent, directory) = directory();
    let dev = start(&directory).await;
    let owner = catalog(&directory).await;
    let sql = "SELECT DISTINCT usename::text FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let users: Vec<String> = owner.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(users, ["tenantry_runtime"]);
    for sql in
        ["UPDATE audit_log SET actor = 'x'", "ALTER TABLE audit_log DISABLE TRIGGER ALL", "DELETE FROM audit_chain"]
    {
        let refused = owner.batch_execute(&format!("SET ROLE tenantry_runtime; {sql}")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{sql}");
        owner.batch_execute("RESET ROLE").await.unwrap();
    }
    // A directory from before there was such a role.
    owner.batch_execute("DROP OWNED BY tenantry_runtime; DROP ROLE tenantry_runtime").await.unwrap();
    drop(owner);
    dev.signalled(Signal::KILL).await;
    let dev = start(&directory).await;
    let (_, _, client) = profile(&directory);
    create(&client, "a", Isolation::Schema).await;
    assert!(dev.signalled(Signal::TERM).await.status.success());
}

#[tokio::test]
async fn a_second_program_on_the_same_world_is_refused_by_the_name_of_the_first() {
    let (_parent, directory) = directory();
    let dev = start(&directory).await;
    let second = Running::start([Path::new("dev"), Path::new("--data-dir"), &directory]).ended().await;
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stderr.contains(&format!("process {}", dev.id())), "{second:?}");
    assert!(second.stderr.contains("--data-dir"), "{second:?}");
    assert!(dev.signalled(Signal::TERM).await.status.success());
}

#[tokio::test]
async fn a_revoked_token_is_replaced_at_the_next_start() {
    let (_parent, directory) = directory();
    let dev = start(&directory).await;
    let (_, token, client) = profile(&directory);
    let tokens = client.list_tokens(&tenantry_api::ListQuery::default()).await.expect("tokens");
    client.delete_token(tokens.items[0].id).await.expect("revoked");
    assert!(client.list_tenants(&ListTenants::default()).await.is_err());
    dev.signalled(Signal::TERM).await;

    let dev = start(&directory).await;
    let (_, another, client) = profile(&directory);
    assert_ne!(another, token);
    assert!(slugs(&client).await.is_empty());
    assert!(dev.signalled(Signal::TERM).await.status.success());
}

#[tokio::test]
async fn without_postgresql_the_package_to_install_is_named_and_nothing_runs() {
    let (_parent, directory) = directory();
    let empty = tempfile::tempdir().expect("a directory");
    let ended = Running::without_postgresql(empty.path(), [Path::new("dev"), Path::new("--data-dir"), &directory]);
    let ended = ended.ended().await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("apt-get install postgresql"), "{ended:?}");
}
