//! `tenantry health`.

use clap::Args;
use serde::Serialize;
use tenantry_api::{ClientError, Code, ListQuery, PageLimit};

use super::error::CliError;
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// Nothing to choose.
#[derive(Debug, Args)]
#[command(after_help = examples!(
    "tenantry health",
    "tenantry health --output json && echo well",
    "",
    "Exits with 0 if the control plane is ready and the token is accepted.",
))]
pub(crate) struct HealthArguments {}

/// What was found.
#[derive(Debug, Serialize)]
struct Health {
    url: String,
    ready: bool,
    token: TokenHealth,
}

/// Whether the token is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum TokenHealth {
    Accepted,
    Refused,
}

impl HealthArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        client.ready().await?;
        // Any call that needs a token tells a wrong one from one that merely may not list plans.
        let probe = client.list_plans(&ListQuery { limit: PageLimit::new(1).ok(), cursor: None }).await;
        let (token, refusal) = match probe {
            Err(error) if error.code() == Some(Code::Unauthenticated) => (TokenHealth::Refused, Some(error)),
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Unexpected { .. })) => return Err(error.into()),
            Ok(_) | Err(_) => (TokenHealth::Accepted, None),
        };
        context.output.object(&Health { url: client.url().to_string(), ready: true, token })?;
        refusal.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Tabular for Health {
    const COLUMNS: &'static [&'static str] = &["url", "ready", "token"];

    fn row(&self) -> Vec<Cell> {
        self.fields().into_iter().map(|(_, cell)| cell).collect()
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let token = match self.token {
            TokenHealth::Accepted => "accepted",
            TokenHealth::Refused => "refused",
        };
        vec![
            ("control plane", Cell::new(&self.url)),
            ("ready", Cell::new(if self.ready { "yes" } else { "no" })),
            ("token", Cell::new(token)),
        ]
    }
}
