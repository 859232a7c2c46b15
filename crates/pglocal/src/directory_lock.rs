//! One program per cluster: an advisory lock on a file that names its holder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::Error;

/// A held lock. The kernel frees it when this process ends in whatever way; children do not inherit it.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, or says who holds it.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("lock");
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                write_holder(&mut file).map_err(Error::io("write", &path))?;
                Ok(Self { file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                Err(Error::Locked { directory: directory.to_owned(), holder: text.trim().parse().ok() })
            }
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path)(source)),
        }
    }

    /// Waits until the lock at `path` is free and takes it; for critical sections that are short.
    pub(crate) fn wait(path: &Path) -> Result<Self, Error> {
        let file = open(path)?;
        file.lock().map_err(Error::io("lock", path))?;
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing alone would not do: a child that another thread has just forked holds the file open until it
        // executes its program.
        let _ = self.file.unlock();
    }
}

fn open(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed preparation is a failed test")]

    use super::*;

    #[test]
    fn the_second_taker_learns_who_holds_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let held = DirectoryLock::take(root.path()).unwrap();
        let error = DirectoryLock::take(root.path()).unwrap_err();
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        DirectoryLock::take(root.path()).unwrap();
    }
}
