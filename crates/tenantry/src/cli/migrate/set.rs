//! Migration sets: push, list, show.

use std::str::FromStr;

use tenantry_api::{Client, ListQuery, Migration, MigrationSet, PageLimit, Repeatable};
use tenantry_domain::MigrationSetId;

use super::{PushArguments, lint};
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

pub(super) async fn push(context: &Context, arguments: PushArguments) -> Result<(), CliError> {
    let client = context.client()?;
    let push = lint::judged(context, &client, &arguments.folder.folder, arguments.name, &arguments.lint).await?;
    context.output.object(&client.push_migration_set(&push).await?)
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
        if let Some(repeatables) = set.repeatables.as_deref().filter(|repeatables| !repeatables.is_empty()) {
            composition.list(repeatables);
        }
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
            ("repeatables", Cell::optional(self.repeatables.as_ref().map(Vec::len))),
            ("created", Cell::time(self.created_at)),
            ("promoted", Cell::optional_time(self.promoted_at)),
        ]
    }
}

impl Tabular for Migration {
    const COLUMNS: &'static [&'static str] =
        &["version", "name", "transactional", "phase", "requires app", "reversible", "checksum"];

    fn row(&self) -> Vec<Cell> {
        self.fields().into_iter().map(|(_, cell)| cell).collect()
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("version", Cell::new(self.version)),
            ("name", Cell::new(&self.name)),
            ("transactional", Cell::new(if self.transactional { "yes" } else { "no" })),
            ("phase", Cell::optional(self.phase.as_ref())),
            ("requires app", Cell::optional(self.requires_app.as_ref())),
            ("reversible", Cell::new(if self.reversible { "yes" } else { "no" })),
            ("checksum", Cell::new(&self.checksum)),
        ]
    }
}

impl Tabular for Repeatable {
    const COLUMNS: &'static [&'static str] = &["repeatable", "transactional", "phase", "checksum"];

    fn row(&self) -> Vec<Cell> {
        self.fields().into_iter().map(|(_, cell)| cell).collect()
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("repeatable", Cell::new(&self.name)),
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
}
