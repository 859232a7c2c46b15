//! Lines as they go over the wire.
//!
//! Each piece is a gzip member of its own. Members can follow one another in one answer, so everybody who reads the feed
//! is sent the same bytes, and nobody needs an encoder of their own.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::error::ControlError;

/// Text is cut into pieces of about this many bytes: what a reader holds of what it was not sent yet.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// How a reader takes the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As gzip members.
    Gzip,
    /// As text.
    Plain,
}

impl Packing {
    /// What is kept, as this reader takes it.
    pub(super) fn of(self, packed: &Bytes) -> Result<Bytes, ControlError> {
        match self {
            Self::Gzip => Ok(packed.clone()),
            Self::Plain => unpack(packed).map(Bytes::from),
        }
    }

    /// Text that this reader alone is sent.
    pub(super) fn of_text(self, text: Vec<u8>) -> Result<Bytes, ControlError> {
        match self {
            Self::Gzip => pack(&text),
            Self::Plain => Ok(Bytes::from(text)),
        }
    }
}

/// One member; nothing of nothing.
pub(super) fn pack(text: &[u8]) -> Result<Bytes, ControlError> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4 + 64), Compression::fast());
    encoder.write_all(text).map_err(ControlError::internal)?;
    let mut packed = encoder.finish().map_err(ControlError::internal)?;
    packed.shrink_to_fit();
    Ok(Bytes::from(packed))
}

/// The text of one member.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, ControlError> {
    let mut text = Vec::new();
    if !packed.is_empty() {
        GzDecoder::new(packed).read_to_end(&mut text).map_err(ControlError::internal)?;
    }
    Ok(text)
}
