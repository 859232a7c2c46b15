//! Migration sets.

use tenantry_domain::MigrationSetId;

use super::request::Call;
use super::{Client, ClientError};
use crate::{ListQuery, MigrationSet, Page, PushMigrationSet};

impl Client {
    /// `POST /v1/migration-sets`: registers a set; one that is known already is answered as it is.
    pub async fn push_migration_set(&self, push: &PushMigrationSet) -> Result<MigrationSet, ClientError> {
        self.send(Call::post(&[&"migration-sets"]).json(push)?).await
    }

    /// `GET /v1/migration-sets`: one page.
    pub async fn list_migration_sets(&self, list: &ListQuery) -> Result<Page<MigrationSet>, ClientError> {
        self.send(Call::get(&[&"migration-sets"]).query(list)?).await
    }

    /// `GET /v1/migration-sets/{set}`.
    pub async fn show_migration_set(&self, set: &MigrationSetId) -> Result<MigrationSet, ClientError> {
        self.send(Call::get(&[&"migration-sets", set])).await
    }
}
