//! Undoing the content coding of a streamed answer, as its bytes arrive.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderValue};

/// Bytes that are unpacked at a time: they become a thousand times as many at most.
const STEP_BYTES: usize = 1024;

/// How an answer is coded.
pub(super) enum Unpacking {
    /// It is the text.
    Plain,
    /// A gzip stream, or several one after the other; text comes out as far as it has arrived.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

/// The coding is one that nobody asked for.
#[derive(Debug, thiserror::Error)]
#[error("the answer comes in a content coding that was not asked for")]
pub(super) struct UnknownCoding;

impl Unpacking {
    pub(super) fn of(response: &Response) -> Result<Self, UnknownCoding> {
        match response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes) {
            None | Some(b"identity") => Ok(Self::Plain),
            Some(b"gzip") => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))),
            Some(_) => Err(UnknownCoding),
        }
    }

    /// Takes a step: appends the text of the packed bytes' beginning, and leaves the rest of them.
    pub(super) fn step(&mut self, packed: &mut Bytes, text: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Plain => text.extend_from_slice(&std::mem::take(packed)),
            Self::Gzip(decoder) => {
                decoder.write_all(&packed.split_to(STEP_BYTES.min(packed.len())))?;
                decoder.flush()?;
                text.extend_from_slice(decoder.get_ref());
                decoder.get_mut().clear();
            }
        }
        Ok(())
    }
}
