//! Linting a folder: by itself, and before it is pushed.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tenantry_api::{
    Client, ClientError, Code, CommaSeparated, ListQuery, ListTenants, MigrationFile, Page, PageLimit, PushMigrationSet,
};
use tenantry_domain::{DisplayName, Isolation, TenantStatus};
use tenantry_migration_set::{Level, LintPolicy, LintReport, MigrationSet, MigrationSetError, Rule, Severity};

use super::RulesArguments;
use super::set::short;
use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::table::{Cell, Tabular};

/// The word that stands for every rule that would warn.
const WARNINGS: &str = "warnings";
/// How many sets the newest promoted one is looked for among.
const SETS_LOOKED_AT: u64 = 500;

/// How advice is judged; what is given here goes before the folder's lint.toml.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LintOptions {
    /// Refuse for this rule, or for `warnings`: every rule that would warn. Can be given more than once
    #[arg(long, value_name = "RULE")]
    deny: Vec<String>,
    /// Only warn of what this rule finds. Can be given more than once
    #[arg(long, value_name = "RULE")]
    warn: Vec<Rule>,
    /// Turn this rule off. Can be given more than once
    #[arg(long, value_name = "RULE")]
    allow: Vec<Rule>,
    /// Take files up to this version for applied everywhere: they are not judged, and tables of later files are empty
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(i64).range(0..))]
    since: Option<i64>,
    /// An extension that the control plane installs, in place of its default list. Can be given more than once
    #[arg(long = "extension", value_name = "NAME")]
    extensions: Vec<String>,
}

impl LintOptions {
    /// Whether anything was given.
    pub(super) fn is_given(&self) -> bool {
        let Self { deny, warn, allow, since, extensions } = self;
        !(deny.is_empty() && warn.is_empty() && allow.is_empty() && since.is_none() && extensions.is_empty())
    }

    /// The policy of a folder, changed as asked for.
    fn policy(&self, folder: &Path) -> Result<LintPolicy, CliError> {
        let mut policy = LintPolicy::read(folder)?;
        let mut given = Vec::new();
        for name in &self.deny {
            if name == WARNINGS {
                policy.deny_warnings();
            } else {
                given.push((name.parse::<Rule>().map_err(|error| CliError::usage(error.to_string()))?, Level::Error));
            }
        }
        given.extend(self.warn.iter().map(|rule| (*rule, Level::Warning)));
        given.extend(self.allow.iter().map(|rule| (*rule, Level::Off)));
        for (at, (rule, level)) in given.iter().enumerate() {
            if given[..at].iter().any(|(other, before)| other == rule && before != level) {
                return Err(CliError::usage(format!("{rule} is given two levels; decide on one")));
            }
            policy.set(*rule, *level)?;
        }
        if let Some(version) = self.since {
            policy.set_applied_up_to(version);
        }
        if !self.extensions.is_empty() {
            policy.set_extensions(self.extensions.iter().cloned());
        }
        Ok(policy)
    }
}

pub(super) fn lint(context: &Context, folder: &Path, options: &LintOptions) -> Result<(), CliError> {
    let report = LintReport::read(folder, &options.policy(folder)?)?;
    let (errors, warnings) = (report.errors(), report.warnings());
    let mut json = json!({ "findings": report.findings, "errors": errors, "warnings": warnings });
    // Findings are what was asked for, so they go where results go.
    let mut lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    if let Some(set) = &report.set {
        let count = set.migrations().len();
        json["id"] = json!(set.id());
        json["migrations"] = json!(count);
        json["repeatables"] = json!(set.repeatables().len());
        json["latest_version"] = json!(set.latest_version());
        if errors == 0 {
            let version = set.latest_version();
            lines.push(match warnings {
                0 => format!(
                    "{count} migrations, up to version {version}, are in order. The set is {}.",
                    short(set.id())
                ),
                _ => format!(
                    "{count} migrations, up to version {version}, are in order but for warnings: {warnings}. The set is {}.",
                    short(set.id())
                ),
            });
        }
    }
    context.output.done(&json, &lines.join("\n"))?;
    if errors == 0 {
        return Ok(());
    }
    let advice = report.findings.iter().any(|one| one.severity == Severity::Error && !one.rule.is_fixed());
    Err(CliError::Linted { findings: errors, advice })
}

/// Reads and judges a folder here, where findings name the developer's own files, before anything is sent. Files that
/// the control plane has already went this way before and are judged no more.
pub(super) async fn judged(
    context: &Context,
    client: &Client,
    folder: &Path,
    name: Option<DisplayName>,
    options: &LintOptions,
) -> Result<PushMigrationSet, CliError> {
    let mut policy = options.policy(folder)?;
    // What refuses whatever is applied needs no control plane to be told.
    MigrationSet::read(folder)?;
    if let Some(files) = registered_files(client).await? {
        policy.set_applied_files(files);
    }
    if shares_databases(client).await? {
        policy.expect_shared_databases();
    }
    let LintReport { set, findings, .. } = LintReport::read(folder, &policy)?;
    let (refused, warned): (Vec<_>, Vec<_>) = findings.into_iter().partition(|one| one.severity == Severity::Error);
    if !context.output.is_json() {
        for finding in &warned {
            context.output.note(&finding.to_string());
        }
    }
    match set {
        Some(set) if refused.is_empty() => request(&set, name),
        _ => Err(MigrationSetError::Refused(refused).into()),
    }
}

fn request(set: &MigrationSet, name: Option<DisplayName>) -> Result<PushMigrationSet, CliError> {
    let name = match name {
        Some(name) => name,
        None => DisplayName::parse(set.name())
            .map_err(|_| CliError::usage("the folder's name is no name for a set; give one by --name"))?,
    };
    let files = set.files().into_iter().map(|(name, content)| MigrationFile { name, content: content.to_owned() });
    Ok(PushMigrationSet { name, files: files.collect() })
}

/// Version and checksum of the files in the newest set and in the newest promoted one; nothing for a token that may push
/// and not look.
async fn registered_files(client: &Client) -> Result<Option<Vec<(i64, u64)>>, CliError> {
    let list = ListQuery { limit: PageLimit::new(SETS_LOOKED_AT).ok(), cursor: None };
    let sets = match client.list_migration_sets(&list).await {
        Ok(page) => page.items,
        Err(error) if may_not_look(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let newest = sets.first();
    let promoted = sets.iter().filter(|set| set.promoted_at.is_some()).max_by_key(|set| set.promoted_at);
    let mut files = Vec::new();
    for id in newest.into_iter().chain(promoted.filter(|set| newest.is_none_or(|newest| newest.id != set.id))) {
        let set = client.show_migration_set(&id.id).await?;
        let repeatables = set.repeatables.unwrap_or_default();
        files.extend(repeatables.iter().filter_map(|file| Some((0, u64::from_str_radix(&file.checksum, 16).ok()?))));
        files.extend(
            set.migrations.unwrap_or_default().into_iter().filter_map(|migration| {
                Some((migration.version.0, u64::from_str_radix(&migration.checksum, 16).ok()?))
            }),
        );
    }
    Ok(Some(files))
}

/// Whether any live tenant has a schema of a shared database; no for a token that may push and not look.
async fn shares_databases(client: &Client) -> Result<bool, CliError> {
    let live = [TenantStatus::Provisioning, TenantStatus::Active, TenantStatus::Suspended, TenantStatus::Moving];
    let list = ListTenants {
        status: CommaSeparated(live.to_vec()),
        isolation: Some(Isolation::Schema),
        limit: PageLimit::new(1).ok(),
        ..ListTenants::default()
    };
    match client.list_tenants(&list).await {
        Ok(page) => Ok(!page.items.is_empty()),
        Err(error) if may_not_look(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn may_not_look(error: &ClientError) -> bool {
    error.code() == Some(Code::Forbidden)
}

/// A rule, as it is listed.
#[derive(Debug, Serialize)]
struct ListedRule {
    rule: Rule,
    level: Level,
    fixed: bool,
}

pub(super) fn rules(context: &Context, arguments: &RulesArguments) -> Result<(), CliError> {
    let policy = match &arguments.folder {
        Some(folder) => LintPolicy::read(folder)?,
        None => LintPolicy::default(),
    };
    let listed = Rule::all().map(|rule| ListedRule { rule, level: policy.level(rule), fixed: rule.is_fixed() });
    context.output.list(&Page { items: listed.collect(), next: None })
}

impl Tabular for ListedRule {
    const COLUMNS: &'static [&'static str] = &["rule", "level", "can be changed"];

    fn row(&self) -> Vec<Cell> {
        let level = match self.level {
            Level::Off => "off",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        vec![Cell::new(self.rule), Cell::new(level), Cell::new(if self.fixed { "no" } else { "yes" })]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        Self::COLUMNS.iter().copied().zip(self.row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(deny: &[&str], allow: &[&str]) -> LintOptions {
        LintOptions {
            deny: deny.iter().map(|&name| name.to_owned()).collect(),
            allow: allow.iter().map(|name| name.parse().expect("a rule")).collect(),
            ..LintOptions::default()
        }
    }

    #[test]
    fn a_folder_becomes_a_request_under_its_own_name() {
        let set = MigrationSet::from_files("flights", &[("V1__a.sql", "SELECT 1;\n")]).expect("in order");
        let push = request(&set, None).expect("a name");
        assert_eq!((push.name.as_str(), push.files[0].content.as_str()), ("flights", "SELECT 1;\n"));
    }

    #[test]
    fn flags_go_before_the_folders_own_policy() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("lint.toml"), "[rules]\nqualified-name = 'off'\n").expect("written");
        let level = |options: &LintOptions| options.policy(folder.path()).map(|it| it.level(Rule::QualifiedName));
        assert_eq!(level(&LintOptions::default()).expect("a policy"), Level::Off);
        assert_eq!(level(&options(&["qualified-name"], &[])).expect("a policy"), Level::Error);
        let policy = options(&[WARNINGS], &[]).policy(folder.path()).expect("a policy");
        assert_eq!((policy.level(Rule::QualifiedName), policy.level(Rule::Syntax)), (Level::Off, Level::Error));
    }

    #[test]
    fn a_rule_that_guards_or_is_unknown_or_given_twice_is_wrong_usage() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for wrong in [
            options(&[], &["role-switch"]),
            options(&["no-such-rule"], &[]),
            options(&["qualified-name"], &["qualified-name"]),
        ] {
            assert!(wrong.policy(folder.path()).is_err(), "{wrong:?}");
        }
    }
}
