//! Taking over the folder of another tool.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tenantry_migration_set::{Import, ImportError, ImportTool, ImportedFile};

use crate::cli::Context;
use crate::cli::error::CliError;

/// What to take over, and where to.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The tool whose folder it is: diesel, prisma, sqlx, golang-migrate or flyway
    #[arg(long, value_name = "TOOL")]
    from: ImportTool,
    /// The tool's folder of migrations
    #[arg(long = "dir", value_name = "FOLDER")]
    folder: PathBuf,
    /// The folder that is written, and made where there is none
    #[arg(long, value_name = "FOLDER")]
    to: PathBuf,
    /// Only tell what would be written
    #[arg(long)]
    dry_run: bool,
    /// Write beside, and over, SQL files that are in the folder already
    #[arg(long)]
    force: bool,
}

pub(super) fn import(context: &Context, arguments: &ImportArguments) -> Result<(), CliError> {
    let ImportArguments { from, folder, to, dry_run, force } = arguments;
    let import = match Import::read(*from, folder) {
        Ok(import) => import,
        Err(ImportError::Refused(remarks)) => {
            // Reasons are what somebody goes through with the files beside them, so they go where results go.
            let lines: Vec<String> = remarks.iter().map(ToString::to_string).collect();
            context.output.done(&json!({ "refused": remarks }), &lines.join("\n"))?;
            return Err(CliError::ImportRefused { reasons: remarks.len() });
        }
        Err(ImportError::Unreadable(error)) => return Err(error.into()),
        Err(error) => return Err(CliError::usage(error.to_string())),
    };
    if !force {
        check_target(to, &import.files)?;
    }
    if !dry_run {
        write(to, &import.files)?;
    }
    let mut json = json!(import);
    json["tool"] = json!(from);
    json["written"] = json!(!dry_run);
    context.output.done(&json, &summary(&import, to, *dry_run))
}

fn summary(import: &Import, to: &Path, dry_run: bool) -> String {
    let mut lines = Vec::new();
    for file in &import.files {
        lines.push(format!("{}  from {}", file.file, file.source));
        lines.extend(file.changes.iter().map(|change| format!("    {change}")));
    }
    lines.extend(import.left_out.iter().map(|remark| format!("left out {remark}")));
    lines.extend(import.notes.iter().map(|note| format!("note: {note}")));
    let done = if dry_run { "would be written" } else { "were written" };
    lines.push(format!("{} files {done} to {}.", import.files.len(), to.display()));
    lines.join("\n")
}

/// Other migrations in the folder would run among the imported ones; files from an import before may stay.
fn check_target(to: &Path, files: &[ImportedFile]) -> Result<(), CliError> {
    let entries = match fs::read_dir(to) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(unusable(to, source)),
    };
    let contents: HashMap<&str, &str> = files.iter().map(|one| (one.file.as_str(), one.content.as_str())).collect();
    for entry in entries {
        let path = entry.map_err(|source| unusable(to, source))?.path();
        if !path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("sql")) {
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let written = fs::read(&path).map_err(|source| unusable(&path, source))?;
        if contents.get(name.as_str()).is_none_or(|content| content.as_bytes() != written) {
            return Err(CliError::usage(format!(
                "{} is there already and is none of the import; name another folder, or give --force",
                path.display()
            )));
        }
    }
    Ok(())
}

fn write(to: &Path, files: &[ImportedFile]) -> Result<(), CliError> {
    fs::create_dir_all(to).map_err(|source| unwritable(to, source))?;
    for file in files {
        let path = to.join(&file.file);
        fs::write(&path, &file.content).map_err(|source| unwritable(&path, source))?;
    }
    Ok(())
}

fn unusable(path: &Path, source: std::io::Error) -> CliError {
    CliError::File { what: "the folder", path: path.to_owned(), source }
}

fn unwritable(path: &Path, source: std::io::Error) -> CliError {
    CliError::Program { message: format!("cannot write {}; check that it may be written", path.display()), source }
}
