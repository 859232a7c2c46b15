//! Tokens that open streams were begun with, and whether they are still good: asked for all streams together, so that a
//! thousand cost what one does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tenantry_control::{Control, tokens};
use tenantry_domain::TokenId;
use tokio_util::sync::CancellationToken;

/// How long a revoked or expired token goes on reading at most.
const LOOK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Default)]
pub(crate) struct OpenTokens(Arc<Mutex<HashMap<TokenId, Watched>>>);

#[derive(Debug)]
struct Watched {
    streams: usize,
    ended: CancellationToken,
}

impl OpenTokens {
    /// Watches a token as long as the answer lives.
    pub(crate) fn enter(&self, token: TokenId) -> OpenToken {
        let mut tokens = self.tokens();
        let watched = tokens.entry(token).or_insert_with(|| Watched { streams: 0, ended: CancellationToken::new() });
        watched.streams += 1;
        OpenToken { tokens: self.clone(), token, ended: watched.ended.clone() }
    }

    /// Looks now and then until told to stop. Without an answer from the catalog nothing is known, and readers keep what
    /// they have.
    pub(crate) async fn run(&self, control: &Control, stop: &CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let open: Vec<TokenId> = self.tokens().keys().copied().collect();
            if open.is_empty() {
                continue;
            }
            if let Ok(ended) = tokens::ended(control, &open).await {
                let tokens = self.tokens();
                ended.iter().filter_map(|token| tokens.get(token)).for_each(|watched| watched.ended.cancel());
            }
        }
    }

    /// Nothing panics while it holds the lock.
    fn tokens(&self) -> MutexGuard<'_, HashMap<TokenId, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The token of one open stream.
#[derive(Debug)]
pub(crate) struct OpenToken {
    tokens: OpenTokens,
    token: TokenId,
    ended: CancellationToken,
}

impl OpenToken {
    /// Returns once it is no longer good.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for OpenToken {
    fn drop(&mut self) {
        let mut tokens = self.tokens.tokens();
        if let Some(watched) = tokens.get_mut(&self.token) {
            watched.streams -= 1;
            if watched.streams == 0 {
                tokens.remove(&self.token);
            }
        }
    }
}
