#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::Error;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::*;

/// An authority as PEM, and a certificate of it for a name.
fn papers(name: &str) -> (String, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (pem, params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone())
}

fn any_name(pem: &str) -> AnyName {
    AnyName(web_pki(Arc::new(roots_from(pem).unwrap()), &Arc::new(ring::default_provider())).unwrap())
}

#[test]
fn any_name_of_the_authority_will_do_and_no_other_authority() {
    let (own, certificate) = papers("db.example.com");
    let (other, _) = papers("db.example.com");
    let believe = |verifier: &dyn ServerCertVerifier, name: &str| {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&certificate, &[], &name, &[], UnixTime::now()).map(drop)
    };
    let any = any_name(&own);
    assert_eq!((believe(&any, "db.example.com"), believe(&any, "elsewhere.example.com")), (Ok(()), Ok(())));
    assert!(matches!(believe(&*any.0, "elsewhere.example.com"), Err(Error::InvalidCertificate(_))));
    assert!(matches!(believe(&any_name(&other), "db.example.com"), Err(Error::InvalidCertificate(_))));
    let anyone = AnyCertificate(Arc::new(ring::default_provider()));
    assert_eq!(believe(&anyone, "elsewhere.example.com"), Ok(()));
}

#[test]
fn authorities_that_are_none_are_refused() {
    let nothing = Arc::new(roots_from("").unwrap());
    for trust in [Trust::Authority(Arc::clone(&nothing)), Trust::AuthorityAndName(nothing)] {
        assert!(client_config(trust).unwrap_err().to_string().contains("no certificate authority is known"));
    }
    let broken = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
    assert!(roots_from(broken).unwrap_err().source.is_some());
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(roots_from(nonsense).unwrap_err().to_string().contains("bad certificate"));
    assert!(client_config(Trust::Anyone).is_ok());
}
