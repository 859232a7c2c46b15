//! One look at one tenant: its history against the sets, its objects against the reference.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tenantry_domain::{DriftState, SchemaVersion};
use tenantry_fleet::{
    AppliedMigration, AppliedRepeatable, ClusterTarget, EMPTY_SCHEMA, FleetError, FoundSchema, ObjectDifference,
    schema_differences, schema_divergence,
};
use tenantry_migration_set::{Migration, MigrationSet};
use tenantry_store::{DriftFinding, DriftSubject, HomeRecord, StoreError};

use super::reference::{self, References};
use crate::control::Control;
use crate::error::ControlError;
use crate::migration_sets;
use crate::operations::cluster_target::cluster_target;

/// Objects that differ and are kept, of one tenant.
pub const DIFFERENCES_MAX: usize = 200;
/// Characters of a definition that are kept.
const DEFINITION_MAX: usize = 2_000;
/// The longest that one question to a home may take.
const QUESTION_MAX: Duration = Duration::from_secs(8);

/// A round of looks. What several tenants need is asked for once.
pub(crate) struct Checker<'a> {
    control: &'a Control,
    promoted: Option<Arc<MigrationSet>>,
    references: References,
}

/// Which files a home has applied.
enum Standing {
    /// These, which may be none.
    Files(Option<Arc<MigrationSet>>),
    /// Others than the fleet, for this reason.
    Diverged(String),
}

impl<'a> Checker<'a> {
    pub(crate) async fn new(control: &'a Control) -> Result<Self, ControlError> {
        let promoted = match control.store().promoted().await? {
            Some(set) => Some(migration_sets::load(control, &set.id).await?),
            None => None,
        };
        Ok(Self { control, promoted, references: References::default() })
    }

    /// Looks at a tenant and keeps what comes of it.
    pub(crate) async fn check(&self, subject: &DriftSubject) -> Result<(), ControlError> {
        let at = Timestamp::now();
        let outcome = self.look(subject).await;
        Ok(self.control.store().record_drift(subject, at, outcome.as_ref().map_err(String::as_str)).await?)
    }

    /// The error says why nothing can be said of the tenant, in a sentence.
    async fn look(&self, subject: &DriftSubject) -> Result<DriftFinding, String> {
        let home = match self.control.store().home(subject.home).await {
            Ok(home) => home,
            Err(StoreError::NotFound { .. }) => return Err("its home is being taken down".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let target = cluster_target(self.control, subject.cluster).await.map_err(|error| error.to_string())?;
        let fleet = self.control.fleet();
        let found = in_time(fleet.find_schema(&target, &home.home, &home.secrets.migrator)).await?;
        let version = SchemaVersion(found.history.last().map_or(0, |applied| applied.version));
        let finding = |state, reason| DriftFinding {
            state,
            version,
            fingerprint: found.fingerprint.clone(),
            reason,
            missing: 0,
            unexpected: 0,
            changed: 0,
            differences: serde_json::Value::Array(Vec::new()),
        };
        let files = match self.standing(subject, &found).await.map_err(|error| error.to_string())? {
            Standing::Diverged(reason) => return Ok(finding(DriftState::Diverged, Some(reason))),
            Standing::Files(files) => files,
        };
        let expected = match &files {
            Some(files) => self.references.fingerprint(self.control, &target, files, found.server_major).await?,
            None => EMPTY_SCHEMA.to_owned(),
        };
        if expected == found.fingerprint {
            return Ok(finding(DriftState::Clean, None));
        }
        let differences = self.differences(&target, &home, files.as_deref(), found.server_major).await?;
        // It was mended between the two questions.
        if differences.is_empty() {
            return Ok(finding(DriftState::Clean, None));
        }
        // Objects of another version than the history's would differ although all is well.
        let after = in_time(fleet.find_schema(&target, &home.home, &home.secrets.migrator)).await?;
        if (&after.history, &after.repeatables) != (&found.history, &found.repeatables) {
            return Err("it was migrated while it was looked at; look again".to_owned());
        }
        let number = |of: fn(&ObjectDifference) -> bool| {
            u32::try_from(differences.iter().filter(|it| of(it)).count()).unwrap_or(u32::MAX)
        };
        let missing = number(|it| it.found.is_none());
        let unexpected = number(|it| it.expected.is_none());
        let changed = number(|it| it.found.is_some() && it.expected.is_some());
        let reason = format!(
            "its schema is not what the migrations make up to version {version}: {missing} missing, {unexpected} \
             unexpected, {changed} changed"
        );
        let kept: Vec<ObjectDifference> = differences.into_iter().take(DIFFERENCES_MAX).map(shortened).collect();
        let kept = serde_json::to_value(kept).map_err(|error| error.to_string())?;
        Ok(DriftFinding {
            missing,
            unexpected,
            changed,
            differences: kept,
            ..finding(DriftState::Drifted, Some(reason))
        })
    }

    /// Holds the history against the promoted set, and against the sets of rollouts where the home is ahead of that.
    async fn standing(&self, subject: &DriftSubject, found: &FoundSchema) -> Result<Standing, ControlError> {
        let history = found.history.as_slice();
        let Some(newest) = history.last() else { return Ok(Standing::Files(None)) };
        if let Some(promoted) = &self.promoted {
            match against_promoted(promoted, history) {
                Some(Ok(())) => return self.files(promoted, newest.version, found).await,
                Some(Err(reason)) => return Ok(Standing::Diverged(reason)),
                None => {}
            }
        }
        for id in self.control.store().sets_of_tenant(subject.tenant, subject.home).await? {
            let set = migration_sets::load(self.control, &id).await?;
            if schema_divergence(&set, history).is_none() {
                return self.files(&set, newest.version, found).await;
            }
        }
        Ok(Standing::Diverged(format!(
            "the home has applied V{}__{}, which is in no migration set that was rolled out to it",
            newest.version, newest.name
        )))
    }

    /// What the home has applied: the set up to the version, and the repeatable files as they were when they came to it.
    async fn files(
        &self,
        set: &Arc<MigrationSet>,
        version: i64,
        found: &FoundSchema,
    ) -> Result<Standing, ControlError> {
        let is_whole = set.latest_version().0 == version
            && set.repeatables().len() == found.repeatables.len()
            && set.repeatables().iter().zip(&found.repeatables).all(|(known, applied)| has(known, applied));
        if is_whole {
            return Ok(Standing::Files(Some(Arc::clone(set))));
        }
        let versioned = set.migrations().iter().take_while(|migration| migration.version <= version);
        let mut files: Vec<(String, String)> = versioned.map(|it| (it.file_name(), it.sql.clone())).collect();
        for applied in &found.repeatables {
            let Some(file) = self.repeatable(set, applied).await? else {
                return Ok(Standing::Diverged(format!(
                    "the home has applied R__{} with content that no migration set has",
                    applied.name
                )));
            };
            files.push(file);
        }
        let files = MigrationSet::from_files(set.name(), &files).map_err(ControlError::internal)?;
        Ok(Standing::Files(Some(Arc::new(files))))
    }

    /// Name and content of a repeatable file that a home has, of this set or else of whatever set has it.
    async fn repeatable(
        &self,
        set: &MigrationSet,
        applied: &AppliedRepeatable,
    ) -> Result<Option<(String, String)>, ControlError> {
        if let Some(known) = set.repeatables().iter().find(|known| has(known, applied)) {
            return Ok(Some((known.file_name(), known.sql.clone())));
        }
        let stored = self.control.store().repeatable(&applied.name, applied.checksum).await?;
        Ok(stored.map(|stored| (stored.file_name(), stored.sql)))
    }

    async fn differences(
        &self,
        target: &ClusterTarget,
        home: &HomeRecord,
        files: Option<&MigrationSet>,
        server_major: i32,
    ) -> Result<Vec<ObjectDifference>, String> {
        let expected = match files {
            Some(files) => {
                reference::objects(self.control, files, server_major).await.map_err(|error| error.to_string())?
            }
            None => Vec::new(),
        };
        let fleet = self.control.fleet();
        let there = in_time(fleet.schema_objects(target, &home.home, &home.secrets.migrator)).await?;
        Ok(schema_differences(&expected, &there))
    }
}

/// Whether the history is the beginning of the promoted set, or how it is not; nothing where it has all of that and goes
/// beyond, as during a rollout.
fn against_promoted(promoted: &MigrationSet, history: &[AppliedMigration]) -> Option<Result<(), String>> {
    let end = promoted.latest_version().0;
    let within = history.partition_point(|applied| applied.version <= end);
    let (within, beyond) = history.split_at(within);
    match (schema_divergence(promoted, within), beyond.first()) {
        (Some(reason), _) => Some(Err(reason)),
        (None, None) => Some(Ok(())),
        (None, Some(_)) if within.len() == promoted.migrations().len() => None,
        (None, Some(first)) => Some(Err(format!(
            "the home has applied V{}__{}, but not all of the promoted migration set, which ends at version {end}",
            first.version, first.name
        ))),
    }
}

fn has(known: &Migration, applied: &AppliedRepeatable) -> bool {
    known.name == applied.name && known.checksum == applied.checksum
}

async fn in_time<T>(question: impl Future<Output = Result<T, FleetError>>) -> Result<T, String> {
    match tokio::time::timeout(QUESTION_MAX, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("its cluster did not answer within {} s", QUESTION_MAX.as_secs())),
    }
}

fn shortened(difference: ObjectDifference) -> ObjectDifference {
    let shorten = |text: Option<String>| {
        text.map(|text| match text.char_indices().nth(DEFINITION_MAX) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        })
    };
    ObjectDifference { expected: shorten(difference.expected), found: shorten(difference.found), ..difference }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn history(files: &[(&str, &str)]) -> Vec<AppliedMigration> {
        let set = MigrationSet::from_files("test", files).unwrap();
        let row =
            |it: &Migration| AppliedMigration { version: it.version, name: it.name.clone(), checksum: it.checksum };
        set.migrations().iter().map(row).collect()
    }

    #[test]
    fn a_home_is_within_the_promoted_set_or_beyond_all_of_it() {
        let files = [("V1__a.sql", "SELECT 1;"), ("V2__b.sql", "SELECT 2;"), ("V3__c.sql", "SELECT 3;")];
        let promoted = MigrationSet::from_files("test", &files[..2]).unwrap();
        assert_eq!(against_promoted(&promoted, &history(&files[..1])), Some(Ok(())));
        assert_eq!(against_promoted(&promoted, &history(&files[..2])), Some(Ok(())));
        assert_eq!(against_promoted(&promoted, &history(&files)), None);
        let gap = against_promoted(&promoted, &history(&[files[0], files[2]]));
        assert!(gap.unwrap().unwrap_err().contains("V3__c, but not all"));
        let other = [files[0], ("V2__b.sql", "SELECT 22;"), files[2]];
        assert!(against_promoted(&promoted, &history(&other)).unwrap().unwrap_err().contains("other content"));
    }

    #[test]
    fn what_is_kept_of_a_definition_is_bounded() {
        let long = "ü".repeat(DEFINITION_MAX + 5);
        let difference = ObjectDifference {
            kind: "function".to_owned(),
            name: "f()".to_owned(),
            expected: Some(long),
            found: Some("short".to_owned()),
        };
        let kept = shortened(difference);
        assert_eq!(kept.expected.unwrap().chars().count(), DEFINITION_MAX + 1);
        assert_eq!(kept.found.unwrap(), "short");
    }
}
