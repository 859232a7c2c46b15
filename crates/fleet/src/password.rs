//! Passwords and what the server learns of them.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use postgres_protocol::password::scram_sha_256;
use ring::{digest, hmac, pbkdf2};
use tenantry_domain::Secret;

use crate::error::FleetError;

/// A password of 32 random bytes, as 64 hexadecimal digits: no character needs quoting anywhere.
pub fn random_password() -> Secret {
    let bytes: [u8; 32] = rand::random();
    let mut text = String::with_capacity(64);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Secret::new(text)
}

/// What PostgreSQL is told of a login's password that any client may use.
pub async fn login_verifier(password: &Secret) -> Result<Secret, FleetError> {
    let [verifier] = verifiers([(password, Reader::Anyone)]).await?;
    Ok(verifier)
}

/// For whom a verifier is made, which decides how much hashing a login costs.
pub(crate) enum Reader {
    /// Any client. Some refuse fewer rounds than the 4,096 that are usual.
    Anyone,
    /// Ourselves alone. Rounds protect guessable passwords; against 32 random bytes they protect from nothing, and each
    /// login of a migrator would pay for them on both sides.
    Ourselves,
}

/// Rounds of hashing that every client accepts (RFC 7677).
const ROUNDS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

/// The SCRAM verifiers of some passwords, in their order. Thousands of hash rounds each, so not on the async threads.
/// Those of random passwords are the same each time, so that one which somebody changed is told by its salt.
pub(crate) async fn verifiers<const N: usize>(passwords: [(&Secret, Reader); N]) -> Result<[Secret; N], FleetError> {
    let passwords = passwords.map(|(password, reader)| (password.clone(), reader));
    let work = move || {
        passwords.map(|(password, reader)| {
            let password = password.expose();
            Secret::new(match reader {
                Reader::Ourselves if is_random(password) => verifier(password, NonZeroU32::MIN),
                Reader::Anyone if is_random(password) => verifier(password, ROUNDS),
                Reader::Anyone | Reader::Ourselves => scram_sha_256(password.as_bytes()),
            })
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(|source| FleetError::Busy {
        reason: "password hashing was stopped".into(),
        source: Some(source.into()),
    })
}

/// Whether it has the form of [`random_password`]: enough entropy to need no rounds, and plain ASCII.
fn is_random(password: &str) -> bool {
    password.len() == 64 && password.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The salt of a random password's verifier: derived from the password, which tells nobody anything about 32 random
/// bytes. Absent for passwords that people chose, whose salts are random.
pub(crate) fn salt_of(password: &Secret) -> Option<String> {
    is_random(password.expose()).then(|| STANDARD.encode(salt(password.expose())))
}

/// The salt of the verifier of a role `r`, and what is joined for it.
pub(crate) const fn salts(sees_verifiers: bool) -> (&'static str, &'static str) {
    if sees_verifiers {
        (
            "split_part(split_part(a.rolpassword, '$', 2), ':', 2)",
            "LEFT JOIN pg_authid a ON a.oid = r.oid AND a.rolpassword LIKE 'SCRAM-SHA-256$%'",
        )
    } else {
        ("NULL", "")
    }
}

fn salt(password: &str) -> [u8; 16] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, password.as_bytes());
    let mut salt = [0; 16];
    salt.copy_from_slice(&hmac::sign(&key, b"tenantry scram salt").as_ref()[..16]);
    salt
}

/// `SCRAM-SHA-256$<rounds>:<salt>$<stored key>:<server key>` (RFC 5802) of a password in plain ASCII.
fn verifier(password: &str, rounds: NonZeroU32) -> String {
    let salt = salt(password);
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&key, b"Client Key").as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${rounds}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key.as_ref()),
        STANDARD.encode(server_key.as_ref())
    )
}

#[cfg(test)]
mod tests {
    use super::{Reader, random_password, salt_of, verifiers};
    use tenantry_domain::Secret;

    #[tokio::test]
    async fn a_verifier_does_not_hold_the_password() {
        let (one, two) = (random_password(), random_password());
        assert_ne!(one, two);
        let [first, second] = verifiers([(&one, Reader::Anyone), (&one, Reader::Anyone)]).await.expect("hashing works");
        assert!(first.expose().starts_with("SCRAM-SHA-256$4096:"));
        assert!(!first.expose().contains(one.expose()));
        assert_eq!(first, second, "what somebody changed can be told");
        let [other] = verifiers([(&two, Reader::Anyone)]).await.expect("hashing works");
        let salt = salt_of(&one).expect("a random password");
        assert!(first.expose().contains(&format!("4096:{salt}$")) && !other.expose().contains(&salt));
        assert_eq!(salt_of(&Secret::new("correct horse".to_owned())), None);
    }

    #[tokio::test]
    async fn rounds_are_saved_on_random_passwords_only() {
        let (random, chosen) = (random_password(), Secret::new("correct horse".to_owned()));
        let [fast, slow] =
            verifiers([(&random, Reader::Ourselves), (&chosen, Reader::Ourselves)]).await.expect("hashing works");
        assert!(fast.expose().starts_with("SCRAM-SHA-256$1:"));
        assert!(slow.expose().starts_with("SCRAM-SHA-256$4096:"));
    }
}
