//! Lines as they go over the wire.
//!
//! A packed answer is one gzip stream: its head, then pieces that were deflated by themselves and end on a whole byte, so
//! that none refers to another. Everybody who reads the feed is sent the same bytes in whatever order they need them, and
//! nobody needs an encoder of their own. The stream has no end, so it needs no checksum.

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::error::ControlError;

/// Text is cut into pieces of about this many bytes: what a reader holds of what it was not sent yet.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// The head of a gzip stream: deflated, without a name, a time or a system.
const GZIP_HEAD: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// How a reader takes the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As a gzip stream.
    Gzip,
    /// As text.
    Plain,
}

impl Packing {
    /// What comes before the first piece.
    pub(super) fn head(self) -> Option<Bytes> {
        (self == Self::Gzip).then(|| Bytes::from_static(GZIP_HEAD))
    }

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

/// One piece; nothing of nothing.
pub(super) fn pack(text: &[u8]) -> Result<Bytes, ControlError> {
    if text.is_empty() {
        return Ok(Bytes::new());
    }
    let mut deflate = Compress::new(Compression::fast(), false);
    // More than the worst case, in which text is kept as it is with a few bytes for each block.
    let mut packed = Vec::with_capacity(text.len() + text.len() / 16 + 1_024);
    deflate.compress_vec(text, &mut packed, FlushCompress::Full).map_err(ControlError::internal)?;
    if deflate.total_in() != text.len() as u64 || packed.len() == packed.capacity() {
        return Err(ControlError::internal(std::io::Error::other("a piece of the feed grew when it was packed")));
    }
    packed.shrink_to_fit();
    Ok(Bytes::from(packed))
}

/// The text of one piece.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, ControlError> {
    let mut inflate = Decompress::new(false);
    let (mut text, mut rest) = (Vec::new(), packed);
    // A full buffer may leave text inside.
    while !rest.is_empty() || (!packed.is_empty() && text.len() == text.capacity()) {
        text.reserve(PIECE_BYTES + 4_096);
        let taken = inflate.total_in();
        inflate.decompress_vec(rest, &mut text, FlushDecompress::Sync).map_err(ControlError::internal)?;
        rest = &rest[usize::try_from(inflate.total_in() - taken).unwrap_or(rest.len()).min(rest.len())..];
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzDecoder;

    use super::*;

    #[test]
    fn pieces_are_packed_apart_and_read_together_in_any_order() {
        let mut noise = vec![0; 100_000];
        rand::fill(&mut noise[..]);
        let texts: [&[u8]; 4] =
            [b"{}\n", &noise, &vec![b'a'; 500_000], &"0123456789abcdef\n".repeat(9_000).into_bytes()];
        let pieces: Vec<Bytes> = texts.iter().map(|text| pack(text).expect("a piece")).collect();
        for (text, piece) in texts.iter().zip(&pieces) {
            assert!(unpack(piece).expect("text") == *text);
        }
        let mut decoder = GzDecoder::new(Vec::new());
        decoder.write_all(&Packing::Gzip.head().expect("a head")).expect("a head");
        for number in [2, 0, 3, 1, 0, 2] {
            decoder.write_all(&pieces[number]).expect("a piece");
            decoder.flush().expect("whole lines");
            assert!(std::mem::take(decoder.get_mut()) == texts[number], "what has arrived is all there");
        }
        assert!(pack(b"").expect("nothing").is_empty() && unpack(b"").expect("nothing").is_empty());
        assert!(unpack(b"no piece of ours").is_err());
    }
}
