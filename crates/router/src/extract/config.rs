//! Sources as a configuration file has them.

use axum::http::HeaderName;
use serde::Deserialize;

#[cfg(feature = "jwt")]
use super::TokenConfig;
use super::{Development, TenantSources};
use crate::error::RouterError;

/// Where a service's configuration says that requests name their tenant, in order. Unknown keys are refused. With the
/// crate `config`, or any reader of serde:
///
/// ```toml
/// [[sources]]
/// from = "sub_domain"
///
/// [[sources]]
/// from = "header"
/// name = "x-tenant"
///
/// [[sources]]                       # with the feature `jwt`
/// from = "token"
/// issuer = "https://login.example.com"
/// audiences = ["flights"]
/// claim = "tenant"
/// keys = [{ id = "2026", algorithm = "EdDSA", pem_file = "/etc/flights/login.pem" }]
/// ```
///
/// `sub_domain` and `custom_host` have no other keys; `header` has `name`; `path` and `query` have `parameter`. `query`
/// stands only beside `development = "any request may name any tenant"` (see [`Development`]).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSourcesConfig {
    /// The trusted places; one at least.
    pub sources: Vec<TenantSourceConfig>,
    /// That this is no production, where it is none.
    #[serde(default)]
    pub development: Option<Development>,
}

/// One trusted place.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum TenantSourceConfig {
    /// See [`TenantSources::sub_domain`].
    SubDomain {},
    /// See [`TenantSources::custom_host`].
    CustomHost {},
    /// See [`TenantSources::header`].
    Header {
        /// The header's name.
        name: String,
    },
    /// See [`TenantSources::path`].
    Path {
        /// The parameter's name in the route, without braces.
        parameter: String,
    },
    /// See [`TenantSources::query`].
    Query {
        /// The parameter's name.
        parameter: String,
    },
    /// See [`TenantSources::token`].
    #[cfg(feature = "jwt")]
    Token(TokenConfig),
}

impl TenantSourcesConfig {
    /// The sources that it describes. Reads the files that it names, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// [`RouterError::Refused`] for no source at all, a header name that is none, a second token, a key that is missing,
    /// unreadable or too weak, and `query` outside development.
    pub fn build(self) -> Result<TenantSources, RouterError> {
        let refused = |reason: &str| RouterError::Refused { reason: reason.to_owned(), source: None };
        if self.sources.is_empty() {
            return Err(refused("no source may name the tenant; list one at least"));
        }
        let development = self.development;
        self.sources.into_iter().try_fold(TenantSources::new(), |sources, source| match source {
            TenantSourceConfig::SubDomain {} => Ok(sources.sub_domain()),
            TenantSourceConfig::CustomHost {} => Ok(sources.custom_host()),
            TenantSourceConfig::Header { name } => {
                let header = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|source| RouterError::refused(format!("`{name}` is no name of a header"), source))?;
                Ok(sources.header(header))
            }
            TenantSourceConfig::Path { parameter } => Ok(sources.path(parameter)),
            TenantSourceConfig::Query { parameter } => {
                let development = development.ok_or_else(|| {
                    refused("a query parameter names the tenant in development only: see `development`")
                })?;
                Ok(sources.query(parameter, development))
            }
            #[cfg(feature = "jwt")]
            TenantSourceConfig::Token(token) if sources.shared.token.is_none() => {
                let is_required = token.required;
                let verifier = token.build()?;
                Ok(if is_required { sources.token(verifier) } else { sources.optional_token(verifier) })
            }
            #[cfg(feature = "jwt")]
            TenantSourceConfig::Token(_) => Err(refused("there are two token sources; list all keys under one")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> Result<TenantSourcesConfig, toml::de::Error> {
        toml::from_str(toml)
    }

    #[test]
    fn the_order_of_the_file_is_the_order_of_the_sources() {
        let toml = r#"
            [[sources]]
            from = "header"
            name = "X-Tenant"
            [[sources]]
            from = "path"
            parameter = "airline"
            [[sources]]
            from = "sub_domain"
            [[sources]]
            from = "custom_host""#;
        let sources = parse(toml).expect("valid").build().expect("sources");
        let places: Vec<_> = sources.shared.places.iter().map(|place| format!("{place:?}")).collect();
        assert_eq!(places, [r#"Header("x-tenant")"#, r#"Path("airline")"#, "SubDomain", "CustomHost"]);
    }

    #[test]
    fn a_query_parameter_needs_the_sentence() {
        let query = "[[sources]]\nfrom = \"query\"\nparameter = \"tenant\"";
        assert!(matches!(parse(query).expect("valid").build(), Err(RouterError::Refused { .. })));
        for wrong in ["true", "\"yes\"", "\"Any request may name any tenant\""] {
            assert!(parse(&format!("development = {wrong}\n{query}")).is_err(), "{wrong}");
        }
        let right = format!("development = \"any request may name any tenant\"\n{query}");
        assert!(parse(&right).expect("valid").build().is_ok());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for unreadable in [
            "",
            "[[sources]]\nfrom = \"sub_domain\"\nname = \"x\"",
            "[[sources]]\nfrom = \"cookie\"",
            "[[sources]]\nfrom = \"header\"",
            "trust = \"all\"\nsources = []",
        ] {
            assert!(parse(unreadable).is_err(), "{unreadable}");
        }
        for unusable in ["sources = []", "[[sources]]\nfrom = \"header\"\nname = \"x tenant\""] {
            let outcome = parse(unusable).expect("readable").build();
            assert!(matches!(outcome, Err(RouterError::Refused { .. })), "{unusable}");
        }
    }
}
