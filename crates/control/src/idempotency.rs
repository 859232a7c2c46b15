//! One request, sent twice, done once.

use std::time::Duration;

use tenantry_domain::TokenId;
use tenantry_store::Idempotent;

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// How long an answer is kept.
pub const KEPT: Duration = Duration::from_hours(24);

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing: do the work, then [`finish`] or [`abandon`].
    New,
    /// It was done; this was the answer.
    Done {
        /// HTTP status of the answer.
        status: u16,
        /// Its body.
        body: Vec<u8>,
    },
}

/// Takes the key for this request, or says what became of it. Another request under the same key is refused.
pub async fn begin(
    control: &Control,
    caller: &Caller,
    key: &str,
    request_hash: [u8; 32],
) -> Result<Known, ControlError> {
    match control.store().begin_idempotent(token(caller)?, key, &request_hash).await? {
        Idempotent::New => Ok(Known::New),
        Idempotent::Replay { status, body } => Ok(Known::Done { status, body }),
        Idempotent::Mismatch => Err(ControlError::IdempotencyMismatch),
        Idempotent::InProgress => Err(ControlError::Conflict {
            reason: "a request with this idempotency key is being worked on; ask again in a moment".to_owned(),
        }),
    }
}

/// Keeps the answer for 24 hours.
pub async fn finish(
    control: &Control,
    caller: &Caller,
    key: &str,
    status: u16,
    body: &[u8],
) -> Result<(), ControlError> {
    Ok(control.store().finish_idempotent(token(caller)?, key, status, body).await?)
}

/// Frees the key: nothing was done, so a repetition must do it.
pub async fn abandon(control: &Control, caller: &Caller, key: &str) -> Result<(), ControlError> {
    Ok(control.store().abandon_idempotent(token(caller)?, key).await?)
}

fn token(caller: &Caller) -> Result<TokenId, ControlError> {
    caller.token.ok_or_else(|| ControlError::Forbidden { scope: "a token of your own".to_owned() })
}
