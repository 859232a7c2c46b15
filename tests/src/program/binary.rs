//! Where the binary is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The built binary of this checkout, in the profile of the tests.
///
/// Cargo tells its path to the tests of the binary's own package only. It lies beside the folder of the test programs;
/// where it is missing, older than a source file or without failpoints, as after `cargo test -p tenantry-tests` or
/// `cargo build`, it is built here.
pub fn tenantry() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(find)
}

fn find() -> PathBuf {
    let program = std::env::current_exe().expect("the path of the test program");
    let profile = program.ancestors().nth(2).expect("test programs are in `target/<profile>/deps`").to_owned();
    let binary = profile.join(format!("tenantry{}", std::env::consts::EXE_SUFFIX));
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let newest = ["crates", "migrations", "tenant-migrations", "Cargo.lock"].map(|name| newest(&workspace.join(name)));
    let built = modified(&binary);
    if built.is_none() || built < newest.into_iter().flatten().max() || !has_failpoints(&binary) {
        build(workspace, &profile);
    }
    assert!(binary.is_file(), "`{}` is missing although it was built", binary.display());
    binary
}

fn build(workspace: &Path, profile: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut command = Command::new(cargo);
    // As a part of the workspace, so that its dependencies have the features that they have already.
    command.args(["build", "--quiet", "--workspace", "--bin", "tenantry", "--profile", name]);
    command.args(["--features", "tenantry-control/failpoints"]);
    // What cargo tells a test of its package would have build scripts run anew, and again at the next test.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.to_string_lossy().starts_with(own)) {
            command.env_remove(name);
        }
    }
    let status = command.current_dir(workspace).status().expect("cargo");
    assert!(status.success(), "the binary cannot be built; see above");
}

/// Its version says so.
fn has_failpoints(binary: &Path) -> bool {
    let said = Command::new(binary).arg("--version").output();
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("failpoints"))
}

/// When anything below a path was last changed.
fn newest(path: &Path) -> Option<SystemTime> {
    let Ok(entries) = std::fs::read_dir(path) else { return modified(path) };
    entries.flatten().filter_map(|entry| newest(&entry.path())).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}
