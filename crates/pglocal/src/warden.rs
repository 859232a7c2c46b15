//! A small shell process that notices the end of this one and cleans up after it: it stops the server where the
//! kernel does not (outside Linux) and deletes the directory of a temporary cluster.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Arguments: the data directory, and the directory to delete or nothing. A word on the input means that all is in
/// order; its end without one means that the owner is gone. The server gets 15 seconds to stop, then it is killed. In the listing of processes a server's are known by
/// their working directory (on Linux, stopped ones are woken), else by the file with the process id.
const SCRIPT: &str = r#"
data=$1 doomed=$2
each() {
    if [ -e /proc/self/cwd ]; then
        for process in /proc/[0-9]*; do
            [ "$process/cwd" -ef "$data" ] || continue
            read -r name < "$process/comm" && [ "$name" = postgres ] && kill "-$1" "${process#/proc/}" && found=1
        done
    elif [ -r "$data/postmaster.pid" ]; then
        read -r main < "$data/postmaster.pid" && kill "-$1" "$main" && found=1
    fi
}
read -r word && exit 0
exec 2>/dev/null
each CONT
each INT
tenths=0
while found=; each 0; [ -n "$found" ]; do
    tenths=$((tenths + 1))
    [ "$tenths" -gt 150 ] && each KILL
    [ "$tenths" -gt 200 ] && exit 1
    sleep 0.1
done
[ -z "$doomed" ] || rm -rf -- "$doomed"
"#;

/// The shell process and the pipe that ties it to this one.
#[derive(Debug)]
pub(crate) struct Warden {
    child: Child,
    life_line: ChildStdin,
}

impl Warden {
    /// Watches over the server on `data_directory`; `doomed` is deleted once the server is gone.
    pub(crate) fn post(data_directory: &Path, doomed: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "tenantry-warden"]).arg(data_directory).arg(doomed.unwrap_or(Path::new("")));
        // A group of its own: a Ctrl-C at the terminal is for the owner, which may want to end in good order.
        command.process_group(0).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let life_line = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the warden"))?;
        Ok(Self { child, life_line })
    }

    /// Sends it home: the owner has cleaned up itself.
    pub(crate) fn dismiss(mut self) {
        // A warden that somebody killed needs no word.
        let _ = self.life_line.write_all(b"done\n");
        let _ = self.child.wait();
    }
}
