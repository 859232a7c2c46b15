//! Passwords and what the server learns of them.

use std::fmt::Write as _;

use postgres_protocol::password::scram_sha_256;
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

/// The SCRAM verifiers of some passwords, in their order. Thousands of hash rounds each, so not on the async threads.
pub(crate) async fn verifiers<const N: usize>(passwords: [&Secret; N]) -> Result<[Secret; N], FleetError> {
    let passwords = passwords.map(Clone::clone);
    let work = move || passwords.map(|password| Secret::new(scram_sha_256(password.expose().as_bytes())));
    tokio::task::spawn_blocking(work).await.map_err(|source| FleetError::Busy {
        reason: "password hashing was stopped".into(),
        source: Some(source.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::{random_password, verifiers};

    #[tokio::test]
    async fn a_verifier_does_not_hold_the_password() {
        let (one, two) = (random_password(), random_password());
        assert_ne!(one, two);
        let [first, second] = verifiers([&one, &one]).await.expect("hashing works");
        assert!(first.expose().starts_with("SCRAM-SHA-256$4096:"));
        assert!(!first.expose().contains(one.expose()));
        assert_ne!(first, second, "each has a salt of its own");
    }
}
