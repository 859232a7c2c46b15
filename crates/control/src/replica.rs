//! What one replica of the control plane does besides answering.

use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::engine::worker;
use crate::presence;
use crate::reconcilers;
use crate::rollouts::{runner, stragglers};
use crate::webhooks;

impl Control {
    /// Works until told to stop: listens for news, carries out operations and rollouts, keeps things up. Work in progress at
    /// that moment is handed back to the catalog for another replica.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::join!(
            self.signals().run(self.store(), &stop),
            Box::pin(worker::run(self, &stop)),
            runner::run(self, &stop),
            stragglers::run(self, &stop),
            Box::pin(reconcilers::run(self, &stop)),
            Box::pin(webhooks::dispatch::run(self, &stop)),
            presence::run(self, &stop),
            self.token_use().run(self.store(), &stop),
        );
    }
}
