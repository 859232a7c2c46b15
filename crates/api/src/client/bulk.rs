//! Many tenants in one call.

use super::json_lines::JsonLines;
use super::lines::Lines;
use super::request::Call;
use super::{Client, ClientError};
use crate::{BulkChange, BulkLine, BulkQuery};

/// The lines of a bulk answer, as they come.
pub type BulkStream = JsonLines<BulkLine>;

impl Client {
    /// `POST /v1/tenants/bulk` with rows of tenants to create. Sent again under the same key, it makes no tenant twice.
    pub async fn create_tenants(
        &self,
        media_type: &'static str,
        rows: Vec<u8>,
        key: &str,
        query: &BulkQuery,
    ) -> Result<BulkStream, ClientError> {
        let call = Call::post(&[&"tenants", &"bulk"]).query(query)?.body(media_type, rows).key(key);
        Ok(JsonLines::new(Lines::new(self.clone(), self.open(call).await?)?))
    }

    /// `POST /v1/tenants/bulk` with a change of every tenant that a filter finds.
    pub async fn change_tenants(&self, change: &BulkChange, query: &BulkQuery) -> Result<BulkStream, ClientError> {
        let call = Call::post(&[&"tenants", &"bulk"]).query(query)?.json(change)?;
        Ok(JsonLines::new(Lines::new(self.clone(), self.open(call).await?)?))
    }
}
