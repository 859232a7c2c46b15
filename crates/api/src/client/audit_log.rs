//! The audit log.

use super::request::Call;
use super::{Client, ClientError};
use crate::{AuditEntry, ListAuditLog, Page};

impl Client {
    /// `GET /v1/audit-log`: one page, the newest first.
    pub async fn list_audit_log(&self, list: &ListAuditLog) -> Result<Page<AuditEntry>, ClientError> {
        self.send(Call::get(&[&"audit-log"]).query(list)?).await
    }
}
