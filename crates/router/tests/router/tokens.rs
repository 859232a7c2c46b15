//! A token names its tenant once it is verified, and binds the rest of the request.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::{Request, StatusCode};
use axum::response::Response;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tenantry_api::Code;
use tenantry_router::{
    RouterError, Secret, TenantSources, TenantSourcesConfig, TokenAlgorithm, TokenKey, TokenVerifier,
};

use crate::extract::{World, problem, text};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ISSUER: &str = "https://login.example.com";

/// Of a key that nobody has any more: its one token names `acme` and ends in the year 2100.
const RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAumXpvSFSxfoG0hkZyv8e
CYLOFojhVXAYyFXo+Yk33cIkQvJ1Wlx+Q3SIAke7a0geVdQJMl6HCNAfCH9ntyGu
7OQP2Al4wqCOIk2BfHh/8ambPoC17MEzEg2eV/uOwbmurMM/Vc/t7enaKBQ8W13F
yxeaItg/AF2I7Ecmf17IgOzIjF3irAhJI1sRhTyNVwPn7WVaqorW69rSe/nxCnCH
fR06il4SebF3ZSzv791SB/Pi0hNtFJg1Ip7iO/USLh/tP3l4HjY9OoNef0I8PP1w
9evkm6uSQ5Np5fPlUQeY5XvlJ/+MAmdH8x+1ytAiO25KzTHNyAkcmZSTP198I/LZ
jwIDAQAB
-----END PUBLIC KEY-----";
const RSA_TOKEN: &str = "\
    eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUuY29tIiwiYXVkIjoiZmxpZ2h\
    0cyIsImV4cCI6NDEwMjQ0NDgwMCwidGVuYW50IjoiYWNtZSJ9.iKtLvMM1WJgB1PeScCUaz0yt6Qrg1eIxYAPsgtnYlQ3HzbwaiV\
    95gWFZt7Q3MWppKu7tt-nCINN7JhZ0JrTkQZzpaQsGTFkgqmd_Ca_zyRvcNbB6zB1CLh_2n2wpmAVJtKLCz1bgornoiDHlBHG95N\
    16Zeo1hAhjt9Ruxi5Vnsl-1qsYNUTRrShIhAYTObERC5N01MZzZo5rUt_-_xUOeZu8G2YwOGHnjv8fzM4LPLi9l1DDOdpDJH6QwN\
    SU2yzwUIrnwmDihb3_2Q1LO_cdS8E4BYe-h73nfF00eOoAF_70pZa3d63xMv6wssi9eO-3U7rVo0E73dyzIpJutFkr8Q";

/// 1,024 bits.
const WEAK_RSA_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDCkBBPI1vci0TgXMR1OqnedEaX
cMKCkDsjsrL8ByWQonae4Fvu5gbkYmUJyxrRXUR4qT1d4f0ffYO063kTGtx60qww
kvizAGksdXtsR9F9IrfrFMVwUX3dYuQtxYH34Qb0JiQ94WGc9hOEjxBuL1jNVMLd
BpQwXXWIv0TVCBZ3kQIDAQAB
-----END PUBLIC KEY-----";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs().try_into().expect("before the end")
}

fn claims(tenant: &str) -> Value {
    json!({ "iss": ISSUER, "aud": "flights", "exp": now() + 600, "tenant": tenant })
}

fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

fn encoded(part: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(part)
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let signature = encoded(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hs256_with(secret: &str, header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    token(header, claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn hs256(claims: &Value) -> String {
    hs256_with(SECRET, &json!({ "alg": "HS256" }), claims)
}

fn pem(prefix: &[u8], key: &[u8]) -> String {
    let text = BASE64_STANDARD.encode([prefix, key].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

/// A key with its public half.
fn ed25519() -> (Ed25519KeyPair, String) {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let pem = pem(&prefix, key.public_key().as_ref());
    (key, pem)
}

fn es256() -> (EcdsaKeyPair, String) {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).expect("a key");
    let prefix = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let pem = pem(&prefix, key.public_key().as_ref());
    (key, pem)
}

fn verifier() -> TokenVerifier {
    TokenVerifier::new(ISSUER, ["flights", "bookings"])
}

fn with_secret() -> TokenVerifier {
    verifier().key(TokenKey::hs256(&Secret::new(SECRET.to_owned())).expect("long enough"))
}

async fn ask(world: &World<'_>, verifier: &TokenVerifier, token: &str) -> Response {
    let request = Request::get("/").header("authorization", format!("Bearer {token}"));
    world.ask(TenantSources::new().token(verifier.clone()), request).await
}

#[tokio::test]
async fn a_token_of_each_algorithm_names_its_tenant() {
    let world = World::start().await;
    let (ed, ed_pem) = ed25519();
    let (ec, ec_pem) = es256();
    let public = |algorithm, pem: &str| TokenKey::from_pem(algorithm, pem).expect("a key");
    let eddsa = token(&json!({ "alg": "EdDSA" }), &claims("acme"), |message| ed.sign(message).as_ref().to_vec());
    let ecdsa = token(&json!({ "alg": "ES256" }), &claims(&world.home.tenant.to_string()), |message| {
        ec.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec()
    });
    let verifier = with_secret()
        .key(public(TokenAlgorithm::Rs256, RSA_PUBLIC))
        .key(public(TokenAlgorithm::EdDsa, &ed_pem))
        .key(public(TokenAlgorithm::Es256, &ec_pem));
    for token in [hs256(&claims("acme")), RSA_TOKEN.to_owned(), eddsa, ecdsa] {
        let answer = ask(&world, &verifier, &token).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(text(answer).await, "acme");
        // Whatever is changed in it makes it worth nothing.
        let (head, signature) = token.rsplit_once('.').expect("parts");
        for forged in [format!("{head}A.{signature}"), format!("{head}."), head.to_owned()] {
            assert_eq!(ask(&world, &verifier, &forged).await.status(), StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn what_is_not_signed_for_us_is_not_believed() {
    let world = World::start().await;
    let good = claims("acme");
    let header = json!({ "alg": "HS256" });
    let critical = json!({ "alg": "HS256", "crit": ["b64"], "b64": false });
    for (why, token) in [
        ("not a token", "acme".to_owned()),
        ("another secret", hs256_with(&SECRET.replace('0', "1"), &header, &good)),
        ("no algorithm", token(&json!({ "alg": "none" }), &good, |_| Vec::new())),
        ("an algorithm without a key", token(&json!({ "alg": "RS256" }), &good, |_| vec![0; 256])),
        ("an unknown extension", hs256_with(SECRET, &critical, &good)),
        ("too long", hs256(&with(good.clone(), "note", "x".repeat(9_000)))),
        ("expired", hs256(&with(good.clone(), "exp", now() - 31))),
        ("without an end", hs256(&without(good.clone(), "exp"))),
        ("an end that is no time", hs256(&with(good.clone(), "exp", "tomorrow"))),
        ("not valid yet", hs256(&with(good.clone(), "nbf", now() + 600))),
        ("another issuer", hs256(&with(good.clone(), "iss", "https://evil.example.com"))),
        ("no issuer", hs256(&without(good.clone(), "iss"))),
        ("another audience", hs256(&with(good.clone(), "aud", json!(["billing"])))),
        ("no audience", hs256(&without(good.clone(), "aud"))),
    ] {
        let answer = ask(&world, &with_secret(), &token).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{why}");
        assert_eq!(answer.headers()["www-authenticate"], "Bearer error=\"invalid_token\"", "{why}");
        assert_eq!(problem(answer).await.code, Code::Unauthenticated, "{why}");
    }
    for (why, claims) in [
        ("one of several audiences", with(good.clone(), "aud", json!(["billing", "bookings"]))),
        // The clock of the test goes on, and there are 30 s.
        ("expired within the leeway", with(good.clone(), "exp", now() - 1)),
        ("a fraction of a second", with(good.clone(), "exp", 4_102_444_800.5)),
        ("valid since a while", with(good.clone(), "nbf", now() - 5)),
    ] {
        assert_eq!(ask(&world, &with_secret(), &hs256(&claims)).await.status(), StatusCode::OK, "{why}");
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    let world = World::start().await;
    let (_, ed_pem) = ed25519();
    for (algorithm, pem) in [(TokenAlgorithm::Rs256, RSA_PUBLIC), (TokenAlgorithm::EdDsa, &ed_pem)] {
        let verifier = verifier().key(TokenKey::from_pem(algorithm, pem).expect("a key"));
        let signed_with_it = hs256_with(pem, &json!({ "alg": "HS256" }), &claims("acme"));
        assert_eq!(ask(&world, &verifier, &signed_with_it).await.status(), StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn the_key_id_chooses_the_key() {
    let world = World::start().await;
    let (old, new) = (SECRET.to_owned(), SECRET.replace('0', "9"));
    let key = |secret: &str, id: &str| TokenKey::hs256(&Secret::new(secret.to_owned())).expect("a key").with_id(id);
    let verifier = verifier().key(key(&old, "old")).key(key(&new, "new"));
    for (secret, header, status) in [
        (&old, json!({ "alg": "HS256", "kid": "old" }), StatusCode::OK),
        (&new, json!({ "alg": "HS256", "kid": "new" }), StatusCode::OK),
        (&old, json!({ "alg": "HS256", "kid": "new" }), StatusCode::UNAUTHORIZED),
        (&old, json!({ "alg": "HS256", "kid": "other" }), StatusCode::UNAUTHORIZED),
        (&old, json!({ "alg": "HS256" }), StatusCode::UNAUTHORIZED),
    ] {
        let token = hs256_with(secret, &header, &claims("acme"));
        assert_eq!(ask(&world, &verifier, &token).await.status(), status, "{header}");
    }
}

#[tokio::test]
async fn a_token_binds_the_request_to_its_tenant() {
    let world = World::start().await;
    let header = || TenantSources::new().header("x-tenant".parse().expect("a header"));
    let request = |tenant: &str| Request::get("/").header("x-tenant", tenant);
    let bearing =
        |tenant: &str, claims: &Value| request(tenant).header("authorization", format!("bearer {}", hs256(claims)));
    let sources = || header().token(with_secret());
    assert_eq!(world.ask(sources(), bearing("acme", &claims("acme"))).await.status(), StatusCode::OK);
    // Another tenant, whether there is one or not, is forbidden in the same words.
    let mut answers = Vec::new();
    for other in ["zenith", "nobody", "asleep"] {
        let answer = world.ask(sources(), bearing(other, &claims("acme"))).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{other}");
        answers.push(problem(answer).await);
    }
    assert!(answers.iter().all(|answer| answer == &answers[0] && answer.code == Code::Forbidden));
    for (claims, status) in [
        (claims("asleep"), StatusCode::FORBIDDEN),
        (claims("nobody"), StatusCode::NOT_FOUND),
        (claims("newborn"), StatusCode::SERVICE_UNAVAILABLE),
        (claims(""), StatusCode::FORBIDDEN),
        (without(claims("acme"), "tenant"), StatusCode::FORBIDDEN),
        (with(claims("acme"), "tenant", json!(["acme", "zenith"])), StatusCode::FORBIDDEN),
    ] {
        let bearer = Request::get("/").header("authorization", format!("Bearer {}", hs256(&claims)));
        assert_eq!(world.ask(sources(), bearer).await.status(), status, "{claims}");
    }
    // Nothing else stands in for a token, unless the service says that it may.
    let answer = world.ask(sources(), request("acme")).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], "Bearer");
    let optional = || header().optional_token(with_secret());
    assert_eq!(world.ask(optional(), request("acme")).await.status(), StatusCode::OK);
    assert_eq!(world.ask(optional(), bearing("zenith", &claims("acme"))).await.status(), StatusCode::FORBIDDEN);
    let invalid = request("acme").header("authorization", "Bearer nonsense");
    assert_eq!(world.ask(optional(), invalid).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_claim_may_have_another_name_or_lie_deeper() {
    let world = World::start().await;
    let claims = without(claims("zenith"), "tenant");
    for (claim, claims) in [
        ("airline", with(claims.clone(), "airline", "acme")),
        ("https://example.com/tenant", with(claims.clone(), "https://example.com/tenant", "acme")),
        ("/app_metadata/tenant", with(claims.clone(), "app_metadata", json!({ "tenant": "acme" }))),
    ] {
        let answer = ask(&world, &with_secret().claim(claim), &hs256(&claims)).await;
        assert_eq!(text(answer).await, "acme", "{claim}");
    }
}

#[test]
fn keys_that_protect_nothing_are_refused() {
    let (_, ed_pem) = ed25519();
    let is_refused = |outcome: Result<TokenKey, RouterError>| matches!(outcome, Err(RouterError::Refused { .. }));
    assert!(is_refused(TokenKey::hs256(&Secret::new("short".to_owned()))));
    assert!(is_refused(TokenKey::from_pem(TokenAlgorithm::Rs256, WEAK_RSA_PUBLIC)));
    assert!(is_refused(TokenKey::from_pem(TokenAlgorithm::Es256, &ed_pem)));
    assert!(is_refused(TokenKey::from_pem(TokenAlgorithm::EdDsa, RSA_PUBLIC)));
    assert!(is_refused(TokenKey::from_pem(TokenAlgorithm::Hs256, &ed_pem)));
    assert!(is_refused(TokenKey::from_pem(TokenAlgorithm::EdDsa, "no key")));
    let printed = format!("{:?}", with_secret());
    assert!(!printed.contains("0123") && printed.contains("Hs256"), "{printed}");
}

#[tokio::test]
async fn a_configuration_file_says_which_tokens_are_believed() {
    let world = World::start().await;
    let (ed, ed_pem) = ed25519();
    let file = |keys: &str| {
        let text = format!(
            "[[sources]]\nfrom = \"token\"\nissuer = \"{ISSUER}\"\naudiences = [\"flights\"]\nclaim = \"airline\"\n\
             leeway_s = 5\nkeys = [{keys}]\n[[sources]]\nfrom = \"sub_domain\""
        );
        toml::from_str::<TenantSourcesConfig>(&text)
    };
    let config = file(&format!("{{ id = \"1\", algorithm = \"EdDSA\", pem = '''{ed_pem}''' }}")).expect("readable");
    let sources = config.build().expect("sources");
    let claims = with(claims("nobody"), "airline", "acme");
    let token = token(&json!({ "alg": "EdDSA", "kid": "1" }), &claims, |message| ed.sign(message).as_ref().to_vec());
    let request = |host| Request::get("/").header("authorization", format!("Bearer {token}")).header("host", host);
    assert_eq!(world.ask(sources.clone(), request("acme.example.com")).await.status(), StatusCode::OK);
    assert_eq!(world.ask(sources, request("zenith.example.com")).await.status(), StatusCode::FORBIDDEN);
    let config = file(&format!("{{ algorithm = \"HS256\", secret = \"{SECRET}\" }}")).expect("readable");
    assert!(!format!("{config:?}").contains(SECRET));
    assert!(config.build().is_ok());
    for unusable in [
        "",
        "{ algorithm = \"HS256\" }",
        "{ algorithm = \"HS256\", secret = \"short\" }",
        "{ algorithm = \"HS256\", secret_file = \"/nowhere/at/all\" }",
        "{ algorithm = \"ES256\", secret = \"0123456789abcdef0123456789abcdef\" }",
    ] {
        let outcome = file(unusable).expect("readable").build();
        assert!(matches!(outcome, Err(RouterError::Refused { .. })), "{unusable}");
    }
    assert!(file("{ algorithm = \"none\" }").is_err());
}
