//! Recent changes, packed once for everybody; bounded in bytes and number.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tenantry_domain::FeedVersion;
use tenantry_store::{Changes, RouteChange};

use super::packing::{PIECE_BYTES, Packing, pack, unpack};
use super::{FeedItem, WriteItem};
use crate::error::ControlError;

/// What is older goes when the ring is larger than this: 16 MB, or this many changes.
const BYTES_MAX: usize = 16 * 1024 * 1024;
const CHANGES_MAX: usize = 200_000;
/// What a piece and each of its changes cost besides the packed bytes.
const PIECE_COST: usize = 192;
const CHANGE_COST: usize = size_of::<(FeedVersion, u32)>();

/// Some changes in their order.
#[derive(Debug)]
pub(super) struct Piece {
    /// Changes up to this one come before.
    after: FeedVersion,
    /// Nothing up to and with this version is missing.
    upto: FeedVersion,
    /// Where the line of each change begins, so that whoever has some of them is told the others.
    lines: Vec<(FeedVersion, u32)>,
    packed: Bytes,
}

impl Piece {
    /// Cuts what was read after a version into pieces.
    pub(super) fn cut(
        changes: &Changes,
        after: FeedVersion,
        with_secrets: bool,
        write: WriteItem,
    ) -> Result<Vec<Self>, ControlError> {
        let (mut pieces, mut text, mut lines, mut begin) = (Vec::new(), Vec::new(), Vec::new(), after);
        for (number, change) in changes.items.iter().enumerate() {
            lines.push((change.version(), u32::try_from(text.len()).map_err(ControlError::internal)?));
            write(&mut text, FeedItem::Change(told(change, with_secrets)));
            if text.len() >= PIECE_BYTES && number + 1 < changes.items.len() {
                let (packed, lines) = (pack(&text)?, std::mem::take(&mut lines));
                pieces.push(Self { after: begin, upto: change.version(), lines, packed });
                begin = change.version();
                text.clear();
            }
        }
        lines.shrink_to_fit();
        pieces.push(Self { after: begin, upto: changes.upto, lines, packed: pack(&text)? });
        Ok(pieces)
    }

    pub(super) fn upto(&self) -> FeedVersion {
        self.upto
    }

    /// What comes after a version, for whoever has everything up to that.
    pub(super) fn after(&self, known: FeedVersion, packing: Packing) -> Result<Bytes, ControlError> {
        if known <= self.after {
            return packing.of(&self.packed);
        }
        let next = self.lines.partition_point(|(version, _)| *version <= known);
        let Some((_, offset)) = self.lines.get(next) else { return Ok(Bytes::new()) };
        let mut text = unpack(&self.packed)?;
        text.drain(..(*offset as usize).min(text.len()));
        packing.of_text(text)
    }

    fn cost(&self) -> usize {
        PIECE_COST + self.packed.len() + self.lines.capacity() * CHANGE_COST
    }
}

/// A change as it may be told.
pub(super) fn told(change: &RouteChange, with_secrets: bool) -> RouteChange {
    let mut change = change.clone();
    if let (false, RouteChange::Route(route)) = (with_secrets, &mut change)
        && let Some(target) = &mut route.target
    {
        target.credential.password = None;
        target.read_only_credential.password = None;
        if let Some(shared) = &mut target.shared {
            shared.credential.password = None;
        }
    }
    change
}

/// Where a reader is.
#[derive(Debug)]
pub(super) enum Place {
    /// These come next.
    Next(Arc<Piece>),
    /// It has everything.
    End,
    /// What comes next was here, or never was.
    Before,
    /// It has more than was read.
    Beyond,
}

#[derive(Debug)]
pub(super) struct Ring {
    pieces: VecDeque<Arc<Piece>>,
    /// Whoever has this much can go on from here.
    start: FeedVersion,
    end: FeedVersion,
    bytes: usize,
    changes: usize,
}

impl Ring {
    pub(super) fn new(at: FeedVersion) -> Self {
        Self { pieces: VecDeque::new(), start: at, end: at, bytes: 0, changes: 0 }
    }

    pub(super) fn start(&self) -> FeedVersion {
        self.start
    }

    pub(super) fn end(&self) -> FeedVersion {
        self.end
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.end = piece.upto;
        self.bytes += piece.cost();
        self.changes += piece.lines.len();
        self.pieces.push_back(Arc::new(piece));
        while (self.bytes > BYTES_MAX || self.changes > CHANGES_MAX) && self.pieces.len() > 1 {
            let Some(oldest) = self.pieces.pop_front() else { return };
            self.start = oldest.upto;
            self.bytes -= oldest.cost();
            self.changes -= oldest.lines.len();
        }
    }

    pub(super) fn place(&self, version: FeedVersion) -> Place {
        if version < self.start {
            return Place::Before;
        }
        if version > self.end {
            return Place::Beyond;
        }
        let next = self.pieces.partition_point(|piece| piece.upto <= version);
        self.pieces.get(next).map_or(Place::End, |piece| Place::Next(Arc::clone(piece)))
    }
}

#[cfg(test)]
mod tests {
    use tenantry_domain::TenantId;

    use super::*;

    /// A line that tells the version alone.
    fn write(text: &mut Vec<u8>, item: FeedItem) {
        let FeedItem::Change(change) = item else { return };
        text.extend_from_slice(format!("{}\n", change.version()).as_bytes());
    }

    fn piece(after: i64, versions: &[i64], upto: i64) -> Piece {
        let tenant = TenantId::new(uuid::Uuid::nil());
        let items = versions.iter().map(|it| RouteChange::Removed { tenant, version: FeedVersion(*it) }).collect();
        let changes = Changes { items, upto: FeedVersion(upto), oldest: FeedVersion(0) };
        let mut pieces = Piece::cut(&changes, FeedVersion(after), true, write).expect("pieces");
        assert_eq!(pieces.len(), 1);
        pieces.remove(0)
    }

    fn read(ring: &Ring, known: i64, packing: Packing) -> Vec<i64> {
        let (mut known, mut seen) = (FeedVersion(known), Vec::new());
        loop {
            match ring.place(known) {
                Place::Next(piece) => {
                    let bytes = piece.after(known, packing).expect("bytes");
                    let text = if packing == Packing::Gzip { unpack(&bytes).expect("text") } else { bytes.to_vec() };
                    let text = String::from_utf8(text).expect("text");
                    seen.extend(text.lines().map(|line| line.parse::<i64>().expect("a version")));
                    known = piece.upto();
                }
                Place::End => return seen,
                place => panic!("{place:?}"),
            }
        }
    }

    #[test]
    fn each_reader_is_told_what_it_has_not_and_nothing_else() {
        let mut ring = Ring::new(FeedVersion(10));
        // 13 and 18 were drawn for changes that newer ones replaced.
        ring.push(piece(10, &[11, 12, 14], 14));
        ring.push(piece(14, &[], 16));
        ring.push(piece(16, &[17, 19], 20));
        for packing in [Packing::Gzip, Packing::Plain] {
            assert_eq!(read(&ring, 10, packing), [11, 12, 14, 17, 19]);
            assert_eq!(read(&ring, 11, packing), [12, 14, 17, 19]);
            assert_eq!(read(&ring, 13, packing), [14, 17, 19]);
            assert_eq!(read(&ring, 15, packing), [17, 19]);
            assert_eq!(read(&ring, 19, packing), [0_i64; 0]);
            assert_eq!(read(&ring, 20, packing), [0_i64; 0]);
        }
        assert!(matches!(ring.place(FeedVersion(9)), Place::Before));
        assert!(matches!(ring.place(FeedVersion(21)), Place::Beyond));
    }

    #[test]
    fn what_is_old_goes_and_its_readers_are_sent_elsewhere() {
        let mut ring = Ring::new(FeedVersion(0));
        let packed = Bytes::from(vec![0; PIECE_BYTES]);
        let most = i64::try_from(2 * BYTES_MAX / PIECE_BYTES).expect("a number");
        for version in (1..=most).map(FeedVersion) {
            let after = FeedVersion(version.0 - 1);
            ring.push(Piece { after, upto: version, lines: vec![(version, 0)], packed: packed.clone() });
        }
        assert!(ring.bytes() <= BYTES_MAX && ring.bytes() > BYTES_MAX / 2, "{} bytes", ring.bytes());
        let start = ring.start();
        assert!(start > FeedVersion(0) && matches!(ring.place(FeedVersion(start.0 - 1)), Place::Before));
        let Place::Next(next) = ring.place(start) else { panic!("{:?}", ring.place(start)) };
        assert_eq!((next.after, next.upto), (start, FeedVersion(start.0 + 1)));
        assert!(matches!(ring.place(FeedVersion(most)), Place::End));
    }

    #[test]
    fn large_reads_are_cut_without_losing_a_change() {
        let tenant = TenantId::new(uuid::Uuid::nil());
        let versions = 1..=50_000;
        let items = versions.clone().map(|it| RouteChange::Removed { tenant, version: FeedVersion(it) }).collect();
        let changes = Changes { items, upto: FeedVersion(50_007), oldest: FeedVersion(0) };
        let pieces = Piece::cut(&changes, FeedVersion(0), false, write).expect("pieces");
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.lines.len() < 50_000));
        let mut ring = Ring::new(FeedVersion(0));
        for piece in pieces {
            ring.push(piece);
        }
        assert_eq!(ring.end(), FeedVersion(50_007));
        assert_eq!(read(&ring, 0, Packing::Plain), versions.collect::<Vec<_>>());
        assert_eq!(read(&ring, 31_234, Packing::Gzip), (31_235..=50_000).collect::<Vec<_>>());
    }
}
