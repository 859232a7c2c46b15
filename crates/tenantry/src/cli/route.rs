//! `tenantry route`.

use clap::{Args, Subcommand};
use tenantry_api::route::ResolveBy;
use tenantry_api::{Route, RouteCredential, TenantRef};
use tenantry_domain::HostName;

use super::error::CliError;
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// What is needed to reach a tenant.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Show where a tenant is reached, and as whom
    #[command(after_help = examples!(
        "tenantry route resolve acme",
        "tenantry route resolve --host app.acme.com --output json",
        "tenantry route resolve acme --with-passwords --output json   # for a script; mind who sees its output",
        "",
        "Needs a token with routes:read, and routes:secrets for passwords.",
    ))]
    Resolve(ResolveArguments),
}

/// Which tenant.
#[derive(Debug, Args)]
pub(crate) struct ResolveArguments {
    /// Its slug or id
    #[arg(required_unless_present = "host")]
    tenant: Option<TenantRef>,
    /// One of its hosts, in lower case and without a port
    #[arg(long, conflicts_with = "tenant")]
    host: Option<HostName>,
    /// Show its passwords, which the token must be allowed to see
    #[arg(long)]
    with_passwords: bool,
}

impl RouteCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let Self::Resolve(arguments) = self;
        let by = match (arguments.tenant, arguments.host) {
            (Some(TenantRef::Id(id)), _) => ResolveBy::Id(id),
            (Some(TenantRef::Slug(slug)), _) => ResolveBy::Slug(slug),
            (None, Some(host)) => ResolveBy::Host(host),
            (None, None) => return Err(CliError::usage("name the tenant, or one of its hosts by --host")),
        };
        let mut route = context.client()?.resolve_route(by).await?;
        if !arguments.with_passwords {
            for credential in [&mut route.credential, &mut route.read_only_credential].into_iter().flatten() {
                credential.password = None;
            }
        } else if route.credential.as_ref().is_some_and(|it| it.password.is_none()) {
            return Err(CliError::usage("the token may not see passwords; use one with routes:secrets"));
        }
        context.output.object(&route)
    }
}

impl Tabular for Route {
    const COLUMNS: &'static [&'static str] = &["slug", "state", "cluster", "database", "schema", "role", "version"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.slug),
            Cell::state(self.state),
            Cell::optional(self.cluster),
            Cell::optional(self.database.as_ref()),
            Cell::optional(self.schema.as_ref()),
            Cell::optional(self.role.as_ref()),
            Cell::new(self.version),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        let role = |credential: &Option<RouteCredential>| Cell::optional(credential.as_ref().map(|it| &it.role));
        let mut fields = vec![
            ("tenant", Cell::new(self.tenant)),
            ("slug", Cell::new(&self.slug)),
            ("hosts", Cell::joined(&self.hosts)),
            ("state", Cell::state(self.state)),
            ("cluster", Cell::optional(self.cluster)),
            ("database", Cell::optional(self.database.as_ref())),
            ("schema", Cell::optional(self.schema.as_ref())),
            ("role", role(&self.credential)),
            ("read-only role", role(&self.read_only_credential)),
            ("pooling", Cell::new(self.pooling)),
            ("schema version", Cell::new(self.schema_version)),
            ("generation", Cell::new(self.generation)),
            ("version", Cell::new(self.version)),
        ];
        for (name, credential) in [("password", &self.credential), ("read-only password", &self.read_only_credential)] {
            let password = credential.as_ref().and_then(|it| it.password.as_ref());
            fields.extend(password.map(|password| (name, Cell::new(password.as_secret().expose()))));
        }
        fields
    }
}
