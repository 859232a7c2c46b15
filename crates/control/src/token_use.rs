//! When tokens were last used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::TokenId;
use tenantry_store::Store;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often the time of last use is written.
const WRITE_USE: Duration = Duration::from_secs(30);
/// Most tokens whose use is remembered between two writes.
const USE_MAX: usize = 10_000;

/// Gathered in memory and written now and then: a write per request would cost more than the
/// fact is worth.
#[derive(Debug, Default)]
pub(crate) struct TokenUse {
    seen: Mutex<HashMap<TokenId, Timestamp>>,
}

impl TokenUse {
    pub(crate) fn saw(&self, token: TokenId) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < USE_MAX || seen.contains_key(&token) {
            seen.insert(token, Timestamp::now());
        }
    }

    /// Writes what was gathered until told to stop.
    pub(crate) async fn run(&self, store: &Store, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(WRITE_USE) => {}
            }
            let seen: Vec<_> = {
                let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *seen).into_iter().collect()
            };
            if !seen.is_empty()
                && let Err(error) = store.touch_tokens(&seen).await
            {
                warn!(%error, "could not write when tokens were last used");
            }
        }
    }
}
