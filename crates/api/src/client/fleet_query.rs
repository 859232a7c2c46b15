//! Asking many tenants the same question.

use super::json_lines::JsonLines;
use super::lines::Lines;
use super::request::Call;
use super::{Client, ClientError};
use crate::{FleetQuery, QueryLine};

impl Client {
    /// `POST /v1/query`: runs one statement that reads for many tenants. Dropped before its end, the rest is cancelled.
    pub async fn query(&self, query: &FleetQuery) -> Result<JsonLines<QueryLine>, ClientError> {
        let call = Call::post(&[&"query"]).json(query)?;
        Ok(JsonLines::new(Lines::new(self.clone(), self.open(call).await?)?))
    }
}
