//! The table `drift_reference`: what sets of files make, to hold homes against.

use serde_json::Value;
use tenantry_domain::{MigrationSetId, SchemaVersion};

use crate::error::StoreError;
use crate::row::{execute, get, query_opt};
use crate::store::Store;

/// What some files make on servers of one major version.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReference {
    /// Digest of the files.
    pub digest: MigrationSetId,
    /// The server's major version.
    pub server_major: i32,
    /// How the fingerprint was taken.
    pub format: i32,
    /// The newest of the files.
    pub version: SchemaVersion,
    /// Of all objects.
    pub fingerprint: String,
    /// The objects: an array.
    pub objects: Value,
}

impl Store {
    /// The fingerprint of what these files make, if that is known.
    pub async fn drift_reference(
        &self,
        digest: &MigrationSetId,
        server_major: i32,
        format: i32,
    ) -> Result<Option<String>, StoreError> {
        let sql = "SELECT fingerprint FROM drift_reference WHERE digest = $1 AND server_major = $2 AND format = $3";
        let row = query_opt(&*self.client().await?, sql, &[&digest.as_str(), &server_major, &format]).await?;
        row.as_ref().map(|row| get(row, "fingerprint")).transpose()
    }

    /// The objects behind it.
    pub async fn drift_reference_objects(
        &self,
        digest: &MigrationSetId,
        server_major: i32,
        format: i32,
    ) -> Result<Option<Value>, StoreError> {
        let sql = "SELECT objects FROM drift_reference WHERE digest = $1 AND server_major = $2 AND format = $3";
        let row = query_opt(&*self.client().await?, sql, &[&digest.as_str(), &server_major, &format]).await?;
        row.as_ref().map(|row| get(row, "objects")).transpose()
    }

    /// Keeps a reference. One that is known stays as it is. References of other formats tell nothing any more and go.
    pub async fn keep_drift_reference(&self, new: &NewReference) -> Result<(), StoreError> {
        let client = self.client().await?;
        execute(&client, "DELETE FROM drift_reference WHERE format < $1", &[&new.format]).await?;
        execute(
            &client,
            "INSERT INTO drift_reference (digest, server_major, format, version, fingerprint, objects)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            &[&new.digest.as_str(), &new.server_major, &new.format, &new.version.0, &new.fingerprint, &new.objects],
        )
        .await?;
        Ok(())
    }
}
