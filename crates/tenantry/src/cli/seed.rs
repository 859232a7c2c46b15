//! `tenantry seed`.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use tenantry_api::{ListQuery, PushSeed, Seed};
use tenantry_domain::{SeedName, SeedRef};

use super::error::CliError;
use super::paging::{self, ListOptions};
use super::table::{Cell, Tabular};
use super::{Context, examples};

/// The most that is read of a file: a seed is no larger.
const BYTES_MAX: u64 = 1024 * 1024;

/// SQL that fills new homes once.
#[derive(Debug, Subcommand)]
pub(crate) enum SeedCommand {
    /// Register a seed; from now on its name stands for this text
    #[command(after_help = examples!(
        "tenantry seed push demo-data --file demo.sql",
        "pg_dump --data-only --inserts --table settings | tenantry seed push settings --file -",
        "tenantry tenant create acme --seed demo-data",
        "tenantry plan update team --seed settings      # for every new tenant of the plan",
    ))]
    Push(PushArguments),
    /// List seeds, retired ones too
    #[command(after_help = examples!("tenantry seed list"))]
    List(ListOptions),
    /// Show a seed
    #[command(after_help = examples!(
        "tenantry seed show demo-data",
        "tenantry seed show demo-data --sql > demo.sql",
    ))]
    Show {
        /// Its digest, or its name for the newest
        seed: SeedRef,
        /// Print its text and nothing else
        #[arg(long)]
        sql: bool,
    },
    /// Retire a seed: no new tenant gets it
    #[command(after_help = examples!("tenantry seed retire demo-data"))]
    Retire {
        /// Its digest, or its name for the newest
        seed: SeedRef,
    },
}

/// A name, and the text.
#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// Its name
    name: SeedName,
    /// The file that holds its SQL; `-` for standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

impl SeedCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client()?;
        match self {
            Self::Push(PushArguments { name, file }) => {
                let push = PushSeed { name, sql: read(file)? };
                context.output.object(&client.push_seed(&push).await?)
            }
            Self::List(options) => {
                let fetch = async |limit, cursor| client.list_seeds(&ListQuery { limit: Some(limit), cursor }).await;
                context.output.list(&paging::gather(&options, fetch).await?)
            }
            Self::Show { seed, sql: false } => context.output.object(&client.show_seed(&seed).await?),
            Self::Show { seed, sql: true } => {
                context.output.raw(&client.show_seed(&seed).await?.sql.unwrap_or_default())
            }
            Self::Retire { seed } => {
                client.retire_seed(&seed).await?;
                context.output.done(&json!({ "retired": seed }), &format!("No new tenant gets the seed {seed}."))
            }
        }
    }
}

fn read(path: PathBuf) -> Result<String, CliError> {
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(&path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(source) => Err(CliError::File { what: "the seed", path, source }),
    }
}

impl Tabular for Seed {
    const COLUMNS: &'static [&'static str] = &["name", "bytes", "created", "retired", "id"];

    fn row(&self) -> Vec<Cell> {
        vec![
            Cell::new(&self.name),
            Cell::new(self.bytes),
            Cell::time(self.created_at),
            Cell::optional_time(self.retired_at),
            Cell::new(&self.id),
        ]
    }

    fn fields(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("id", Cell::new(&self.id)),
            ("name", Cell::new(&self.name)),
            ("bytes", Cell::new(self.bytes)),
            ("created", Cell::time(self.created_at)),
            ("retired", Cell::optional_time(self.retired_at)),
        ]
    }
}
