//! Holding a caller up while what is in the way may pass.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::sync::timeout_at;

/// Looks, and again whenever something changed, until what is in the way is gone or does not pass by waiting. When time is
/// up or nobody tells of changes any more, what was seen last is the answer.
pub(crate) async fn hold<S, L, T, E>(
    mut changes: watch::Receiver<S>,
    until: Instant,
    look: impl Fn() -> L,
    passes: impl Fn(&E) -> bool,
) -> Result<T, E>
where
    L: Future<Output = Result<T, E>>,
{
    loop {
        // Looking comes after marking: a change in between wakes the wait.
        changes.mark_unchanged();
        let refusal = match look().await {
            Err(error) if passes(&error) => error,
            decided => return decided,
        };
        match timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(refusal),
        }
    }
}
