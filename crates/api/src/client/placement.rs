//! Where homes would go.

use super::request::Call;
use super::{Client, ClientError};
use crate::{ExplainPlacement, Placement};

impl Client {
    /// `POST /v1/placement/explain`: where a home would go now, and why.
    pub async fn explain_placement(&self, question: &ExplainPlacement) -> Result<Placement, ClientError> {
        self.send(Call::post(&[&"placement", &"explain"]).json(question)?.repeatable()).await
    }
}
