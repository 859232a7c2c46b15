//! Signing, so that a receiver knows who speaks, and when.
//!
//! `Tenantry-Signature: t=1763712000,v1=5257a8…` — `t` is the time of the attempt in Unix seconds, each `v1` the
//! HMAC-SHA256 in hexadecimal of `<t>.<body>` under one secret. During a rotation there are two. A receiver computes its
//! own over the bytes as they came, compares in constant time with any `v1`, and refuses a `t` that is old.

use std::fmt::Write as _;

use ring::hmac;
use tenantry_domain::Secret;

/// The header's value for a body sent at `seconds`.
pub(super) fn sign(secrets: &[Secret], seconds: i64, body: &[u8]) -> String {
    let mut header = format!("t={seconds}");
    for secret in secrets {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{seconds}.").as_bytes());
        context.update(body);
        // Writing to a String cannot fail.
        let _ = write!(header, ",v1={}", hex::encode(context.sign()));
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_other_tools_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let header = sign(&[Secret::new("key".to_owned())], 1_700_000_000, br#"{"a":1}"#);
        let expected = "a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(header, format!("t=1700000000,v1={expected}"));
    }

    #[test]
    fn during_a_rotation_either_secret_verifies() {
        let (new, old) = (Secret::new("new".to_owned()), Secret::new("old".to_owned()));
        let both = sign(&[new.clone(), old.clone()], 1, b"x");
        for secret in [new, old] {
            let alone = sign(&[secret], 1, b"x");
            assert!(both.contains(alone.trim_start_matches("t=1")), "{both} {alone}");
        }
    }
}
