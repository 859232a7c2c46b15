//! Each TLS mode keeps its promise, against a server with a real certificate.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::target;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tenantry_domain::TlsMode;
use tenantry_fleet::{Fleet, FleetConfig, FleetError};
use tenantry_testkit::{Login, Server};

/// An authority, and a server's certificate for one name by it.
struct Papers {
    authority: String,
    certificate: String,
    key: String,
}

fn papers(name: &str) -> Papers {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "authority of a test");
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    Papers { authority: authority_pem, certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Lets the server write its own files, so that they belong to whoever it runs as.
async fn equip(server: &Server, papers: &Papers) {
    let root = server.connect("postgres").await;
    let folder: String = root.query_one("SHOW data_directory", &[]).await.unwrap().get(0);
    for (file, content) in [("test.crt", &papers.certificate), ("test.key", &papers.key)] {
        let copy = format!(
            "COPY (SELECT regexp_split_to_table('{}', E'\\r?\\n')) TO PROGRAM 'umask 077; cat > \"{folder}/{file}\"'",
            content.trim_end()
        );
        root.batch_execute(&copy).await.unwrap();
    }
    for setting in ["ssl_cert_file = 'test.crt'", "ssl_key_file = 'test.key'", "ssl = on"] {
        root.batch_execute(&format!("ALTER SYSTEM SET {setting}")).await.unwrap();
    }
    root.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    tenantry_testkit::eventually("the server speaks TLS", async || {
        let ssl: String = server.connect("postgres").await.query_one("SHOW ssl", &[]).await.unwrap().get(0);
        ssl == "on"
    })
    .await;
}

#[tokio::test]
async fn each_mode_checks_what_it_promises() {
    let server = Server::own().await;
    let right = papers("127.0.0.1");
    equip(&server, &right).await;
    let login = Login { name: "root_of_test".to_owned(), password: "longenough".to_owned() };
    let create = format!("CREATE ROLE {} SUPERUSER LOGIN PASSWORD '{}'", login.name, login.password);
    server.connect("postgres").await.batch_execute(&create).await.unwrap();
    let fleet = Fleet::new(FleetConfig::default());
    let attempt = async |mode: TlsMode, authority: Option<&Papers>| {
        let mut target = target(&server, &login, "postgres");
        target.tls_mode = mode;
        target.tls_ca = authority.map(|papers| papers.authority.clone());
        fleet.inspect(&target).await.map(|inspection| inspection.tls)
    };
    let refused = |result: Result<bool, FleetError>| matches!(result, Err(FleetError::Refused { .. }));
    assert!(attempt(TlsMode::Require, None).await.unwrap());
    assert!(!attempt(TlsMode::Disable, None).await.unwrap());
    let stranger = papers("127.0.0.1");
    for mode in [TlsMode::VerifyCa, TlsMode::VerifyFull] {
        assert!(attempt(mode, Some(&right)).await.unwrap(), "{mode}");
        assert!(refused(attempt(mode, Some(&stranger)).await), "{mode}: another authority");
    }

    // A certificate for another name passes where only the authority counts.
    let misnamed = papers("db.example.com");
    equip(&server, &misnamed).await;
    tenantry_testkit::eventually("the new certificate is in use", async || {
        attempt(TlsMode::VerifyCa, Some(&misnamed)).await.is_ok()
    })
    .await;
    assert!(refused(attempt(TlsMode::VerifyCa, Some(&right)).await));
    assert!(refused(attempt(TlsMode::VerifyFull, Some(&misnamed)).await));
}
