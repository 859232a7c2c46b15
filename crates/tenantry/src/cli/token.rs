//! `tenantry token`.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use tenantry_api::{Client, CreateToken, CreatedToken, ListQuery, TenantRef, Token};
use tenantry_domain::{DisplayName, Scope, ScopeSet, TokenId};

use super::arguments::{future, words};
use super::catalog_token::{self, DirectArguments};
use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// API tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token; its secret is shown this once
    #[command(after_help = examples!(
        "tenantry token create --catalog --config /etc/tenantry/tenantry.toml     # the first one, with scope admin",
        "tenantry token create --catalog-url postgres://tenantry@db.example.com/tenantry?sslmode=require",
        "tenantry token create --name ci --scope migrations:write,tenants:read --expires 90d",
        "tenantry token create --name acme-support --scope tenants:read --tenant acme",
        "tenantry token create --name router --scope routes:secrets --secret-only > router.token",
        "",
        "A password in --catalog-url is seen by everyone on the machine: leave it out and set PGPASSWORD, or use",
        "--catalog. Creating the token needs no master key.",
    ))]
    Create(CreateArguments),
    /// List tokens, without their secrets
    #[command(after_help = examples!("tenantry token list"))]
    List(ListOptions),
    /// Revoke a token: it is refused from now on
    #[command(after_help = examples!("tenantry token revoke 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506"))]
    Revoke {
        /// Its id
        token: TokenId,
    },
}

/// Nobody grants more than they hold; whoever holds the catalog's own credential grants anything.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// What it is for
    #[arg(long, required_unless_present_any = ["catalog", "catalog_url"])]
    name: Option<DisplayName>,
    /// What it may do; may be repeated, or separated by commas
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = words::<Scope>(scopes()),
        required_unless_present_any = ["catalog", "catalog_url"])]
    scopes: Vec<Scope>,
    /// The only tenant that it may touch, by slug or id; all unless given
    #[arg(long, conflicts_with_all = ["catalog", "catalog_url"])]
    tenant: Option<TenantRef>,
    /// When it ends, or how long it lasts; never unless given
    #[arg(long, value_name = "TIME", value_parser = future)]
    expires: Option<Timestamp>,
    /// Print the secret and nothing else, for scripts
    #[arg(long)]
    secret_only: bool,
    #[command(flatten)]
    direct: DirectArguments,
}

impl TokenCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create(arguments) => create(context, arguments).await,
            Self::List(options) => list(context, &context.client()?, &options).await,
            Self::Revoke { token } => {
                context.client()?.delete_token(token).await?;
                context.output.done(&json!({ "revoked": token }), &format!("Token {token} is refused from now on."))
            }
        }
    }
}

async fn create(context: &Context, arguments: CreateArguments) -> Result<(), CliError> {
    let CreateArguments { name, scopes, tenant, expires, secret_only, direct } = arguments;
    let created = if direct.is_given() {
        let store = direct.store(context.output).await?;
        catalog_token::create(&store, name, scopes, expires).await?
    } else {
        let name = name.ok_or_else(|| CliError::usage("name the token by --name"))?;
        let create = CreateToken { name, scopes: ScopeSet::new(scopes), tenant, expires_at: expires };
        context.client()?.create_token(&create).await?
    };
    show_created(context, &created, secret_only)
}

fn show_created(context: &Context, created: &CreatedToken, secret_only: bool) -> Result<(), CliError> {
    let secret = created.secret.as_secret().expose();
    if secret_only {
        return context.output.raw(&format!("{secret}\n"));
    }
    context.output.composed(created, |composition| {
        let mut fields = created.token.fields();
        fields.push(("secret", Cell::new(secret)));
        composition.fields(fields);
    })?;
    if !context.output.is_json() {
        context.output.note("The secret is shown this once. Keep it in a file that only its reader may read.");
    }
    Ok(())
}

async fn list(context: &Context, client: &Client, options: &ListOptions) -> Result<(), CliError> {
    let fetch = async |limit, cursor| client.list_tokens(&ListQuery { limit: Some(limit), cursor }).await;
    context.output.list(&paging::gather(options, fetch).await?)
}

fn scopes() -> impl Iterator<Item = String> {
    Scope::all().into_iter().map(|scope| scope.to_string())
}

impl Tabular for Token {
    const COLUMNS: &'static [&'static str] = &["name", "scopes", "tenant", "created", "expires", "last used", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::joined(self.scopes.iter()),
            Cell::optional(self.tenant),
            Cell::time(self.created_at),
            Cell::optional_time(self.expires_at),
            Cell::optional_time(self.last_used_at),
            Cell::new(self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(self.id)),
            ("name", Cell::new(&self.name)),
            ("scopes", Cell::joined(self.scopes.iter())),
            ("tenant", Cell::optional(self.tenant)),
            ("created", Cell::time(self.created_at)),
            ("expires", Cell::optional_time(self.expires_at)),
            ("last used", Cell::optional_time(self.last_used_at)),
        ]
    }
}
