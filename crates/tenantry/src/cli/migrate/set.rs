//! Migration sets: lint, push, list, show.

use std::path::Path;
use std::str::FromStr;

use serde_json::json;
use tenantry_api::{Client, ListQuery, Migration, MigrationFile, MigrationSet, PageLimit, PushMigrationSet};
use tenantry_domain::{DisplayName, MigrationSetId};

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::paging::{self, ListOptions};
use crate::cli::table::{Cell, Tabular};

/// As many digits as tables show.
const SHORT: usize = 12;
/// Fewer digits than this name too much.
const PREFIX_MIN: usize = 8;

/// The id of a migration set, or the first digits of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetPrefix(String);

impl FromStr for SetPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_prefix = (PREFIX_MIN..=64).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_prefix {
            Ok(Self(text.to_owned()))
        } else {
            Err("use the set's 64 hexadecimal digits, or the first eight or more of them".to_owned())
        }
    }
}

impl SetPrefix {
    /// The one set that is meant.
    pub(super) async fn resolve(&self, client: &Client) -> Result<MigrationSetId, CliError> {
        if let Ok(id) = MigrationSetId::parse(&self.0) {
            return Ok(id);
        }
        let mut found: Option<MigrationSetId> = None;
        let mut cursor = None;
        loop {
            let list = ListQuery { limit: PageLimit::new(500).ok(), cursor };
            let page = client.list_migration_sets(&list).await?;
            for set in page.items.into_iter().filter(|set| set.id.as_str().starts_with(&self.0)) {
                if found.is_some() {
                    return Err(CliError::usage(format!("more than one set begins with {}; give more digits", self.0)));
                }
                found = Some(set.id);
            }
            if page.next.is_none() {
                return found.ok_or_else(|| {
                    CliError::usage(format!("no set begins with {}; see `tenantry migrate sets`", self.0))
                });
            }
            cursor = page.next;
        }
    }
}

/// The first digits of a set's id, as tables show it.
pub(super) fn short(id: &MigrationSetId) -> &str {
    id.as_str().get(..SHORT).unwrap_or_default()
}

pub(super) fn lint(context: &Context, folder: &Path) -> Result<(), CliError> {
    let set = match tenantry_migration_set::MigrationSet::read(folder) {
        Ok(set) => set,
        Err(error) if error.findings().is_empty() => return Err(error.into()),
        Err(error) => {
            // Findings are what was asked for, so they go where results go.
            let lines: Vec<_> = error.findings().iter().map(ToString::to_string).collect();
            let json = json!({ "findings": error.findings() });
            context.output.done(&json, &lines.join("\n"))?;
            return Err(CliError::Linted { findings: error.findings().len() });
        }
    };
    let count = set.migrations().len();
    let json = json!({ "findings": [], "id": set.id(), "migrations": count, "latest_version": set.latest_version() });
    let sentence = format!(
        "{count} migrations, up to version {}, are in order. The set is {}.",
        set.latest_version(),
        short(set.id())
    );
    context.output.done(&json, &sentence)
}

pub(super) async fn push(context: &Context, folder: &Path, name: Option<DisplayName>) -> Result<(), CliError> {
    let push = read(folder, name)?;
    context.output.object(&context.client()?.push_migration_set(&push).await?)
}

/// Reads and judges a folder here, where findings name the developer's own files, before anything is sent.
pub(super) fn read(folder: &Path, name: Option<DisplayName>) -> Result<PushMigrationSet, CliError> {
    let set = tenantry_migration_set::MigrationSet::read(folder)?;
    let name = match name {
        Some(name) => name,
        None => DisplayName::parse(set.name())
            .map_err(|_| CliError::usage("the folder's name is no name for a set; give one by --name"))?,
    };
    let files = set.files().into_iter().map(|(name, content)| MigrationFile { name, content: content.to_owned() });
    Ok(PushMigrationSet { name, files: files.collect() })
}

pub(super) async fn list(context: &Context, options: &ListOptions) -> Result<(), CliError> {
    let client = context.client()?;
    let fetch = async |limit, cursor| client.list_migration_sets(&ListQuery { limit: Some(limit), cursor }).await;
    context.output.list(&paging::gather(options, fetch).await?)
}

pub(super) async fn show(context: &Context, set: &SetPrefix) -> Result<(), CliError> {
    let client = context.client()?;
    let set = client.show_migration_set(&set.resolve(&client).await?).await?;
    context.output.composed(&set, |composition| {
        composition.object(&set);
        composition.list(set.migrations.as_deref().unwrap_or_default());
    })
}

impl Tabular for MigrationSet {
    const COLUMNS: &'static [&'static str] = &["set", "name", "version", "created", "promoted"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(short(&self.id)),
            Cell::new(&self.name),
            Cell::new(self.latest_version),
            Cell::time(self.created_at),
            Cell::optional_time(self.promoted_at),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(&self.id)),
            ("name", Cell::new(&self.name)),
            ("latest version", Cell::new(self.latest_version)),
            ("migrations", Cell::optional(self.migrations.as_ref().map(Vec::len))),
            ("created", Cell::time(self.created_at)),
            ("promoted", Cell::optional_time(self.promoted_at)),
        ]
    }
}

impl Tabular for Migration {
    const COLUMNS: &'static [&'static str] = &["version", "name", "transactional", "phase", "checksum"];

    fn row(&self) -> Vec<Cell> {
        self.fields().into_iter().map(|(_, cell)| cell).collect()
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("version", Cell::new(self.version)),
            ("name", Cell::new(&self.name)),
            ("transactional", Cell::new(if self.transactional { "yes" } else { "no" })),
            ("phase", Cell::optional(self.phase.as_ref())),
            ("checksum", Cell::new(&self.checksum)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_named_by_enough_digits() {
        assert!("3f9a01c2".parse::<SetPrefix>().is_ok());
        assert!("a".repeat(64).parse::<SetPrefix>().is_ok());
        for bad in ["3f9a01c", "3F9A01C2", "flights-1", &"a".repeat(65)] {
            assert!(bad.parse::<SetPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_is_judged_before_it_is_sent() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("V1__a.sql"), "SELECT 1;\n").expect("written");
        let name = DisplayName::parse("flights").expect("a name");
        let push = read(folder.path(), Some(name.clone())).expect("in order");
        assert_eq!((push.name, push.files.len(), push.files[0].content.as_str()), (name, 1, "SELECT 1;\n"));
        std::fs::write(folder.path().join("V2__b.sql"), "COMMIT;").expect("written");
        assert!(matches!(read(folder.path(), None), Err(CliError::MigrationSet(_))));
    }
}
