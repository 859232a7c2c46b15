//! What each TLS mode believes, against a server with a certificate.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tenantry_domain::TlsMode;
use tenantry_router::Router;
use tenantry_testkit::{Server, eventually};

use crate::home::{Home, impatient};

/// An authority, and what it issued.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key of a server with this name.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
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
