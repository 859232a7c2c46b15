//! Public keys inside their envelope: the `SubjectPublicKeyInfo` that a file `BEGIN PUBLIC KEY` holds.

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const BIT_STRING: u8 = 0x03;

/// A public key and what it is one of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKey<'d> {
    /// The algorithm's object identifier, without its header.
    pub(super) algorithm: &'d [u8],
    /// The first parameter where it is an object identifier: the curve.
    pub(super) curve: Option<&'d [u8]>,
    /// The key in the algorithm's own form.
    pub(super) key: &'d [u8],
}

/// Opens the envelope; `None` where it is not exactly one.
pub(super) fn public_key(der: &[u8]) -> Option<PublicKey<'_>> {
    let mut outside = der;
    let mut envelope = take(&mut outside, SEQUENCE)?;
    let mut identifier = take(&mut envelope, SEQUENCE)?;
    let bits = take(&mut envelope, BIT_STRING)?;
    let algorithm = take(&mut identifier, OBJECT_IDENTIFIER)?;
    let curve = take(&mut identifier, OBJECT_IDENTIFIER);
    // The first byte counts the bits that are not used.
    let (&0, key) = bits.split_first()? else { return None };
    (outside.is_empty() && envelope.is_empty()).then_some(PublicKey { algorithm, curve, key })
}

/// Takes one element of a kind off the front.
fn take<'d>(rest: &mut &'d [u8], kind: u8) -> Option<&'d [u8]> {
    let (header, length, after) = match **rest {
        [found, length @ 0..=0x7f, ..] => (found, usize::from(length), &rest[2..]),
        [found, 0x81, length @ 0x80..=0xff, ..] => (found, usize::from(length), &rest[3..]),
        [found, 0x82, high @ 1..=0xff, low, ..] => (found, usize::from(u16::from_be_bytes([high, low])), &rest[4..]),
        _ => return None,
    };
    if header != kind || length > after.len() {
        return None;
    }
    let (content, after) = after.split_at(length);
    *rest = after;
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

    #[test]
    fn an_envelope_is_opened_and_nothing_else_is() {
        let der = [&ED25519[..], &[7; 32]].concat();
        let found = public_key(&der).expect("an envelope");
        assert_eq!(found, PublicKey { algorithm: &[0x2b, 0x65, 0x70], curve: None, key: &[7; 32] });
        for length in 0..der.len() {
            assert_eq!(public_key(&der[..length]), None, "cut at {length}");
        }
        assert_eq!(public_key(&[&der[..], &[0]].concat()), None, "more behind it");
    }
}
