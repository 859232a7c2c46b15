//! Reading configuration: defaults, then one TOML file, then the environment.
//!
//! `TENANTRY__SERVER__LISTEN` sets `listen` in the section `server`. An empty variable counts as absent. Numbers and
//! booleans are read from text where the setting asks for one, so a password that looks like a number stays as it is.

use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path as KeyPath, Segment};

use crate::error::RuntimeError;

const PREFIX: &str = "TENANTRY";
const SEPARATOR: &str = "__";

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<T> {
    /// The settings.
    pub value: T,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The names of the environment variables that were used, in order.
    pub variables: Vec<String>,
}

/// Reads a configuration from a file, if one is named, and from environment variables, usually `std::env::vars()`.
///
/// The type carries the defaults (`#[serde(default)]`) and refuses unknown keys (`#[serde(deny_unknown_fields)]`) in
/// each of its sections. An error names the setting and the file or the variable that it was given in.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded<T>, RuntimeError> {
    let start = format!("{PREFIX}{SEPARATOR}");
    let variables: Vec<(String, String)> =
        environment.into_iter().filter(|(name, value)| name.starts_with(&start) && !value.is_empty()).collect();
    let mut builder = Config::builder();
    if let Some(file) = file {
        let unreadable = |source| RuntimeError::Unreadable { file: file.to_owned(), source };
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        // Parsed alone first, so that a mistake in the syntax is told apart from a wrong setting.
        let syntax = |source| RuntimeError::Syntax { file: file.to_owned(), source: Box::new(source) };
        let parsed = Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).build().map_err(syntax)?;
        builder = builder.add_source(parsed);
    }
    let environment = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(variables.iter().cloned().collect()));
    let mut names: Vec<String> = variables.into_iter().map(|(name, _)| name).collect();
    names.sort();
    let wrong = |key: String, message: String| {
        let place = place(&key, file, &names);
        RuntimeError::Setting { key, place, message }
    };
    let merged = builder.add_source(environment).build().map_err(|error| wrong(String::new(), error.to_string()))?;
    let value = serde_path_to_error::deserialize(merged)
        .map_err(|error| wrong(key_of(error.path()), error.inner().to_string()))?;
    Ok(Loaded { value, file: file.map(Path::to_owned), variables: names })
}

fn key_of(path: &KeyPath) -> String {
    let segments = path.iter().filter_map(|segment| match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(index.to_string()),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    segments.collect::<Vec<_>>().join(".")
}

/// The setting and where it was given. The environment wins over the file, so it is asked first.
fn place(key: &str, file: Option<&Path>, variables: &[String]) -> String {
    let as_variable = format!("{PREFIX}{SEPARATOR}{}", key.to_uppercase().replace('.', SEPARATOR));
    let section = format!("{as_variable}{SEPARATOR}");
    let given_as = variables.iter().find(|name| {
        let name = name.to_uppercase();
        name == as_variable || name.starts_with(&section)
    });
    match (key, given_as, file) {
        ("", _, Some(file)) => format!("the configuration in `{}`", file.display()),
        ("", _, None) => "the configuration".to_owned(),
        (_, Some(variable), _) => format!("`{key}` in the environment variable `{variable}`"),
        (_, None, Some(file)) => format!("`{key}` in `{}`", file.display()),
        (_, None, None) => format!("`{key}`"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Server {
        listen: String,
        port: u16,
        public: bool,
        #[serde(with = "crate::duration")]
        drain: Duration,
        password: Option<String>,
    }

    impl Default for Server {
        fn default() -> Self {
            let drain = Duration::from_secs(30);
            Self { listen: "127.0.0.1".to_owned(), port: 80, public: false, drain, password: None }
        }
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        server: Server,
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn read(text: &str, variables: &[(&str, &str)]) -> Result<Loaded<Settings>, RuntimeError> {
        let file = file(text);
        load(Some(file.path()), variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let loaded = read(
            "[server]\nport = 8080\ndrain = \"5s\"\nlisten = \"::1\"",
            &[
                ("TENANTRY__SERVER__PORT", "9090"),
                ("TENANTRY__SERVER__PUBLIC", "true"),
                ("TENANTRY__SERVER__DRAIN", "250ms"),
                ("TENANTRY__SERVER__PASSWORD", "0042"),
                ("TENANTRY__SERVER__LISTEN", ""),
                ("TENANTRY_TOKEN", "not a setting"),
                ("PATH", "/bin"),
            ],
        );
        let loaded = loaded.expect("valid");
        let expected = Server {
            listen: "::1".to_owned(),
            port: 9090,
            public: true,
            drain: Duration::from_millis(250),
            password: Some("0042".to_owned()),
        };
        assert_eq!(loaded.value, Settings { server: expected });
        assert_eq!(loaded.variables.len(), 4);
    }

    #[test]
    fn without_file_and_environment_the_defaults_stand() {
        let loaded = load::<Settings>(None, []).expect("valid");
        assert_eq!((loaded.value, loaded.file, loaded.variables.len()), (Settings::default(), None, 0));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_path_and_file() {
        let error = read("[server]\nlisen = \"::1\"", &[]).expect_err("unknown key");
        let text = error.to_string();
        assert!(matches!(&error, RuntimeError::Setting { key, .. } if key == "server.lisen"), "{error:?}");
        assert!(text.contains('/') && text.contains("unknown field `lisen`") && text.contains("`listen`"), "{text}");

        let error = read("", &[("TENANTRY__SERVR__PORT", "1")]).expect_err("unknown section");
        assert!(error.to_string().contains("`TENANTRY__SERVR__PORT`"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_where_it_was_given() {
        let error = read("[server]\nport = 1", &[("TENANTRY__SERVER__PORT", "many")]).expect_err("no number");
        assert!(error.to_string().starts_with("`server.port` in the environment variable `TENANTRY__SERVER__PORT`"));
        let error = read("[server]\nport = 70000", &[]).expect_err("too large");
        assert!(error.to_string().starts_with("`server.port` in `/"), "{error}");
        let error = read("[server]\ndrain = \"soon\"", &[]).expect_err("no duration");
        assert!(error.to_string().contains("no duration"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_named() {
        let error = load::<Settings>(Some(Path::new("/nowhere/tenantry.toml")), []).expect_err("missing");
        assert!(error.to_string().contains("/nowhere/tenantry.toml"), "{error}");
        let error = read("[server\n", &[]).expect_err("no TOML");
        assert!(matches!(error, RuntimeError::Syntax { .. }), "{error:?}");
    }
}
