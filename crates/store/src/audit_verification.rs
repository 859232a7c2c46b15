//! Following the chains of the audit log from entry to entry, as far at a time as one wants to wait.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::audit_log::{AuditRecord, content, read};
use crate::connection::Connection;
use crate::cursor::bad_cursor;
use crate::error::StoreError;
use crate::row::{get, query, query_opt};
use crate::store::Store;

/// Entries that are read at a time.
const BATCH: usize = 1_000;
/// Breaches that one round tells; more would say no more.
const BREACHES_MAX: usize = 100;
/// What every mark begins with.
const MARK: &str = "audit-log";

/// How far a verification has come; by default not yet begun.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditMark(Option<Place>);

/// All chains before this one are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    chain: String,
    /// How far in this one; absent where it is broken, so that the rest of it says nothing.
    within: Option<Within>,
}

/// How many entries of a chain fit together, and the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Within {
    entries: i64,
    last: i64,
}

/// What one round found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRound {
    /// Entries that were looked at.
    pub entries: u64,
    /// Where chains are broken: the first place of each, a hundred at most.
    pub breaches: Vec<ChainBreach>,
    /// Where the next round goes on; absent when all chains are followed.
    pub next: Option<AuditMark>,
}

/// A chain that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBreach {
    /// Which chain: a tenant's id, or `platform`.
    pub chain: String,
    /// What is wrong with it.
    pub kind: BreachKind,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreachKind {
    /// This entry was changed, or the one before it is gone.
    Entry(i64),
    /// So many entries are gone from the chain's end.
    Missing(i64),
    /// The head of the chain knows another last entry, fewer entries, or nothing of the chain.
    Head,
}

/// A chain that is being followed.
struct Followed {
    chain: String,
    fits: Within,
    hash: Vec<u8>,
    broken_at: Option<i64>,
}

impl Store {
    /// Follows the chains, one after the other, from a mark on for `entries_max` entries, recomputes each hash, and compares
    /// what a chain ends with to what its head says. A round sees one instant; what earlier rounds have followed is not
    /// looked at again.
    pub async fn verify_audit(&self, from: &AuditMark, entries_max: usize) -> Result<AuditRound, StoreError> {
        let tx = self.begin_snapshot().await?;
        let client = tx.client()?;
        let mut round = AuditRound::default();
        let (mut chain, mut after) = from.position();
        let mut followed = take_up(client, from).await?;
        let mut left = entries_max.max(1);
        loop {
            let batch = left.min(BATCH);
            let sql = "SELECT * FROM audit_log WHERE (chain, id) > ($1, $2) ORDER BY chain, id LIMIT $3";
            let rows = query(client, sql, &[&chain, &after, &i64::try_from(batch).unwrap_or(i64::MAX)]).await?;
            let mut ended = Vec::new();
            for row in &rows {
                let record = read(row)?;
                (chain, after) = (get(row, "chain")?, record.id);
                let mut current = match followed.take() {
                    Some(current) if current.chain == chain => current,
                    other => {
                        ended.extend(other);
                        Followed::from_its_start(&chain)
                    }
                };
                current.step(&record);
                followed = Some(current);
            }
            round.entries += rows.len() as u64;
            left -= rows.len();
            let is_all = rows.len() < batch;
            if is_all {
                ended.extend(followed.take());
            } else if left == 0 {
                round.next = Some(AuditMark(followed.as_ref().map(Followed::place)));
                // What is broken is told now: the rest of that chain is passed over.
                ended.extend(followed.take().filter(|followed| followed.broken_at.is_some()));
            }
            judge(client, ended, &mut round.breaches).await?;
            if is_all {
                find_emptied(client, &mut round.breaches).await?;
            }
            if is_all || left == 0 {
                round.breaches.truncate(BREACHES_MAX);
                return Ok(round);
            }
        }
    }
}

impl AuditMark {
    /// After which chain and entry the next round begins.
    fn position(&self) -> (String, i64) {
        match &self.0 {
            None => (String::new(), 0),
            Some(Place { chain, within }) => (chain.clone(), within.map_or(i64::MAX, |within| within.last)),
        }
    }
}

impl fmt::Display for AuditMark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MARK)?;
        let Some(Place { chain, within }) = &self.0 else { return Ok(()) };
        write!(formatter, "/{chain}")?;
        within.map_or(Ok(()), |Within { entries, last }| write!(formatter, "/{entries}/{last}"))
    }
}

impl FromStr for AuditMark {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        let number = |text: &str| text.parse().map_err(|_| bad_cursor());
        let place = |chain: &str, within| Ok(Self(Some(Place { chain: chain.to_owned(), within })));
        match *text.split('/').collect::<Vec<_>>() {
            [MARK] => Ok(Self(None)),
            [MARK, chain] => place(chain, None),
            [MARK, chain, entries, last] => {
                place(chain, Some(Within { entries: number(entries)?, last: number(last)? }))
            }
            _ => Err(bad_cursor()),
        }
    }
}

impl Followed {
    fn from_its_start(chain: &str) -> Self {
        let fits = Within { entries: 0, last: 0 };
        Self { chain: chain.to_owned(), fits, hash: Vec::new(), broken_at: None }
    }

    fn step(&mut self, record: &AuditRecord) {
        if self.broken_at.is_some() {
            return;
        }
        if content(record.at, &record.entry).hash(&self.hash) == record.hash {
            self.hash = record.hash.to_vec();
            self.fits = Within { entries: self.fits.entries.saturating_add(1), last: record.id };
        } else {
            self.broken_at = Some(record.id);
        }
    }

    fn place(&self) -> Place {
        Place { chain: self.chain.clone(), within: self.broken_at.is_none().then_some(self.fits) }
    }
}

/// The chain that an earlier round was in the middle of. Where the entry that it stopped at is gone, it is broken there.
async fn take_up(client: &Connection, mark: &AuditMark) -> Result<Option<Followed>, StoreError> {
    let Some(Place { chain, within: Some(fits) }) = &mark.0 else { return Ok(None) };
    let sql = "SELECT hash FROM audit_log WHERE chain = $1 AND id = $2";
    let row = query_opt(client, sql, &[chain, &fits.last]).await?;
    let hash = row.as_ref().map(|row| get::<Vec<u8>>(row, "hash")).transpose()?;
    let broken_at = hash.is_none().then_some(fits.last);
    Ok(Some(Followed { chain: chain.clone(), fits: *fits, hash: hash.unwrap_or_default(), broken_at }))
}

/// Whether chains that were followed to their ends are what their heads say.
async fn judge(client: &Connection, ended: Vec<Followed>, breaches: &mut Vec<ChainBreach>) -> Result<(), StoreError> {
    if ended.is_empty() {
        return Ok(());
    }
    let chains: Vec<&str> = ended.iter().map(|followed| followed.chain.as_str()).collect();
    let sql = "SELECT chain, entries, head FROM audit_chain WHERE chain = ANY ($1)";
    let rows = query(client, sql, &[&chains]).await?;
    let head =
        |row| Ok((get::<String>(row, "chain")?, (get::<i64>(row, "entries")?, get::<Option<Vec<u8>>>(row, "head")?)));
    let heads: HashMap<_, _> = rows.iter().map(head).collect::<Result<_, StoreError>>()?;
    for followed in ended {
        let kind = match (followed.broken_at, heads.get(&followed.chain)) {
            (Some(entry), _) => BreachKind::Entry(entry),
            (None, Some((entries, _))) if *entries > followed.fits.entries => {
                BreachKind::Missing(entries.saturating_sub(followed.fits.entries))
            }
            (None, Some((entries, Some(head)))) if *entries == followed.fits.entries && *head == followed.hash => {
                continue;
            }
            (None, _) => BreachKind::Head,
        };
        breaches.push(ChainBreach { chain: followed.chain, kind });
    }
    Ok(())
}

/// Chains of which nothing is left but the head.
async fn find_emptied(client: &Connection, breaches: &mut Vec<ChainBreach>) -> Result<(), StoreError> {
    let sql = "SELECT chain, entries FROM audit_chain c
                WHERE entries > 0 AND NOT EXISTS (SELECT FROM audit_log a WHERE a.chain = c.chain)
                ORDER BY chain LIMIT 100";
    for row in query(client, sql, &[]).await? {
        breaches.push(ChainBreach { chain: get(&row, "chain")?, kind: BreachKind::Missing(get(&row, "entries")?) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_strange_one_refused() {
        let within = Some(Within { entries: 3, last: 17 });
        for place in [None, Some(("platform", None)), Some(("0192", within))] {
            let mark = AuditMark(place.map(|(chain, within)| Place { chain: chain.to_owned(), within }));
            assert_eq!(mark.to_string().parse::<AuditMark>().expect("a mark"), mark);
        }
        for strange in ["", "x", "audit-log/a/b", "audit-log/a/1", "audit-log/a/1/x", "audit-log/a/1/2/3"] {
            assert!(strange.parse::<AuditMark>().is_err(), "{strange}");
        }
    }
}
