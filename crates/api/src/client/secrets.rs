//! What seals the secrets in the catalog.

use super::request::Call;
use super::{Client, ClientError};
use crate::SecretsStatus;

impl Client {
    /// `GET /v1/secrets`.
    pub async fn show_secrets(&self) -> Result<SecretsStatus, ClientError> {
        self.send(Call::get(&[&"secrets"])).await
    }

    /// `POST /v1/secrets/rotate-master`: the newest master key wraps from now on.
    pub async fn rotate_master_key(&self) -> Result<SecretsStatus, ClientError> {
        self.send(Call::post(&[&"secrets", &"rotate-master"])).await
    }
}
