//! Passwords and what the server learns of them.

use tenantry_domain::Secret;

/// A password of 32 random bytes, as 64 hexadecimal digits: no character needs quoting anywhere.
pub fn random_password() -> Secret {
    todo!()
}
