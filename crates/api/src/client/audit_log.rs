//! The audit log.

use futures::StreamExt;
use futures::stream::{self, BoxStream};

use super::lines::Lines;
use super::request::Call;
use super::{Client, ClientError};
use crate::feed::FEED_MEDIA_TYPE;
use crate::{AuditChain, AuditEntry, AuditLine, ExportAuditLog, ListAuditChains, ListAuditLog, Page};

/// The lines of an export, oldest first. One that ends early is an error.
pub type AuditStream = BoxStream<'static, Result<AuditLine, ClientError>>;

impl Client {
    /// `GET /v1/audit-log`: one page, the newest first.
    pub async fn list_audit_log(&self, list: &ListAuditLog) -> Result<Page<AuditEntry>, ClientError> {
        self.send(Call::get(&[&"audit-log"]).query(list)?).await
    }

    /// `GET /v1/audit-log/chains`: one page.
    pub async fn list_audit_chains(&self, list: &ListAuditChains) -> Result<Page<AuditChain>, ClientError> {
        self.send(Call::get(&[&"audit-log", &"chains"]).query(list)?).await
    }

    /// `GET /v1/audit-log/export`: every entry that is wanted, oldest first.
    pub async fn export_audit_log(&self, export: &ExportAuditLog) -> Result<AuditStream, ClientError> {
        let call = Call::get(&[&"audit-log", &"export"]).query(export)?.accept(FEED_MEDIA_TYPE);
        let lines = Lines::new(self.clone(), self.open(call).await?)?;
        Ok(stream::try_unfold(lines, |mut lines| async move {
            let Some(line) = lines.next().await? else { return Ok(None) };
            match serde_json::from_slice(&line) {
                Ok(line) => Ok(Some((line, lines))),
                Err(error) => Err(lines.unexpected(&format!("a line of the export is no entry: {error}"))),
            }
        })
        .boxed())
    }
}
