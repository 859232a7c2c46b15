//! Makes a data directory: from the cache or by `initdb`, then with a superuser password of its own.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::binaries::Binaries;
use crate::builder::Profile;
use crate::cache;
use crate::error::Error;
use crate::file_tree;
use crate::server_user::ServerUser;
use crate::system_identifier;

pub(crate) const SUPERUSER: &str = "postgres";

/// Makes `root/data`. A crash on the way leaves no `data`, and the next start begins anew.
pub(crate) fn make_data_directory(
    root: &Path,
    binaries: &Binaries,
    user: &ServerUser,
    password: &str,
    profile: Profile,
) -> Result<(), Error> {
    let fresh = root.join("data.new");
    file_tree::remove(&fresh)?;
    fill(&fresh, binaries, user)?;
    set_password(&fresh, binaries, user, password)?;
    keep(root, &fresh, profile)
}

/// Gives a finished data directory its name.
pub(crate) fn keep(root: &Path, fresh: &Path, profile: Profile) -> Result<(), Error> {
    let finished = root.join("data");
    if profile == Profile::Durable {
        file_tree::sync(fresh)?;
    }
    std::fs::rename(fresh, &finished).map_err(Error::io("rename to", &finished))?;
    std::fs::File::open(root).and_then(|root| root.sync_all()).map_err(Error::io("sync", root))
}

/// Has a killed server's data directory opened and closed once, which gives back the System V shared memory that the
/// server could not release. Whether the data can be recovered does not matter for that.
pub(crate) fn release_shared_memory(data_directory: &Path, binaries: &Binaries, user: &ServerUser) {
    if let Err(error) = single_user(data_directory, binaries, user, "") {
        tracing::debug!(%error, "a killed cluster could not be opened once more");
    }
}

fn fill(fresh: &Path, binaries: &Binaries, user: &ServerUser) -> Result<(), Error> {
    let entry = cache::Entry::open(binaries).unwrap_or_else(|error| {
        tracing::warn!(%error, "the cache of data directories cannot be used");
        None
    });
    if let Some(made) = entry.as_ref().and_then(cache::Entry::made) {
        match file_tree::copy(made, fresh, user).and_then(|()| system_identifier::renew(fresh)) {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::warn!(%error, "the cached data directory cannot be copied");
                file_tree::remove(fresh)?;
            }
        }
        return initdb(fresh, binaries, user);
    }
    initdb(fresh, binaries, user)?;
    if let Some(entry) = entry
        && let Err(error) = entry.keep(fresh)
    {
        tracing::warn!(%error, "the data directory cannot be kept in the cache");
    }
    Ok(())
}

fn initdb(fresh: &Path, binaries: &Binaries, user: &ServerUser) -> Result<(), Error> {
    let mut output = None;
    // Systems without C.UTF-8 have C everywhere: it sorts the same, but knows upper and lower case of ASCII only.
    for locale in ["C.UTF-8", "C"] {
        file_tree::remove(fresh)?;
        user.make_private_directory(fresh)?;
        let mut command = user.command(binaries.program("initdb"));
        command.arg("--pgdata").arg(fresh).arg(format!("--locale={locale}"));
        // Nobody connects with this authentication: our own pg_hba.conf is used from the first start.
        command.args(["--encoding=UTF8", "--username", SUPERUSER, "--auth=trust", "--no-sync", "--no-instructions"]);
        let run = command.stdin(Stdio::null()).output().map_err(Error::io("run", binaries.program("initdb")))?;
        if run.status.success() {
            return Ok(());
        }
        output.get_or_insert(run);
    }
    Err(failed("initdb", fresh, &output.map(|run| said(&run)).unwrap_or_default()))
}

fn set_password(fresh: &Path, binaries: &Binaries, user: &ServerUser, password: &str) -> Result<(), Error> {
    // PostgreSQL gets a verifier only; it holds no quote.
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    single_user(fresh, binaries, user, &format!("ALTER ROLE {SUPERUSER} PASSWORD '{verifier}'\n"))
}

fn single_user(data_directory: &Path, binaries: &Binaries, user: &ServerUser, sql: &str) -> Result<(), Error> {
    let mut command = user.command(binaries.program("postgres"));
    command.args(["--single", "-F", "-D"]).arg(data_directory);
    command.args(["-c", "exit_on_error=on", "-c", "log_checkpoints=off"]);
    command.arg("postgres");
    let run = feed(&mut command, sql).map_err(Error::io("run", binaries.program("postgres")))?;
    if run.status.success() { Ok(()) } else { Err(failed("postgres --single", data_directory, &said(&run))) }
}

fn feed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input.as_bytes())
    {
        // It ended before it read; what it said explains why.
        tracing::debug!(%error, "the single-user server did not read its input");
    }
    child.wait_with_output()
}

pub(crate) fn said(run: &Output) -> String {
    let text = [run.stdout.as_slice(), run.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

pub(crate) fn failed(program: &'static str, directory: &Path, output: &str) -> Error {
    Error::Initialise { program, directory: directory.to_owned(), output: output.to_owned() }
}
