//! Seeds: SQL that fills a new tenant's home once, after its migrations and before anybody is let in.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tenantry_domain::{Access, Scope, SeedId, SeedName, SeedRef};
use tenantry_fleet::ApplyOptions;
use tenantry_migration_set::{Finding, Migration, MigrationSet, Rule, Severity};
use tenantry_store::{AuditEntry, Page, PageRequest, SeedRecord, StoreError, Tx};

use crate::caller::Caller;
use crate::control::Control;
use crate::error::ControlError;

/// Bytes of a seed's text at most: 1 MiB.
pub const SQL_BYTES_MAX: usize = 1024 * 1024;
/// The file that the rules of migrations are applied to. Findings and failures say the seed's name instead.
const FILE: &str = "V1__seed.sql";

/// What a new tenant's home is filled with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeedChoice {
    /// What its plan says.
    #[default]
    OfPlan,
    /// This one.
    Seed(SeedRef),
    /// Nothing, whatever its plan says.
    Nothing,
}

/// Registers a seed, or finds the same again. The answer says whether it is new. From now on its name stands for it.
///
/// Refused with every finding where the text breaks a rule of migrations, or asks to run outside a transaction.
pub async fn push(
    control: &Control,
    caller: &Caller,
    name: &SeedName,
    sql: &str,
) -> Result<(SeedRecord, bool), ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    if sql.len() > SQL_BYTES_MAX {
        return Err(ControlError::invalid("/sql", format!("use at most {SQL_BYTES_MAX} bytes")));
    }
    check(name, sql)?;
    let id = digest(name, sql)?;
    let tx = control.store().begin().await?;
    let is_new = tx.insert_seed(&id, name, sql).await?;
    if is_new {
        let after = Some(json!({ "name": name, "bytes": sql.len() }));
        tx.audit(&AuditEntry { after, ..caller.does("seed.push", target(&id)) }).await?;
    }
    let seed = tx.seed(&SeedRef::Id(id)).await?;
    tx.commit().await?;
    Ok((seed, is_new))
}

/// A page of seeds, newest first, retired ones included.
pub async fn list(control: &Control, caller: &Caller, page: &PageRequest) -> Result<Page<SeedRecord>, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().seeds(page).await?)
}

/// One seed; by name, the newest that is not retired.
pub async fn show(control: &Control, caller: &Caller, seed: &SeedRef) -> Result<SeedRecord, ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Read))?;
    Ok(control.store().seed(seed).await?)
}

/// Takes a seed from new tenants; provisions that have begun with it go on. Its text is kept.
pub async fn retire(control: &Control, caller: &Caller, seed: &SeedRef) -> Result<(), ControlError> {
    caller.require_fleet_wide(Scope::Migrations(Access::Write))?;
    let tx = control.store().begin().await?;
    let seed = tx.seed(seed).await?;
    if let Some(plan) = tx.plan_that_needs_seed(&seed.id, &seed.name).await? {
        return Err(ControlError::Conflict {
            reason: format!("plan `{plan}` gives its tenants the seed `{}`; change the plan first", seed.name),
        });
    }
    tx.retire_seed(&seed.id).await?;
    let before = Some(json!({ "name": seed.name }));
    tx.audit(&AuditEntry { before, ..caller.does("seed.retire", target(&seed.id)) }).await?;
    tx.commit().await?;
    Ok(())
}

/// The seed that a new tenant gets, if it gets one.
pub(crate) async fn choose(
    tx: &Tx,
    wish: &SeedChoice,
    of_plan: Option<SeedName>,
) -> Result<Option<SeedId>, ControlError> {
    let (pointer, seed) = match (wish, of_plan) {
        (SeedChoice::Seed(seed), _) => ("/seed", seed.clone()),
        (SeedChoice::OfPlan, Some(name)) => ("/plan", SeedRef::Name(name)),
        (SeedChoice::OfPlan, None) | (SeedChoice::Nothing, _) => return Ok(None),
    };
    match tx.seed(&seed).await {
        Ok(seed) if seed.retired_at.is_none() => Ok(Some(seed.id)),
        Ok(_) => Err(ControlError::invalid(pointer, format!("the seed `{seed}` is retired; name another"))),
        Err(StoreError::NotFound { .. }) => {
            let reason = format!("there is no seed `{seed}`; list them with `tenantry seed list`");
            Err(ControlError::invalid(pointer, reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a name that no seed bears, where a plan is to give it.
pub(crate) async fn check_of_plan(tx: &Tx, seed: Option<&SeedName>) -> Result<(), ControlError> {
    let Some(name) = seed else { return Ok(()) };
    match tx.seed(&SeedRef::Name(name.clone())).await {
        Ok(_) => Ok(()),
        Err(StoreError::NotFound { .. }) => {
            let reason = format!("there is no seed `{name}`; register it with `tenantry seed push`");
            Err(ControlError::invalid("/seed", reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// How long a seed may take in one attempt, less than a step may.
pub(crate) fn limits() -> ApplyOptions {
    ApplyOptions {
        statement_timeout: Duration::from_mins(1),
        deadline: Duration::from_mins(4),
        ..ApplyOptions::default()
    }
}

/// The name that findings and failures give a seed's text.
pub(crate) fn file_name(name: &SeedName) -> String {
    format!("{name}.sql")
}

/// The text as the fleet takes it, checked by the rules of migrations.
pub(crate) fn check(name: &SeedName, sql: &str) -> Result<Migration, ControlError> {
    let refused = |findings: Vec<Finding>| ControlError::MigrationRefused { name: name.to_string(), findings };
    let set = MigrationSet::from_files(name.as_str(), &[(FILE, sql)]).map_err(|error| {
        let named = |finding: &Finding| Finding { file: file_name(name), ..finding.clone() };
        refused(error.findings().iter().map(named).collect())
    })?;
    match set.migrations() {
        [migration] if migration.transactional => Ok(migration.clone()),
        _ => Err(refused(vec![Finding {
            file: file_name(name),
            line: 1,
            column: 1,
            rule: Rule::Header,
            severity: Severity::Error,
            message: "a seed runs in one transaction, or a repetition would fill twice: remove `-- no-transaction`"
                .to_owned(),
        }])),
    }
}

fn digest(name: &SeedName, sql: &str) -> Result<SeedId, ControlError> {
    let digest = Sha256::new().chain_update(name.as_str()).chain_update([0]).chain_update(sql).finalize();
    Ok(SeedId::parse(&hex::encode(digest))?)
}

fn target(id: &SeedId) -> String {
    format!("seed/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(sql: &str) -> Vec<(String, u32, Rule)> {
        match check(&SeedName::parse("demo").expect("valid"), sql) {
            Ok(_) => Vec::new(),
            Err(ControlError::MigrationRefused { findings, .. }) => {
                findings.into_iter().map(|finding| (finding.file, finding.line, finding.rule)).collect()
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_seed_obeys_the_rules_of_migrations_under_its_own_name() {
        assert_eq!(findings("INSERT INTO a VALUES (1);"), []);
        let file = || "demo.sql".to_owned();
        assert_eq!(findings("SELECT 1;\nCOMMIT;"), [(file(), 2, Rule::TransactionControl)]);
        assert_eq!(findings("-- no-transaction\nSELECT 1;"), [(file(), 1, Rule::Header)]);
        assert_eq!(findings(""), [(file(), 1, Rule::EmptyFile)]);
    }

    #[test]
    fn the_digest_tells_name_and_text_apart() {
        let name = |text| SeedName::parse(text).expect("valid");
        let id = |seed, sql| digest(&name(seed), sql).expect("a digest");
        assert_eq!(id("a", "b"), id("a", "b"));
        assert_ne!(id("a", "b"), id("a", "c"));
        assert_ne!(id("ab", "c"), id("a", "bc"));
    }
}
