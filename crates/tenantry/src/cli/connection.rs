//! Which control plane the commands talk to, and as whom.

use std::path::{Path, PathBuf};

use clap::Args;
use tenantry_api::{Client, ClientConfig};
use tenantry_domain::Secret;

use super::error::CliError;
use super::profile;

/// The variable that a token comes from. It is no argument: arguments are visible to everyone on the machine.
pub(crate) const TOKEN_VARIABLE: &str = "TENANTRY_TOKEN";

/// Options that every client command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionOptions {
    /// Where the control plane is
    #[arg(long, global = true, env = "TENANTRY_URL", value_name = "URL", display_order = 900)]
    url: Option<String>,
    /// Read the token from this file; else TENANTRY_TOKEN, else the profile
    #[arg(long, global = true, env = "TENANTRY_TOKEN_FILE", value_name = "FILE", display_order = 901)]
    token_file: Option<PathBuf>,
    /// URL and token, as `tenantry dev` writes them; its default place unless given
    #[arg(long, global = true, env = "TENANTRY_PROFILE", value_name = "FILE", display_order = 902)]
    profile: Option<PathBuf>,
    /// PEM of the only certificate authority to trust for the control plane
    #[arg(long, global = true, env = "TENANTRY_CA", value_name = "FILE", display_order = 903)]
    ca: Option<PathBuf>,
}

impl ConnectionOptions {
    /// The client that these options, the environment and the profile lead to. Nothing is sent yet.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        let given_token = match &self.token_file {
            Some(path) => Some(read_token(path)?),
            None => std::env::var(TOKEN_VARIABLE).ok().filter(|text| !text.is_empty()).map(Secret::new),
        };
        // With both given, a profile that does not fit (unreadable, say) is none of the command's business.
        let profile = match (&self.url, &given_token, &self.profile) {
            (Some(_), Some(_), None) => None,
            (_, _, asked_for) => profile::find(asked_for.as_deref())?,
        };
        let (url, token) = choose(self.url.as_deref(), given_token, profile)?;
        let mut config = ClientConfig::new(&url, token)?;
        if let Some(path) = &self.ca {
            config.ca = Some(read(path, "the certificate authority")?);
        }
        Ok(Client::new(config)?)
    }
}

/// A token from a profile goes only to the control plane that the profile names.
fn choose(
    url: Option<&str>,
    token: Option<Secret>,
    profile: Option<profile::Profile>,
) -> Result<(String, Option<Secret>), CliError> {
    let same_place = |one: &str, other: &str| one.trim_end_matches('/') == other.trim_end_matches('/');
    match (url, profile) {
        (Some(url), Some(profile)) if token.is_none() && same_place(url, &profile.api_url) => {
            Ok((url.to_owned(), Some(profile.token.into_secret())))
        }
        (Some(url), _) => Ok((url.to_owned(), token)),
        (None, Some(profile)) => Ok((profile.api_url, token.or_else(|| Some(profile.token.into_secret())))),
        (None, None) => Err(CliError::usage(
            "no control plane is named: give --url or TENANTRY_URL, or start one with `tenantry dev` and its profile \
             is found by itself",
        )),
    }
}

/// Reads a token; blanks and line ends around it do not count.
fn read_token(path: &Path) -> Result<Secret, CliError> {
    let text = read(path, "the token file")?;
    match text.trim() {
        "" => Err(CliError::usage(format!("the token file {} is empty", path.display()))),
        token => Ok(Secret::new(token.to_owned())),
    }
}

/// Reads a small text file.
pub(crate) fn read(path: &Path, what: &'static str) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|source| CliError::File { what, path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn profile() -> Option<profile::Profile> {
        serde_json::from_str(r#"{"api_url": "http://127.0.0.1:7700", "token": "of-profile"}"#).ok()
    }

    #[test]
    fn what_is_given_wins_over_the_profile() {
        let chosen = choose(None, None, profile()).expect("enough");
        assert_eq!(chosen, ("http://127.0.0.1:7700".to_owned(), Some(secret("of-profile"))));
        let chosen = choose(None, Some(secret("given")), profile()).expect("enough");
        assert_eq!(chosen.1, Some(secret("given")));
        assert!(choose(None, Some(secret("given")), None).is_err());
    }

    #[test]
    fn a_profiles_token_goes_nowhere_else() {
        assert_eq!(choose(Some("https://elsewhere"), None, profile()).expect("enough").1, None);
        assert_eq!(
            choose(Some("http://127.0.0.1:7700/"), None, profile()).expect("enough").1,
            Some(secret("of-profile"))
        );
    }

    #[test]
    fn a_token_file_is_trimmed_and_must_hold_something() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "tenantry_x\n").expect("written");
        assert_eq!(read_token(file.path()).ok(), Some(secret("tenantry_x")));
        std::fs::write(file.path(), "\n").expect("written");
        assert!(read_token(file.path()).is_err());
    }
}
