//! Ending in good order: the first signal asks, the second does not wait.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a program that Ctrl-C ended.
const EXIT_CODE: i32 = 130;

/// One wish to end, shared by all parts of a program. Clones are the same wish.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A wish that only [`Self::trigger`] expresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// A wish that Ctrl-C and SIGTERM express; a second signal ends the process at once. Needs a tokio runtime.
    pub fn on_signals() -> std::io::Result<Self> {
        let shutdown = Self::new();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        tokio::spawn(shutdown.clone().follow(interrupt, terminate));
        Ok(shutdown)
    }

    async fn follow(self, mut interrupt: Signal, mut terminate: Signal) {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("shutting down; a second signal ends at once");
        self.trigger();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(EXIT_CODE);
    }

    /// Expresses the wish.
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether the wish was expressed.
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns once the wish is expressed.
    pub async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// The wish as a token, for rooms that do not know this crate.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_reaches_every_clone() {
        let shutdown = Shutdown::new();
        let waiting = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { shutdown.wait().await }
        });
        assert!(!shutdown.is_triggered());
        shutdown.trigger();
        waiting.await.expect("the wish arrives");
        assert!(shutdown.token().is_cancelled());
    }

    #[tokio::test]
    async fn sigterm_is_a_wish() {
        let shutdown = Shutdown::on_signals().expect("signals can be watched");
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM).expect("sent");
        shutdown.wait().await;
    }
}
