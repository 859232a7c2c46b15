//! Reading along: PostgreSQL's messages in pieces of any size, of which only what tells something is looked at.

use std::cell::Cell;
use std::collections::HashSet;

use super::traces::{tag_leaves_traces, text_leaves_traces};
use super::{Session, TRACES, USED};

/// The longest text that is kept to be looked at; a longer one counts as leaving traces.
const TEXT_MAX: usize = 256 * 1024;
/// The longest tag there is, and more.
const TAG_MAX: usize = 64;
/// After a long text its memory is given back.
const KEEP_MAX: usize = 8 * 1024;
const HEADER: usize = 5;

/// Cuts one direction into messages.
struct Messages {
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the body that are still to come.
    left: usize,
    /// The message that is being read, where its body is wanted.
    kind: u8,
    body: Option<Vec<u8>>,
    spare: Vec<u8>,
    /// The first message that a client sends has no kind.
    has_kind: bool,
}

impl Messages {
    const fn new(has_kind: bool) -> Self {
        Self { header: [0; HEADER], have: 0, left: 0, kind: 0, body: None, spare: Vec::new(), has_kind }
    }

    /// Reads on. `wants` says how much of a body of a kind is wanted, `take` gets the kind and what was wanted; a body
    /// that is longer comes as `None`.
    fn read(&mut self, mut bytes: &[u8], wants: impl Fn(u8) -> usize, mut take: impl FnMut(u8, Option<&[u8]>)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (part, rest) = bytes.split_at(self.left.min(bytes.len()));
                if let Some(body) = &mut self.body {
                    body.extend_from_slice(part);
                }
                self.left -= part.len();
                bytes = rest;
                if self.left == 0 {
                    self.end(&mut take);
                }
                continue;
            }
            let length = if self.has_kind { HEADER } else { HEADER - 1 };
            let (part, rest) = bytes.split_at((length - self.have).min(bytes.len()));
            self.header[self.have..self.have + part.len()].copy_from_slice(part);
            self.have += part.len();
            bytes = rest;
            if self.have < length {
                return;
            }
            self.have = 0;
            let [.., a, b, c, d] = self.header[..length] else { return };
            self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
            self.kind = if self.has_kind { self.header[0] } else { 0 };
            self.has_kind = true;
            let wanted = wants(self.kind);
            if wanted > 0 && self.left <= wanted {
                self.body = Some(std::mem::take(&mut self.spare));
            }
            if self.left == 0 {
                self.end(&mut take);
            }
        }
    }

    fn end(&mut self, take: &mut impl FnMut(u8, Option<&[u8]>)) {
        match self.body.take() {
            Some(mut body) => {
                take(self.kind, Some(&body));
                body.clear();
                body.shrink_to(KEEP_MAX);
                self.spare = body;
            }
            None => take(self.kind, None),
        }
    }
}

/// What the client sends.
pub(super) struct Sent {
    messages: Messages,
    /// Prepared statements whose text may leave traces whenever they are executed.
    suspects: HashSet<Box<[u8]>>,
}

impl Sent {
    pub(super) fn new() -> Self {
        Self { messages: Messages::new(false), suspects: HashSet::new() }
    }

    pub(super) fn read(&mut self, session: &Session, bytes: &[u8]) {
        let suspects = &mut self.suspects;
        let has_suspects = Cell::new(!suspects.is_empty());
        let wants = |kind| match kind {
            b'Q' | b'P' => TEXT_MAX,
            b'C' => TAG_MAX,
            b'B' if has_suspects.get() => TEXT_MAX,
            _ => 0,
        };
        self.messages.read(bytes, wants, |kind, body| match (kind, body) {
            (b'Q', body) => {
                session.asked();
                if body.is_none_or(text_leaves_traces) {
                    session.note(TRACES);
                }
            }
            (b'P', Some(body)) => {
                let (name, text) = text_and_rest(body);
                if text_leaves_traces(text_and_rest(text).0) {
                    suspects.insert(name.into());
                    // Its Bind may come in the same piece.
                    has_suspects.set(true);
                }
            }
            // Too long to tell: its name is not known either.
            (b'P', None) => session.note(TRACES),
            (b'B', body) if !suspects.is_empty() => {
                let statement = body.map(|body| text_and_rest(text_and_rest(body).1).0);
                if statement.is_none_or(|name| suspects.contains(name)) {
                    session.note(TRACES);
                }
            }
            (b'C', Some([b'S', name @ ..])) => {
                suspects.remove(text_and_rest(name).0);
            }
            (b'S', _) => session.asked(),
            // A function called by its number.
            (b'F', _) => {
                session.asked();
                session.note(TRACES);
            }
            _ => {}
        });
    }
}

/// A text that ends with a zero, and what comes after it.
fn text_and_rest(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// What the server sends.
pub(super) struct Received(Messages);

impl Received {
    pub(super) const fn new() -> Self {
        Self(Messages::new(true))
    }

    pub(super) fn read(&mut self, session: &Session, bytes: &[u8]) {
        let wants = |kind| match kind {
            b'C' => TAG_MAX,
            b'Z' => 1,
            _ => 0,
        };
        self.0.read(bytes, wants, |kind, body| match kind {
            b'C' if body.is_none_or(|body| tag_leaves_traces(text_and_rest(body).0)) => session.note(TRACES | USED),
            b'Z' => session.answered(body != Some(b"I")),
            b'G' | b'W' => session.takes_copy(),
            // A setting that is reported has changed, or a channel is listened to.
            b'S' | b'A' => session.note(TRACES),
            _ => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Condition;
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    fn startup() -> Vec<u8> {
        message(0, b"\0\x03\0\0user\0x\0\0")[1..].to_vec()
    }

    /// Plays messages in pieces of every size, and says how the session is each time.
    fn played(sent: &[Vec<u8>], received: &[Vec<u8>]) -> Condition {
        let all = |messages: &[Vec<u8>]| messages.concat();
        let mut conditions = (1..60).map(|size| {
            let (session, mut client, mut server) = (Session::default(), Sent::new(), Received::new());
            client.read(&session, &startup());
            server.read(&session, &message(b'S', b"TimeZone\0UTC\0"));
            server.read(&session, &message(b'Z', b"I"));
            session.renew();
            all(sent).chunks(size).for_each(|piece| client.read(&session, piece));
            all(received).chunks(size).for_each(|piece| server.read(&session, piece));
            session.condition()
        });
        let first = conditions.next().expect("sizes");
        assert!(conditions.all(|condition| condition == first));
        first
    }

    fn query(text: &str) -> Vec<u8> {
        message(b'Q', &[text.as_bytes(), b"\0"].concat())
    }

    fn tag(text: &str) -> Vec<u8> {
        message(b'C', &[text.as_bytes(), b"\0"].concat())
    }

    fn ready(status: u8) -> Vec<u8> {
        message(b'Z', &[status])
    }

    #[test]
    fn a_plain_query_leaves_nothing_and_a_setting_something() {
        assert_eq!(played(&[], &[]), Condition::Clean);
        assert_eq!(played(&[query("SELECT 1")], &[tag("SELECT 1"), ready(b'I')]), Condition::Clean);
        assert_eq!(played(&[query("SET a.b = 1")], &[tag("SET"), ready(b'I')]), Condition::Traces);
        assert_eq!(
            played(&[query("SELECT set_config('a', 'b', false)")], &[tag("SELECT 1"), ready(b'I')]),
            Condition::Traces
        );
        assert_eq!(played(&[query("SELECT 1")], &[message(b'S', b"TimeZone\0X\0"), ready(b'I')]), Condition::Traces);
    }

    #[test]
    fn what_is_not_answered_is_busy_and_an_open_transaction_is_a_trace() {
        assert_eq!(played(&[query("SELECT 1")], &[]), Condition::Busy);
        assert_eq!(played(&[query("SELECT 1"), query("SELECT 2")], &[tag("SELECT 1"), ready(b'I')]), Condition::Busy);
        assert_eq!(played(&[query("BEGIN")], &[tag("BEGIN"), ready(b'T')]), Condition::Traces);
        assert_eq!(played(&[query("x")], &[ready(b'E')]), Condition::Traces);
        let both = [query("BEGIN"), query("ROLLBACK")];
        assert_eq!(played(&both, &[tag("BEGIN"), ready(b'T'), tag("ROLLBACK"), ready(b'I')]), Condition::Clean);
    }

    #[test]
    fn a_suspect_statement_is_remembered_until_it_is_closed() {
        let parse = |name: &str, text: &str| message(b'P', format!("{name}\0{text}\0\0\0").as_bytes());
        let bind = |name: &str| message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes());
        let sync = || message(b'S', b"");
        let answers = || [message(b'1', b""), tag("SELECT 1"), ready(b'I')];
        let suspect = || parse("s1", "SELECT set_config($1, $2, false)");
        assert_eq!(played(&[parse("s0", "SELECT 1"), bind("s0"), sync()], &answers()), Condition::Clean);
        assert_eq!(played(&[suspect(), sync()], &answers()), Condition::Clean);
        assert_eq!(played(&[suspect(), bind("s1"), sync()], &answers()), Condition::Traces);
        assert_eq!(played(&[suspect(), bind("s0"), sync()], &answers()), Condition::Clean);
        let closed = [suspect(), message(b'C', b"Ss1\0"), parse("s1", "SELECT 1"), bind("s1"), sync()];
        assert_eq!(played(&closed, &answers()), Condition::Clean);
    }

    #[test]
    fn a_sync_that_a_copy_swallows_is_not_waited_for() {
        let sync = || message(b'S', b"");
        let (data, done) = (message(b'd', b"1\n"), message(b'c', b""));
        let begun = [message(b'G', b"\0\0\0")];
        assert_eq!(played(&[sync(), data.clone()], &begun), Condition::Busy);
        let session = Session::default();
        let (mut client, mut server) = (Sent::new(), Received::new());
        client.read(&session, &startup());
        client.read(&session, &sync());
        server.read(&session, &begun[0]);
        client.read(&session, &[data, done, sync()].concat());
        assert_eq!(session.condition(), Condition::Busy);
        server.read(&session, &[tag("COPY 1"), ready(b'I')].concat());
        assert_eq!(session.condition(), Condition::Clean);
    }

    #[test]
    fn a_text_that_is_too_long_to_look_at_counts_as_leaving_traces() {
        let long = "x".repeat(TEXT_MAX);
        assert_eq!(played(&[query(&long)], &[tag("SELECT 1"), ready(b'I')]), Condition::Traces);
    }
}
