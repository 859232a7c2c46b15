//! Routers.

use super::request::Call;
use super::{Client, ClientError};
use crate::{ListRouters, Page, Router, RouterReport};

impl Client {
    /// `GET /v1/routers`: one page.
    pub async fn list_routers(&self, list: &ListRouters) -> Result<Page<Router>, ClientError> {
        self.send(Call::get(&[&"routers"]).query(list)?).await
    }

    /// `POST /v1/routers/{router}/report`: what a router applied and what it needs.
    pub async fn report_router(&self, router: &str, report: &RouterReport) -> Result<(), ClientError> {
        self.send_for_nothing(Call::post(&[&"routers", &router, &"report"]).json(report)?.repeatable()).await
    }
}
