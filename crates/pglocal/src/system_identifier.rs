//! Gives a copied data directory a system identifier of its own. Two servers with the same identifier look like
//! one and its replica: to replication, to backup tools, and to whoever asks "is this the same server?".
//!
//! The identifier stands in the first eight bytes of `global/pg_control`, protected by a CRC-32C at the end of the
//! structure, and in the header of the first page of each WAL segment, unprotected. Works on a cleanly stopped
//! directory only. Whatever does not look as expected is an error, and the caller runs `initdb` instead.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// The size of the structure before its checksum: 288 bytes or so, growing slowly from version to version.
const CHECKSUM_POSITIONS: std::ops::Range<usize> = 128..1024;
/// Where the header of a WAL segment's first page holds the identifier.
const WAL_IDENTIFIER_AT: u64 = 24;

pub(crate) fn renew(data_directory: &Path) -> Result<(), Error> {
    renew_to(data_directory, fresh_identifier()).map_err(Error::io("renew the system identifier of", data_directory))
}

/// As PostgreSQL makes them: the time in the upper half; here randomness instead of the process id in the lower.
fn fresh_identifier() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    seconds << 32 | u64::from(rand::random::<u32>())
}

fn renew_to(data_directory: &Path, fresh: u64) -> io::Result<()> {
    let control_path = data_directory.join("global/pg_control");
    let mut control = std::fs::read(&control_path)?;
    let checksum_at = checksum_position(&control).ok_or_else(|| unexpected("pg_control has no valid checksum"))?;
    let old: [u8; 8] = control[..8].try_into().map_err(|_| unexpected("pg_control is too short"))?;

    for entry in std::fs::read_dir(data_directory.join("pg_wal"))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            replace_in_segment(&entry.path(), old, fresh)?;
        }
    }
    control[..8].copy_from_slice(&fresh.to_ne_bytes());
    let checksum = crc32c(&control[..checksum_at]);
    control[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_ne_bytes());
    // Rewritten in place: the file keeps its owner and mode.
    OpenOptions::new().write(true).open(&control_path)?.write_all(&control)
}

fn replace_in_segment(segment: &Path, old: [u8; 8], fresh: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(segment)?;
    let mut found = [0; 8];
    file.seek(SeekFrom::Start(WAL_IDENTIFIER_AT))?;
    file.read_exact(&mut found)?;
    if found != old {
        return Err(unexpected("a WAL segment bears another identifier"));
    }
    file.seek(SeekFrom::Start(WAL_IDENTIFIER_AT))?;
    file.write_all(&fresh.to_ne_bytes())
}

fn unexpected(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn checksum_position(control: &[u8]) -> Option<usize> {
    CHECKSUM_POSITIONS
        .step_by(4)
        .take_while(|at| at + 4 <= control.len())
        .find(|&at| control[at..at + 4] == crc32c(&control[..at]).to_ne_bytes())
}

/// CRC-32C (Castagnoli), bit by bit: the input is a few hundred bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::{checksum_position, crc32c};

    #[test]
    fn the_checksum_agrees_with_the_published_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn the_checksum_is_found_where_it_stands_and_not_invented() {
        let mut control: Vec<u8> = (0..=255).cycle().take(8192).collect();
        assert_eq!(checksum_position(&control), None);
        let checksum = crc32c(&control[..296]);
        control[296..300].copy_from_slice(&checksum.to_ne_bytes());
        assert_eq!(checksum_position(&control), Some(296));
    }
}
