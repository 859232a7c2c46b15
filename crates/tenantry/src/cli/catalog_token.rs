//! The first token: made straight in the catalog, by whoever holds the catalog's own credential.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use tenantry_api::{CreatedToken, SecretText, Token};
use tenantry_control::tokens;
use tenantry_domain::{DisplayName, Scope, ScopeSet, Secret};
use tenantry_store::{Keyring, Store, StoreConfig};
use url::Url;

use super::error::CliError;
use super::output::Output;
use crate::config::{Config, FILE_VARIABLE};
use crate::serve::ServeError;

/// What the first token is called unless it is named.
const FIRST_NAME: &str = "admin";
/// The variable from which PostgreSQL's own programs take a password.
const PASSWORD_VARIABLE: &str = "PGPASSWORD";

/// Which catalog, for a token that is not created over the API.
#[derive(Debug, Args)]
#[command(next_help_heading = "Directly in the catalog")]
pub(crate) struct DirectArguments {
    /// Create it in the catalog that the configuration of `serve` names; scope admin and name `admin` unless given
    #[arg(long)]
    catalog: bool,
    /// Create it in the catalog at this URL
    #[arg(long, value_name = "URL", conflicts_with = "catalog")]
    catalog_url: Option<String>,
    /// The configuration file of `serve`
    #[arg(long, env = FILE_VARIABLE, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DirectArguments {
    pub(super) fn is_given(&self) -> bool {
        self.catalog || self.catalog_url.is_some()
    }

    /// Connects to the catalog, which `serve` must have set up.
    pub(super) async fn store(&self, output: Output) -> Result<Store, CliError> {
        let store_config = connection(output, self.config.as_deref(), self.catalog_url.as_deref())?;
        // A token is kept as a hash: nothing is sealed, so the catalog's own keys are not asked for.
        let keyring = Keyring::generate().and_then(|key| Keyring::parse(&key));
        let connected = async { Store::connect(&store_config, keyring?).await };
        let store = connected.await.map_err(ServeError::from)?;
        if store.pending_migrations().await.map_err(ServeError::from)?.is_empty() {
            Ok(store)
        } else {
            Err(CliError::usage("the catalog is not set up, or not up to date; start `tenantry serve` on it first"))
        }
    }
}

/// How to reach the catalog that a URL names, or else the configuration of `serve`.
pub(super) fn connection(output: Output, config: Option<&Path>, url: Option<&str>) -> Result<StoreConfig, CliError> {
    let config = Config::load(config).map_err(ServeError::from)?.value;
    let store_config = match url {
        Some(url) => {
            let (url, is_exposed) = with_password(url, std::env::var(PASSWORD_VARIABLE).ok());
            if is_exposed {
                output.warning("the password in --catalog-url is seen by everyone on this machine; use PGPASSWORD");
            }
            config.catalog.store_at(url)
        }
        None => config.catalog.store(),
    };
    Ok(store_config.map_err(ServeError::from)?)
}

/// Makes the token.
pub(super) async fn create(
    store: &Store,
    name: Option<DisplayName>,
    scopes: Vec<Scope>,
    expires_at: Option<Timestamp>,
) -> Result<CreatedToken, CliError> {
    let first_name = || DisplayName::parse(FIRST_NAME).map_err(|error| CliError::usage(error.to_string()));
    let name = name.map_or_else(first_name, Ok)?;
    let scopes = if scopes.is_empty() { vec![Scope::Admin] } else { scopes };
    let created = tokens::create_first(store, name, ScopeSet::new(scopes), expires_at).await;
    let (token, secret) = created.map_err(ServeError::from)?;
    let token = Token {
        id: token.id,
        name: token.name,
        scopes: token.scopes,
        tenant: token.tenant,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
    };
    Ok(CreatedToken { token, secret: SecretText::new(secret) })
}

/// The URL with the password from the environment, where it has none; and whether it bears one of its own, which
/// everyone on the machine can see.
fn with_password(url: &str, password: Option<String>) -> (Secret, bool) {
    // PostgreSQL's other form of a connection string, `host=… user=…`, is passed on as it is.
    let Ok(mut parsed) = Url::parse(url) else {
        return (Secret::new(url.to_owned()), url.contains("password="));
    };
    if parsed.password().is_some() {
        return (Secret::new(url.to_owned()), true);
    }
    match password.filter(|password| !password.is_empty()) {
        Some(password) if parsed.set_password(Some(&password)).is_ok() => (Secret::new(parsed.into()), false),
        _ => (Secret::new(url.to_owned()), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_the_environment_and_one_in_the_url_is_told() {
        let outcome = |url: &str, password: Option<&str>| {
            let (url, is_exposed) = with_password(url, password.map(str::to_owned));
            (url.expose().to_owned(), is_exposed)
        };
        let plain = "postgres://a@127.0.0.1:5432/c";
        assert_eq!(outcome(plain, None), (plain.to_owned(), false));
        assert_eq!(outcome(plain, Some("b@/")), ("postgres://a:b%40%2F@127.0.0.1:5432/c".to_owned(), false));
        let full = "postgres://a:b@127.0.0.1:5432/c";
        assert_eq!(outcome(full, Some("other")), (full.to_owned(), true));
        assert!(outcome("host=127.0.0.1 password=b", None).1);
    }

    #[tokio::test]
    async fn the_first_token_needs_the_catalog_and_no_master_key() {
        let server = tenantry_testkit::Server::shared().await;
        let space = tenantry_testkit::Namespace::on(server);
        let url = server.url(&space.database("catalog").await);
        let direct = DirectArguments { catalog: false, catalog_url: Some(url), config: None };
        let output = Output::new(crate::cli::output::Format::Json);
        let error = direct.store(output).await.expect_err("not set up").to_string();
        assert!(error.contains("tenantry serve"), "{error}");

        let store_config = StoreConfig::new(Secret::new(direct.catalog_url.clone().expect("given")));
        let key = Keyring::generate().and_then(|key| Keyring::parse(&key)).expect("a key");
        Store::connect(&store_config, key).await.expect("reachable").migrate().await.expect("migrated");

        let store = direct.store(output).await.expect("set up");
        let created = create(&store, None, Vec::new(), None).await.expect("made");
        assert_eq!(created.token.name.as_str(), "admin");
        assert_eq!(created.token.scopes, ScopeSet::new([Scope::Admin]));
        assert!(created.secret.as_secret().expose().starts_with("tenantry_"));
        assert_eq!(store.count_tokens().await.expect("counted"), 1);
        space.end().await;
    }
}
