//! Embeds the folder of tenant migrations, so that the binary needs no source tree when it runs.
//!
//! The list of files is made here, because a macro would not notice a new file in the folder.

#![allow(clippy::print_stdout, reason = "cargo reads a build script's standard output")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../../tenant-migrations");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(|error| format!("cannot read {}: {error}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();

    let mut list = String::from("&[\n");
    for path in files {
        let path = path.canonicalize()?;
        let content = path.to_str().ok_or("the checkout's path is not UTF-8")?;
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file name is not UTF-8")?;
        writeln!(list, "    ({name:?}, include_str!({content:?})),")?;
    }
    list.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("migrations.rs"), list)?;
    Ok(())
}
