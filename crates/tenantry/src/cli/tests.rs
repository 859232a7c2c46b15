//! How command lines are read.

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace())
}

fn kind(line: &str) -> ErrorKind {
    parse(line).map(|_| ()).expect_err(line).kind()
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn every_command_of_the_documentation_is_understood() {
    for line in [
        "tenantry tenant create acme",
        "tenantry tenant create acme --plan team --isolation cluster --label tier=gold --override connections=50 --no-wait",
        "tenantry --output json tenant list --status active,suspended --limit 700",
        "tenantry tenant list --all --output json --url http://127.0.0.1:1",
        "tenantry tenant show 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "tenantry tenant update acme --remove-label pilot",
        "tenantry tenant delete acme --yes --wait --timeout 5m",
        "tenantry tenant create acme --plan trial --no-seed",
        "tenantry tenant update acme --strictly-apart group --with-parent",
        "tenantry tenant update acme --remove-affinity",
        "tenantry tenant purge acme",
        "tenantry tenant host add acme app.acme.com",
        "tenantry tenant host list acme --all",
        "tenantry tenant host remove acme app.acme.com",
        "tenantry route resolve acme --with-passwords",
        "tenantry route resolve --host app.acme.com",
        "tenantry tenant bulk suspend --reason payment --note late --until 30d --label overdue --below acme --wait 60",
        "tenantry tenant bulk resume --alone --status suspended --dry-run",
        "tenantry cluster register eu-1 --region eu --host 127.0.0.1 --password-file p",
        "tenantry cluster update eu-1 --max-tenants 7",
        "tenantry cluster remove eu-1",
        "tenantry cluster register eu-1 --region eu-central-1 --host 127.0.0.1 --password-file p --dry-run",
        "tenantry cluster update eu-1 --max-connections 400 --max-disk 500GB",
        "tenantry cluster drain eu-1 --dry-run",
        "tenantry cluster replica add eu-1 --host 10.0.0.8 --port 5433 --max-lag 2s --tls-mode verify_ca --tls-ca ca.pem",
        "tenantry cluster replica list eu-1",
        "tenantry cluster replica remove eu-1 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "tenantry tenant create acme --region eu --label group=a --strictly-apart group --with-parent --dry-run",
        "tenantry placement explain --plan team --region eu --isolation database --label group=a --apart group",
        "tenantry region-group put eu eu-central-1 eu-west-1",
        "tenantry region-group delete eu",
        "tenantry plan update team --apart group",
        "tenantry operation list --state parked,waiting --kind provision",
        "tenantry operation watch 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "tenantry operation events 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "tenantry token create --name ci --scope migrations:write,tenants:read --expires 90d",
        "tenantry migrate lint --dir x",
        "tenantry migrate lint --dir x --deny warnings --warn syntax --allow squawk/ban-drop-column --since 14",
        "tenantry migrate lint --dir x --extension citext --extension hstore --output json",
        "tenantry migrate rules --dir x",
        "tenantry migrate import --from golang-migrate --dir x --to y --dry-run --force",
        "tenantry migrate push --dir x --name flights",
        "tenantry migrate push --dir x --allow squawk/renaming-table",
        "tenantry migrate apply --dir x --concurrency 32",
        "tenantry migrate apply --set 3f9a01c2 --no-wait",
        "tenantry migrate apply --plan plan.json --timeout 5m",
        "tenantry query --all - --statement-timeout 5s",
        "tenantry query --tenant acme --tenant globex --file report.sql --csv",
        "tenantry migrate plan --dir x --wave 1 --wave all --sql --out plan.json",
        "tenantry migrate plan --set 3f9a01c2 --dry-run 3 --dry-run-timeout 30s",
        "tenantry migrate status",
        "tenantry migrate retry 01923f4a-5b6c-7d8e-9fa0-b1c2d3e4f506",
        "tenantry plan list",
        "tenantry audit list --since 24h --tenant acme",
        "tenantry audit export --since 30d",
        "tenantry audit verify --file audit.jsonl",
        "tenantry catalog migrate --catalog-url postgres://owner@127.0.0.1/c --runtime-role tenantry_runtime",
        "tenantry secrets status",
        "tenantry secrets rotate-master --no-wait",
        "tenantry secrets new-key --key-version 2",
        "tenantry psql acme --read-only -- --csv -c select",
        "tenantry health",
        "tenantry completions zsh",
    ] {
        assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err().map(|error| error.to_string()));
    }
}

#[test]
fn wrong_values_are_named_before_anything_is_sent() {
    let error = parse("tenantry tenant create Not_A_Slug").expect_err("no slug").to_string();
    assert!(error.contains("`Not_A_Slug` is not a slug"), "{error}");
    let error = parse("tenantry tenant list --status asleep").expect_err("no status").to_string();
    assert!(error.contains("provisioning, active"), "{error}");
    assert_eq!(kind("tenantry tenant update acme"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry tenant host add acme App.acme.com"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry route resolve"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry route resolve acme --host app.acme.com"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry migrate apply"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry migrate apply --dir x --set 3f9a01c2"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry query x"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry query --all"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry query --all --tenant acme x"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry query --all --file x y"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry migrate apply --plan plan.json --dir x"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry migrate apply --plan plan.json --wave 1"), ErrorKind::ArgumentConflict);
    assert_eq!(kind("tenantry migrate plan"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry migrate plan --dir x --dry-run 21"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry migrate plan --dir x --dry-run-timeout 5s"), ErrorKind::MissingRequiredArgument);
    assert_eq!(kind("tenantry migrate apply --dir x --concurrency 0"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry migrate lint --dir x --allow no-such-rule"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry migrate import --from liquibase --dir x --to y"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry migrate lint --dir x --since -1"), ErrorKind::UnknownArgument);
    assert_eq!(kind("tenantry tenant list --limit 0"), ErrorKind::ValueValidation);
    assert_eq!(kind("tenantry tenant list --limit 5 --all"), ErrorKind::ArgumentConflict);
}

#[test]
fn a_mistake_is_told_in_the_shape_that_was_asked_for() {
    let wants = |line: &str, variable: Option<&str>| {
        wants_json(line.split_whitespace().map(OsString::from), variable.map(OsString::from))
    };
    assert!(wants("tenantry --output json tenant nonsense", None));
    assert!(wants("tenantry tenant nonsense --output=json", None));
    assert!(wants("tenantry tenant nonsense", Some("json")));
    assert!(!wants("tenantry tenant nonsense --output table", Some("json")));
    assert!(!wants("tenantry psql acme -- --output json", None));
    assert!(!wants("tenantry tenant nonsense --output", None));
}

#[test]
fn no_argument_takes_a_token_or_a_password() {
    fn check(command: &clap::Command) {
        for argument in command.get_arguments() {
            let name = argument.get_id().as_str();
            assert!(!matches!(name, "token" | "password" | "secret") || argument.is_positional(), "{name}");
        }
        command.get_subcommands().for_each(check);
    }
    check(&Arguments::command());
    assert_eq!(kind("tenantry tenant list --token tenantry_x"), ErrorKind::UnknownArgument);
}

#[test]
fn every_command_is_explained() {
    fn check(command: &clap::Command) {
        assert!(command.get_about().is_some() || command.get_name() == "help", "{}", command.get_name());
        for argument in
            command.get_arguments().filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
        {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Arguments::command());
}

#[test]
fn waiting_is_the_default_and_the_last_word_counts() {
    let patience = |line: &str| match parse(line).expect(line).command {
        Command::Tenant(tenant::TenantCommand::Delete(arguments)) => arguments.patience().is_some(),
        _ => panic!("another command"),
    };
    assert!(patience("tenantry tenant delete acme"));
    assert!(!patience("tenantry tenant delete acme --no-wait"));
    assert!(patience("tenantry tenant delete acme --no-wait --wait"));
    assert!(!patience("tenantry tenant delete acme --wait --no-wait"));
}

#[test]
fn help_ends_with_examples() {
    let error = parse("tenantry tenant create --help").expect_err("help");
    assert_eq!(error.kind(), ErrorKind::DisplayHelp);
    assert!(error.to_string().contains("Examples:"), "{error}");
}
