//! What a snapshot says: one record after the other, each a kind, a length and as many bytes.
//!
//! Routes are most of it, so they are written as the table keeps them; all else is JSON. What many routes have in common is
//! written once, before the first of them.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tenantry_api::FeedCluster;
use tenantry_api::feed::ConnectionLease;
use tenantry_domain::{FeedVersion, Generation, Route, RouteState, SchemaVersion, TenantId};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::seal::{OpenError, Opener, Sealer};
use crate::table::{Found, Packed, Terms, route_of};

/// Whose picture it is, and of when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Title {
    pub(super) plane: String,
    /// Everything up to this version is there, and some of what came after it.
    pub(super) version: FeedVersion,
    /// When the control plane last said something, in milliseconds since 1970.
    pub(super) heard_at_ms: u64,
    /// About how many routes there are.
    pub(super) routes: usize,
}

/// One record.
#[derive(Debug)]
pub(super) enum Record {
    Title(Title),
    Cluster(FeedCluster),
    Lease(ConnectionLease),
    Route(Box<Route>),
    End,
}

const TITLE: u8 = b'S';
const CLUSTER: u8 = b'C';
const LEASE: u8 = b'L';
const TERMS: u8 = b'T';
const ROUTE: u8 = b'R';
const END: u8 = b'E';

/// More bytes than any record has: a route with all the hosts that fit a request, or a cluster with its authorities.
const RECORD_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a route before its texts: the tenant, three numbers, the state and its terms.
const ROUTE_FIXED: usize = 16 + 3 * 8 + 1 + 4;

fn letter(state: RouteState) -> u8 {
    match state {
        RouteState::Provisioning => b'p',
        RouteState::Active => b'a',
        RouteState::Suspended => b's',
        RouteState::Moving => b'm',
    }
}

fn state_of(letter: u8) -> Option<RouteState> {
    match letter {
        b'p' => Some(RouteState::Provisioning),
        b'a' => Some(RouteState::Active),
        b's' => Some(RouteState::Suspended),
        b'm' => Some(RouteState::Moving),
        _ => None,
    }
}

/// Writes records.
pub(super) struct RecordWriter<W> {
    sealer: Sealer<W>,
    terms: HashMap<Arc<Terms>, u32>,
}

impl<W: Write> RecordWriter<W> {
    pub(super) fn new(sealer: Sealer<W>) -> Self {
        Self { sealer, terms: HashMap::new() }
    }

    fn write(&mut self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let fits = u32::try_from(length).ok().filter(|_| length <= RECORD_MAX);
        let length = fits.ok_or_else(|| io::Error::other("a record of the snapshot is too large"))?;
        self.sealer.write(&[kind])?;
        self.sealer.write(&length.to_le_bytes())?;
        parts.iter().try_for_each(|part| self.sealer.write(part))
    }

    fn write_json(&mut self, kind: u8, value: &impl Serialize) -> io::Result<()> {
        let json = serde_json::to_vec(value)?;
        self.write(kind, &[&json])
    }

    pub(super) fn title(&mut self, title: &Title) -> io::Result<()> {
        self.write_json(TITLE, title)
    }

    pub(super) fn cluster(&mut self, cluster: &FeedCluster) -> io::Result<()> {
        self.write_json(CLUSTER, cluster)
    }

    pub(super) fn lease(&mut self, lease: &ConnectionLease) -> io::Result<()> {
        self.write_json(LEASE, lease)
    }

    pub(super) fn route(&mut self, found: &Found, packed: &Packed, terms: &Arc<Terms>) -> io::Result<()> {
        let number = if let Some(number) = self.terms.get(terms) {
            *number
        } else {
            let number = u32::try_from(self.terms.len()).map_err(io::Error::other)?;
            self.write_json(TERMS, &**terms)?;
            self.terms.insert(Arc::clone(terms), number);
            number
        };
        let tenant = found.tenant.as_uuid().into_bytes();
        let numbers = [found.version.0, found.generation.0, found.schema_version.0].map(i64::to_le_bytes);
        let parts: [&[u8]; 5] =
            [&tenant, numbers.as_flattened(), &[letter(found.state)], &number.to_le_bytes(), packed.bytes()];
        self.write(ROUTE, &parts)
    }

    /// Ends it. Answers where it was written to, and how many bytes there are.
    pub(super) fn end(mut self) -> io::Result<(W, u64)> {
        self.write(END, &[])?;
        self.sealer.finish()
    }
}

/// Reads records.
pub(super) struct RecordReader<R> {
    opener: Opener<R>,
    terms: Vec<Terms>,
}

impl<R: BufRead> RecordReader<R> {
    pub(super) fn new(opener: Opener<R>) -> Self {
        Self { opener, terms: Vec::new() }
    }

    /// The next one; what the routes have in common is kept for those that follow.
    pub(super) fn next(&mut self) -> Result<Record, OpenError> {
        loop {
            let mut start = [0; 5];
            self.opener.read(&mut start)?;
            let length = u32::from_le_bytes([start[1], start[2], start[3], start[4]]) as usize;
            if length > RECORD_MAX {
                return Err(OpenError::Damaged);
            }
            let mut bytes = Zeroizing::new(vec![0; length]);
            self.opener.read(&mut bytes)?;
            return Ok(match start[0] {
                TITLE => Record::Title(json(&bytes)?),
                CLUSTER => Record::Cluster(json(&bytes)?),
                LEASE => Record::Lease(json(&bytes)?),
                TERMS => {
                    self.terms.push(json(&bytes)?);
                    continue;
                }
                ROUTE => Record::Route(Box::new(self.route(&bytes).ok_or(OpenError::Damaged)?)),
                END => Record::End,
                _ => return Err(OpenError::Damaged),
            });
        }
    }

    fn route(&self, bytes: &[u8]) -> Option<Route> {
        let (fixed, texts) = bytes.split_at_checked(ROUTE_FIXED)?;
        let number = |from: usize| fixed.get(from..from + 8)?.try_into().ok().map(i64::from_le_bytes);
        let terms = u32::from_le_bytes(fixed.get(41..45)?.try_into().ok()?);
        let terms = self.terms.get(terms as usize)?;
        let found = Found {
            slot: 0,
            tenant: TenantId::new(Uuid::from_slice(&fixed[..16]).ok()?),
            version: FeedVersion(number(16)?),
            generation: Generation(number(24)?),
            schema_version: SchemaVersion(number(32)?),
            state: state_of(fixed[40])?,
            has_target: terms.cluster.is_some(),
        };
        let route = route_of(&found, &Packed::from_bytes(texts), terms)?;
        (route.target.is_some() == found.has_target).then_some(route)
    }

    /// Sees that nothing follows.
    pub(super) fn finish(self) -> Result<(), OpenError> {
        self.opener.finish()
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, OpenError> {
    serde_json::from_slice(bytes).map_err(|_| OpenError::Damaged)
}
