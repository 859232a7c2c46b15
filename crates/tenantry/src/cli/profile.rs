//! A profile: where a control plane is and the token for it, in a file that only its owner may read.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;
use tenantry_api::SecretText;

use super::error::CliError;
use crate::data_directory;

/// A profile is a few lines; more is something else.
const BYTES_MAX: u64 = 64 * 1024;

/// What `tenantry dev` writes to `dev.json`. Fields of later versions are passed over, so that an older client can
/// read a newer profile.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Profile {
    /// Where the control plane is.
    pub(crate) api_url: String,
    /// The token for it.
    pub(crate) token: SecretText,
}

/// Reads the profile that was asked for, else the one that a `tenantry dev` in the default place has left, if any.
pub(crate) fn find(asked_for: Option<&Path>) -> Result<Option<Profile>, CliError> {
    if let Some(path) = asked_for {
        return read(path).map(Some);
    }
    let Some(directory) = data_directory::default_data_directory() else { return Ok(None) };
    match read(&data_directory::profile_path(&directory)) {
        Err(CliError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Reads one profile. A file that others may read is refused: its token would be anybody's.
fn read(path: &Path) -> Result<Profile, CliError> {
    let unreadable = |source| CliError::File { what: "the profile", path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it cannot be exchanged in between.
    refuse_if_shared(&file, path)?;
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    serde_json::from_str(&text).map_err(|error| {
        // The text itself stays out of the message: it bears a token.
        CliError::usage(format!(
            "the profile {} is not one ({:?} error in line {}); it needs `api_url` and `token`, as `tenantry dev` \
             writes them",
            path.display(),
            error.classify(),
            error.line()
        ))
    })
}

fn refuse_if_shared(file: &File, path: &Path) -> Result<(), CliError> {
    let unreadable = |source| CliError::File { what: "the profile", path: path.to_owned(), source };
    let others = file.metadata().map_err(unreadable)?.mode() & 0o077;
    if others == 0 {
        return Ok(());
    }
    Err(CliError::usage(format!(
        "the profile {path} is open to others and bears a token; run `chmod 600 {path}`, and revoke the token if \
         others use this machine",
        path = path.display(),
    )))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn profile(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).expect("permitted");
        file
    }

    const GOOD: &str = r#"{"api_url": "http://127.0.0.1:7700", "token": "tenantry_x", "catalog_url": "postgres://"}"#;

    #[test]
    fn a_private_profile_is_read() {
        let file = profile(GOOD, 0o600);
        let read = find(Some(file.path())).expect("readable").expect("there");
        assert_eq!((read.api_url.as_str(), read.token.as_secret().expose()), ("http://127.0.0.1:7700", "tenantry_x"));
        assert!(!format!("{read:?}").contains("tenantry_x"));
    }

    #[test]
    fn a_profile_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o644, 0o660] {
            let file = profile(GOOD, mode);
            let error = find(Some(file.path())).expect_err("refused").to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_wrong_profile_is_named_and_its_token_is_not() {
        let file = profile(r#"{"token": "tenantry_secret", "api_url": 7}"#, 0o600);
        let error = find(Some(file.path())).expect_err("no profile").to_string();
        assert!(error.contains("api_url") && !error.contains("tenantry_secret"), "{error}");
    }

    #[test]
    fn a_profile_that_was_asked_for_must_exist() {
        assert!(matches!(find(Some(Path::new("/nowhere/dev.json"))), Err(CliError::File { .. })));
    }
}
