//! How settings are read, and which are refused.

use super::*;

const KEYS: &str = "1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, RuntimeError> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("written");
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    tenantry_runtime::load(Some(file.path()), variables).map(|loaded| loaded.value)
}

#[tokio::test]
async fn every_section_is_read_and_reaches_its_room() {
    let config = load(
        "[catalog]\npool_size = 5\nstart_timeout = \"3s\"\n[server]\nlisten = \"127.0.0.1:9\"\n\
         [control]\nworkers = 3\ndefault_region = \"eu-1\"\n\
         deadlines = { provision = \"5m\", delete = \"0s\" }\n[fleet]\nextensions = [\"citext\"]\n\
         [telemetry]\nlog_format = \"json\"\n",
        &[("TENANTRY__CATALOG__URL", "postgres://a:b@127.0.0.1/c"), ("TENANTRY__SECRETS__MASTER_KEYS", KEYS)],
    );
    let config = config.expect("valid");
    let store = config.catalog.store().expect("complete");
    assert_eq!((store.url.expose(), store.pool_size), ("postgres://a:b@127.0.0.1/c", 5));
    assert_eq!(config.catalog.start_timeout, Duration::from_secs(3));
    assert_eq!(config.server.listen.port(), 9);
    assert_eq!((config.control().workers, config.control().place_on_catalog_server), (3, false));
    let deadlines = config.control().deadlines;
    assert!(deadlines.contains(&(OperationKind::Provision, Duration::from_mins(5))), "{deadlines:?}");
    assert!(deadlines.contains(&(OperationKind::Delete, Duration::ZERO)), "{deadlines:?}");
    assert_eq!(config.fleet().extensions, ["citext"]);
    assert!(config.secrets.keyring().await.is_ok());
    assert!(config.check().is_ok());
    let debug = format!("{config:?}");
    assert!(!debug.contains("a:b") && !debug.contains("001122"), "{debug}");
}

#[test]
fn a_list_in_the_environment_is_joined_by_commas() {
    let config = load("", &[("TENANTRY__FLEET__EXTENSIONS", "citext, pgcrypto")]).expect("valid");
    assert_eq!(config.fleet().extensions, ["citext", "pgcrypto"]);
}

#[test]
fn unknown_keys_are_refused_in_every_section() {
    for text in [
        "[http]\nlisten = \"127.0.0.1:9\"",
        "[catalog]\nurls = \"x\"",
        "[secrets]\nmaster_key = \"x\"",
        "[server]\nport = 9",
        "[control]\nworker = 1",
        "[control]\ndeadlines = { provisioning = \"5m\" }",
        "[control]\nplace_on_catalog_server = true",
        "[fleet]\nextension = []",
        "[webhooks]\nallow_all = true",
        "[telemetry]\nlevel = \"info\"",
    ] {
        assert!(load(text, &[]).is_err(), "{text}");
    }
}

#[tokio::test]
async fn what_has_no_default_is_asked_for_by_name() {
    let config = Config::default();
    let error = config.catalog.store().expect_err("no URL").to_string();
    assert!(error.contains("TENANTRY__CATALOG__URL") && error.contains("catalog.url_file"), "{error}");
    let error = config.secrets.keyring().await.expect_err("no keys").to_string();
    assert!(error.contains("TENANTRY__SECRETS__MASTER_KEYS"), "{error}");
}

#[tokio::test]
async fn a_secret_comes_from_a_file_or_from_a_setting_not_both() {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), format!("{KEYS}\n")).expect("written");
    let path = file.path().display();
    let config = load(&format!("[secrets]\nmaster_key_file = \"{path}\""), &[]).expect("valid");
    assert!(config.secrets.keyring().await.is_ok());
    let both = load(&format!("[secrets]\nmaster_key_file = \"{path}\"\nmaster_keys = \"{KEYS}\""), &[]);
    assert!(both.expect("valid").secrets.keyring().await.is_err());
    let missing = load("[catalog]\nurl_file = \"/nowhere/url\"", &[]).expect("valid");
    assert!(matches!(missing.catalog.store(), Err(ConfigError::File { setting: "catalog.url_file", .. })));
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    for (text, setting) in [
        ("[control]\nworkers = 0", "control.workers"),
        ("[control]\nlease = \"10ms\"", "control.lease"),
        ("[control]\nrotation_overlap = \"2m\"", "control.rotation_overlap"),
        ("[catalog]\npool_size = 1", "catalog.pool_size"),
    ] {
        let error = load(text, &[]).expect("well-formed").check().expect_err(text).to_string();
        assert!(error.contains(setting), "{error}");
    }
}

#[tokio::test]
async fn master_keys_come_from_a_program_that_sees_no_setting_of_ours() {
    let section = |command: &str| format!("[secrets]\nmaster_key_timeout = \"5s\"\nmaster_key_command = {command}");
    let print = section(&format!("[\"/bin/sh\", \"-c\", \"test -z \\\"$TENANTRY__CATALOG__URL\\\" && echo {KEYS}\"]"));
    let config = load(&print, &[]).expect("valid");
    assert_eq!(config.secrets.keyring().await.expect("printed").versions(), [1]);
    let joined = load("", &[("TENANTRY__SECRETS__MASTER_KEY_COMMAND", &format!("/bin/echo,{KEYS}"))]).expect("valid");
    assert_eq!(joined.secrets.keyring().await.expect("printed").versions(), [1]);
    let both = load(&format!("{print}\nmaster_keys = \"{KEYS}\""), &[]).expect("valid");
    assert!(both.secrets.keyring().await.expect_err("two sources").to_string().contains("master_key_command"));
}

#[tokio::test]
async fn a_program_that_prints_no_keys_is_named_and_what_it_printed_is_not_told() {
    for (script, word) in
        [("echo hunter2; exit 3", "exit status: 3"), ("exec sleep 100", "100ms"), ("yes hunter2", "64 KiB")]
    {
        let text = format!(
            "[secrets]\nmaster_key_timeout = \"100ms\"\nmaster_key_command = [\"/bin/sh\", \"-c\", \"{script}\"]"
        );
        let error = load(&text, &[]).expect("valid").secrets.keyring().await.expect_err(script).to_string();
        assert!(error.contains(word) && error.contains("/bin/sh") && !error.contains("hunter2"), "{script}: {error}");
    }
    let missing = load("[secrets]\nmaster_key_command = [\"/nowhere/program\"]", &[]).expect("valid");
    assert!(missing.secrets.keyring().await.expect_err("no program").to_string().contains("/nowhere/program"));
}
