//! Whether the control plane is there and well.

use super::{Client, ClientError};
use crate::problem::Problem;

impl Client {
    /// `GET /readyz`: whether it can serve. Asked once, so that the answer is about now; nothing is sent but the
    /// question. Where it says no, its reason is in the problem.
    pub async fn ready(&self) -> Result<(), ClientError> {
        let mut url = self.config.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("readyz");
        }
        let exchange = async {
            let response = self.http.get(url).send().await.map_err(|source| self.unreachable(source))?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let problem = response.json::<Problem>().await;
            Err(match problem {
                Ok(problem) => ClientError::Problem { problem: Box::new(problem), retry_after: None },
                Err(_) => self.unexpected(status, "it bears no problem document"),
            })
        };
        tokio::time::timeout(self.config.request_timeout, exchange).await.map_err(|source| self.unreachable(source))?
    }
}
