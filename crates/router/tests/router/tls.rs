//! What each TLS mode believes, against a server with a certificate.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tenantry_domain::TlsMode;
use tenantry_router::{Router, RouterError};
use tenantry_testkit::{Server, eventually};

use crate::failures::told;
use crate::home::{Home, impatient};

/// An authority, and what it issued.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // No two have the same name.
        params.distinguished_name.push(DnType::CommonName, format!("authority {:x}", rand::random::<u64>()));
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a server with this name.
    fn issue(&self, name: &str) -> (String, String) {
        self.issue_with(name, |_| ())
    }

    fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        change(&mut params);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

/// Writes a file that the server's user owns and nobody else reads.
fn give(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, text).expect("written");
    let owner = fs::metadata(directory).expect("a directory");
    chown(&path, Some(owner.uid()), Some(owner.gid())).expect("given away");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("closed");
}

async fn speaks_tls(server: &Server, (certificate, key): &(String, String)) {
    let directory = server.cluster().data_dir();
    give(&directory, "server.crt", certificate);
    give(&directory, "server.key", key);
    let loaded_at = async || {
        let query = "SELECT pg_conf_load_time()::text || ' ' || current_setting('ssl')";
        server.connect("postgres").await.query_one(query, &[]).await.expect("asked").get::<_, String>(0)
    };
    let before = loaded_at().await;
    let admin = server.connect("postgres").await;
    admin.batch_execute("ALTER SYSTEM SET ssl = on").await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    eventually("the server has taken the certificate over", async || {
        let now = loaded_at().await;
        now != before && now.ends_with(" on")
    })
    .await;
}

#[tokio::test]
async fn each_mode_believes_as_much_as_it_says() {
    let server = Server::own().await;
    let (ours, another) = (Authority::new(), Authority::new());
    let home = Home::on(&server, "acme").await;
    for (certificate_name, mode, authority, is_believed) in [
        ("127.0.0.1", TlsMode::Require, None, true),
        ("127.0.0.1", TlsMode::VerifyCa, Some(&ours), true),
        ("127.0.0.1", TlsMode::VerifyCa, Some(&another), false),
        ("127.0.0.1", TlsMode::VerifyFull, Some(&ours), true),
        ("127.0.0.1", TlsMode::VerifyFull, Some(&another), false),
        ("127.0.0.1", TlsMode::VerifyFull, None, false),
        ("elsewhere.example.com", TlsMode::VerifyCa, Some(&ours), true),
        ("elsewhere.example.com", TlsMode::VerifyFull, Some(&ours), false),
    ] {
        speaks_tls(&server, &ours.issue(certificate_name)).await;
        let mut cluster = home.feed_cluster();
        cluster.tls_mode = mode;
        cluster.tls_ca = authority.map(Authority::pem);
        let builder = Router::builder().fixed(vec![home.route()], vec![cluster]).config(impatient());
        let tenant = builder.build().await.expect("a router").tenant("acme").await.expect("known");
        let outcome = tenant.client().await;
        assert_eq!(outcome.is_ok(), is_believed, "{certificate_name} {mode}: {outcome:?}");
        if let Ok(client) = outcome {
            let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
            assert!(client.query_one(query, &[]).await.expect("run").get::<_, bool>(0));
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_named_with_what_is_wrong_until_it_is_right() {
    let server = Server::own().await;
    let (ours, another) = (Authority::new(), Authority::new());
    let home = Home::on(&server, "acme").await;
    let mut cluster = home.feed_cluster();
    (cluster.tls_mode, cluster.tls_ca) = (TlsMode::VerifyFull, Some(ours.pem()));
    let host = "127.0.0.1";
    let over = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
    let to_come = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(3001, 1, 1), date_time_ymd(3002, 1, 1));
    };
    for (certificate, wrong) in [
        (another.issue(host), "UnknownIssuer"),
        (ours.issue_with(host, over), "expired"),
        (ours.issue_with(host, to_come), "not valid yet"),
        (ours.issue("elsewhere.example.com"), "elsewhere.example.com"),
    ] {
        speaks_tls(&server, &certificate).await;
        let builder = Router::builder().fixed(vec![home.route()], vec![cluster.clone()]).config(impatient());
        let router = builder.build().await.expect("a router");
        let tenant = router.tenant("acme").await.expect("known");
        // The first ones are told by the server, the others without asking it.
        for _ in 0..5 {
            let error = tenant.client().await.expect_err(wrong);
            assert!(matches!(error, RouterError::Unavailable { .. }) && error.is_retryable(), "{error:?}");
            let text = told(&error);
            assert!(text.contains(wrong) && text.contains("tls_ca"), "{text}");
        }
        assert_eq!(home.sessions().await, 0, "{wrong}");
        speaks_tls(&server, &ours.issue(host)).await;
        eventually("a right certificate is believed", async || tenant.client().await.is_ok()).await;
        router.close();
        eventually("its session ends", async || home.sessions().await == 0).await;
    }
}

#[tokio::test]
async fn a_query_that_nobody_waits_for_is_cancelled_over_tls_too() {
    let server = Server::own().await;
    speaks_tls(&server, &Authority::new().issue("127.0.0.1")).await;
    let home = Home::on(&server, "acme").await;
    let mut cluster = home.feed_cluster();
    cluster.tls_mode = TlsMode::Require;
    let router = Router::builder().fixed(vec![home.route()], vec![cluster]).build().await.expect("a router");
    let client = router.tenant("acme").await.expect("known").client().await.expect("a connection");
    let sleep = client.batch_execute("SELECT pg_sleep(3600)");
    assert!(tokio::time::timeout(std::time::Duration::from_millis(50), sleep).await.is_err());
    drop(client);
    eventually("its session is gone", async || home.sessions().await == 0).await;
}
