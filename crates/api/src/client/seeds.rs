//! Seeds.

use tenantry_domain::SeedRef;

use super::request::Call;
use super::{Client, ClientError};
use crate::{ListQuery, Page, PushSeed, Seed};

impl Client {
    /// `POST /v1/seeds`: the same content is kept once.
    pub async fn push_seed(&self, push: &PushSeed) -> Result<Seed, ClientError> {
        self.send(Call::post(&[&"seeds"]).json(push)?).await
    }

    /// `GET /v1/seeds`: one page, newest first.
    pub async fn list_seeds(&self, list: &ListQuery) -> Result<Page<Seed>, ClientError> {
        self.send(Call::get(&[&"seeds"]).query(list)?).await
    }

    /// `GET /v1/seeds/{seed}`: with its text.
    pub async fn show_seed(&self, seed: &SeedRef) -> Result<Seed, ClientError> {
        self.send(Call::get(&[&"seeds", seed])).await
    }

    /// `DELETE /v1/seeds/{seed}`: no new tenant gets it.
    pub async fn retire_seed(&self, seed: &SeedRef) -> Result<(), ClientError> {
        self.send_for_nothing(Call::delete(&[&"seeds", seed])).await
    }
}
