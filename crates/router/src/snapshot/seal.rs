//! A sealed stream of bytes: written and read in pieces, and believed only as a whole.
//!
//! A head in the clear is followed by chunks under AES-256-GCM. Each file has a key of its own, derived from the
//! router's with a random salt, so that a chunk's number is its nonce; the number of the last chunk is marked. A chunk that
//! is changed, moved, repeated or missing does not open, and neither does one of another file. (STREAM: Hoang,
//! Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015.)

use std::io::{self, BufRead, Read, Write};

use rand::TryRng;
use rand::rngs::SysRng;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::key::SnapshotKey;

/// What every file begins with.
const MAGIC: [u8; 8] = *b"TNTYSNAP";
/// What the bytes mean. A file of another format is not read.
const FORMAT: u32 = 1;
const SALT: usize = 32;
/// Tells another key from a damaged file.
const CHECK: usize = 16;
const HEAD: usize = MAGIC.len() + 4 + SALT + CHECK;
/// Bytes of a chunk in the clear; all but the last one have so many.
const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;

/// Why a sealed stream cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is no snapshot of a router")]
    Foreign,
    #[error("its format {format} is none that this version reads")]
    Format { format: u32 },
    #[error("it is sealed with another key")]
    OtherKey,
    #[error("it is damaged or was changed")]
    Damaged,
}

type Head = [u8; HEAD];

fn head_of(key: &SnapshotKey, salt: &[u8; SALT]) -> Head {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    head[12..12 + SALT].copy_from_slice(salt);
    let check = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), &head[..12 + SALT]);
    head[12 + SALT..].copy_from_slice(&check.as_ref()[..CHECK]);
    head
}

fn file_key(key: &SnapshotKey, salt: &[u8; SALT]) -> Result<LessSafeKey, Unspecified> {
    let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.bytes());
    let expanded = extracted.expand(&[b"tenantry router snapshot"], &AES_256_GCM)?;
    Ok(LessSafeKey::new(UnboundKey::from(expanded)))
}

fn nonce(number: u32, is_last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[7..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(is_last);
    Nonce::assume_unique_for_key(bytes)
}

fn unsealed(_: Unspecified) -> io::Error {
    io::Error::other("the snapshot cannot be sealed")
}

/// Seals what is written to it. It is complete only once it was finished.
pub(super) struct Sealer<W> {
    sink: W,
    key: LessSafeKey,
    head: Head,
    number: u32,
    chunk: Zeroizing<Vec<u8>>,
    written: u64,
}

impl<W: Write> Sealer<W> {
    pub(super) fn new(mut sink: W, key: &SnapshotKey) -> io::Result<Self> {
        let mut salt = [0; SALT];
        SysRng.try_fill_bytes(&mut salt).map_err(io::Error::other)?;
        let head = head_of(key, &salt);
        let key = file_key(key, &salt).map_err(unsealed)?;
        sink.write_all(&head)?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Ok(Self { sink, key, head, number: 0, chunk, written: HEAD as u64 })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A full chunk waits: it may be the last one.
            if self.chunk.len() == CHUNK {
                self.seal(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Seals the last chunk. Answers where it was written to, and how many bytes there are.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        self.seal(true)?;
        Ok((self.sink, self.written))
    }

    fn seal(&mut self, is_last: bool) -> io::Result<()> {
        let nonce = nonce(self.number, is_last);
        self.number = self.number.checked_add(1).ok_or_else(|| io::Error::other("the snapshot is too large"))?;
        let sealed = self.key.seal_in_place_append_tag(nonce, Aad::from(self.head), &mut *self.chunk);
        sealed.map_err(unsealed)?;
        self.sink.write_all(&self.chunk)?;
        self.written += self.chunk.len() as u64;
        self.chunk.clear();
        Ok(())
    }
}

/// Opens what a [`Sealer`] wrote.
pub(super) struct Opener<R> {
    source: R,
    key: LessSafeKey,
    head: Head,
    number: u32,
    chunk: Zeroizing<Vec<u8>>,
    /// What of the chunk was read, and where what it says ends.
    at: usize,
    end: usize,
    is_last: bool,
}

impl<R: BufRead> Opener<R> {
    pub(super) fn new(mut source: R, key: &SnapshotKey) -> Result<Self, OpenError> {
        let mut head = [0; HEAD];
        source.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => OpenError::Foreign,
            _ => OpenError::Io(error),
        })?;
        if head[..8] != MAGIC {
            return Err(OpenError::Foreign);
        }
        let format = head[8..12].try_into().map_or(0, u32::from_le_bytes);
        if format != FORMAT {
            return Err(OpenError::Format { format });
        }
        let salt: [u8; SALT] = head[12..12 + SALT].try_into().map_err(|_| OpenError::Foreign)?;
        if head_of(key, &salt) != head {
            return Err(OpenError::OtherKey);
        }
        let key = file_key(key, &salt).map_err(|_| OpenError::Damaged)?;
        let chunk = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Ok(Self { source, key, head, number: 0, chunk, at: 0, end: 0, is_last: false })
    }

    /// Fills all of `bytes`.
    pub(super) fn read(&mut self, mut bytes: &mut [u8]) -> Result<(), OpenError> {
        while !bytes.is_empty() {
            if self.at == self.end {
                self.open()?;
                continue;
            }
            let count = bytes.len().min(self.end - self.at);
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&self.chunk[self.at..self.at + count]);
            self.at += count;
            bytes = later;
        }
        Ok(())
    }

    /// Sees that everything was read.
    pub(super) fn finish(self) -> Result<(), OpenError> {
        if self.is_last && self.at == self.end { Ok(()) } else { Err(OpenError::Damaged) }
    }

    fn open(&mut self) -> Result<(), OpenError> {
        if self.is_last {
            return Err(OpenError::Damaged);
        }
        self.chunk.clear();
        self.source.by_ref().take((CHUNK + TAG) as u64).read_to_end(&mut self.chunk)?;
        self.is_last = self.source.fill_buf()?.is_empty();
        let nonce = nonce(self.number, self.is_last);
        self.number = self.number.checked_add(1).ok_or(OpenError::Damaged)?;
        let opened = self.key.open_in_place(nonce, Aad::from(self.head), &mut self.chunk);
        self.end = opened.map_err(|_| OpenError::Damaged)?.len();
        self.at = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use tenantry_domain::Secret;

    use super::*;

    fn key(byte: u8) -> SnapshotKey {
        let mut bytes = [byte; 32];
        bytes[0] = !byte;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        SnapshotKey::parse(&Secret::new(text)).expect("a key")
    }

    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), &key(1)).expect("a sealer");
        // In pieces that do not fit the chunks.
        for piece in bytes.chunks(1_000) {
            sealer.write(piece).expect("written");
        }
        let (file, written) = sealer.finish().expect("finished");
        assert_eq!(file.len() as u64, written);
        file
    }

    fn opened(file: &[u8], length: usize) -> Result<Vec<u8>, OpenError> {
        let mut opener = Opener::new(file, &key(1))?;
        let mut bytes = vec![0; length];
        for piece in bytes.chunks_mut(777) {
            opener.read(piece)?;
        }
        // An empty last chunk is opened by nobody else.
        if opener.at == opener.end && !opener.is_last {
            opener.open()?;
        }
        opener.finish().map(|()| bytes)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..=250_u8).cycle().step_by(31).take(length).collect()
    }

    #[test]
    fn what_is_sealed_opens_whatever_its_length() {
        for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5] {
            let bytes = pattern(length);
            assert_eq!(opened(&sealed(&bytes), length).expect("opens"), bytes, "{length}");
        }
    }

    #[test]
    fn what_was_changed_cut_moved_or_prolonged_does_not_open() {
        let length = 3 * CHUNK + 100;
        let file = sealed(&pattern(length));
        let damaged = |file: &[u8]| matches!(opened(file, length), Err(OpenError::Damaged));
        for place in [HEAD, HEAD + 1, HEAD + CHUNK + TAG, file.len() - 1] {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert!(damaged(&changed), "{place}");
        }
        let chunk = |number: usize| HEAD + number * (CHUNK + TAG);
        for kept in [HEAD, HEAD + 5, chunk(1), chunk(2), chunk(3), file.len() - 1] {
            assert!(damaged(&file[..kept]), "{kept}");
        }
        let mut swapped = file.clone();
        swapped[chunk(0)..chunk(2)].rotate_left(CHUNK + TAG);
        assert!(damaged(&swapped));
        let repeated = [&file[..chunk(1)], &file[chunk(0)..]].concat();
        assert!(damaged(&repeated));
        assert!(damaged(&[file.as_slice(), b"x"].concat()));
        let other = sealed(&pattern(length));
        assert!(damaged(&[&file[..chunk(1)], &other[chunk(1)..]].concat()), "of two files");
    }

    #[test]
    fn foreign_files_other_formats_and_other_keys_are_told_apart() {
        let file = sealed(b"routes");
        assert!(matches!(opened(b"", 0), Err(OpenError::Foreign)));
        assert!(matches!(opened(&[b'x'; 4_096], 0), Err(OpenError::Foreign)));
        assert!(matches!(Opener::new(file.as_slice(), &key(2)), Err(OpenError::OtherKey)));
        let mut newer = file.clone();
        newer[8] = 2;
        assert!(matches!(opened(&newer, 6), Err(OpenError::Format { format: 2 })));
        let mut salted = file;
        salted[20] ^= 1;
        assert!(opened(&salted, 6).is_err());
        assert_ne!(sealed(b"routes"), sealed(b"routes"), "each file has a key of its own");
    }
}
