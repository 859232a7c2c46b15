//! The locks of the transaction, seen after each statement.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tenantry_domain::LockMode;
use tokio_postgres::SimpleQueryRow;

use super::TakenLock;
use crate::error::FleetError;
use crate::migrate::{HISTORY_TABLES, Workplace};
use crate::quote::literal;
use crate::session::Session;

/// What is known of the locks of one transaction.
#[derive(Default)]
pub(super) struct Locks {
    /// The home's relations before the first file, by oid.
    before: HashMap<u32, Before>,
    taken: Vec<Taken>,
    /// When a failure ended the transaction, and with it every lock.
    ended: Option<Instant>,
}

struct Before {
    name: String,
    /// Where its content is, as last seen; changes when that is written anew.
    filenode: Option<String>,
    rows: Option<u64>,
}

struct Taken {
    relation: u32,
    file: usize,
    since: Instant,
    file_end: Option<Instant>,
    lock: TakenLock,
}

impl Locks {
    /// Notes what is there before the first file.
    pub(super) async fn remember(&mut self, session: &mut Session, workplace: &Workplace) -> Result<(), FleetError> {
        let sql = format!(
            "SELECT c.oid, c.relname, pg_catalog.pg_relation_filenode(c.oid), pg_catalog.int8(c.reltuples)
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = {} AND c.relkind IN ('r', 'm', 'p', 'v', 'S', 'f');",
            literal(workplace.schema.as_str())
        );
        for row in session.rows("look at the home's tables", &sql).await? {
            if let Some((oid, name)) = row.get(0).and_then(|oid| oid.parse().ok()).zip(row.get(1)) {
                let filenode = row.get(2).map(str::to_owned);
                self.before.insert(oid, Before { name: name.to_owned(), filenode, rows: number(&row, 3) });
            }
        }
        Ok(())
    }

    /// Notes the locks that the statement has taken. Those on indexes go with their tables' and are left out.
    pub(super) async fn look(
        &mut self,
        session: &mut Session,
        workplace: &Workplace,
        file: usize,
        line: u32,
        since: Instant,
    ) -> Result<(), FleetError> {
        let sql = "SELECT l.relation, l.mode, n.nspname, c.relname, c.relkind, pg_catalog.pg_relation_filenode(c.oid),
                          pg_catalog.pg_total_relation_size(c.oid)
             FROM pg_catalog.pg_locks l
             LEFT JOIN pg_catalog.pg_class c ON c.oid = l.relation
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted
               AND (c.oid IS NULL OR c.relkind IN ('r', 'm', 'p', 'v', 'S', 'f')
                    AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema'));";
        let rows = session.rows("look at the locks", sql).await?;
        let read = |row: &SimpleQueryRow| Some((row.get(0)?.parse::<u32>().ok()?, mode(row.get(1)?)?));
        let mut held: Vec<_> = rows.iter().filter_map(|row| read(row).map(|(oid, mode)| (oid, mode, row))).collect();
        // The strongest of each relation.
        held.sort_by_key(|(oid, mode, _)| (*oid, std::cmp::Reverse(mode.strength())));
        held.dedup_by_key(|(oid, ..)| *oid);
        for (relation, mode, row) in held {
            self.note(row, workplace, relation, mode, (file, line, since));
        }
        Ok(())
    }

    fn note(
        &mut self,
        row: &SimpleQueryRow,
        workplace: &Workplace,
        relation: u32,
        mode: LockMode,
        (file, line, since): (usize, u32, Instant),
    ) {
        let has_content = matches!(row.get(4), Some("r" | "m"));
        let before = self.before.get_mut(&relation);
        let mut rewritten = false;
        if let Some(before) = before
            && has_content
            && row.get(5) != before.filenode.as_deref()
        {
            rewritten = true;
            before.filenode = row.get(5).map(str::to_owned);
        }
        let before = self.before.get(&relation);
        let known = self.taken.iter_mut().filter(|taken| taken.relation == relation);
        if let Some(strongest) = known.max_by_key(|taken| (taken.lock.mode.strength(), taken.file))
            && strongest.lock.mode.strength() >= mode.strength()
            // Whatever writes the table anew is told, under whichever lock.
            && (!rewritten || strongest.file == file)
        {
            strongest.lock.rewritten |= rewritten;
            return;
        }
        let schema = row.get(2).filter(|schema| *schema != workplace.schema.as_str());
        // One that was dropped has no name any more but the one that is remembered.
        let Some(name) = row.get(3).or(before.map(|before| before.name.as_str())) else { return };
        if HISTORY_TABLES.contains(&name) {
            return;
        }
        let lock = TakenLock {
            relation: schema.map_or_else(|| name.to_owned(), |schema| format!("{schema}.{name}")),
            mode,
            line,
            existed: before.is_some() || schema.is_some(),
            rewritten,
            rows: before.and_then(|before| before.rows),
            bytes: number(row, 6).filter(|_| has_content),
            held_in_file: Duration::ZERO,
            held: Duration::ZERO,
        };
        let taken = Taken { relation, file, since, file_end: None, lock };
        match self.taken.iter_mut().find(|known| known.relation == relation && known.file == file) {
            Some(weaker) => {
                let rewritten = weaker.lock.rewritten || taken.lock.rewritten;
                *weaker = Taken { lock: TakenLock { rewritten, ..taken.lock }, ..taken };
            }
            None => self.taken.push(taken),
        }
    }

    /// A file has come to its end, where the rollout would commit.
    pub(super) fn end_file(&mut self, now: Instant) {
        for taken in &mut self.taken {
            taken.file_end.get_or_insert(now);
        }
    }

    /// The transaction is broken, and its locks are gone.
    pub(super) fn end(&mut self, now: Instant) {
        self.ended.get_or_insert(now);
    }

    /// Each lock with the number of its file, after the rollback.
    pub(super) fn finish(self, now: Instant) -> impl Iterator<Item = (usize, TakenLock)> {
        let end = self.ended.unwrap_or(now);
        self.taken.into_iter().map(move |taken| {
            let held = end.saturating_duration_since(taken.since);
            let in_file = taken.file_end.unwrap_or(end).saturating_duration_since(taken.since);
            (taken.file, TakenLock { held_in_file: in_file.min(held), held, ..taken.lock })
        })
    }
}

fn number(row: &SimpleQueryRow, column: usize) -> Option<u64> {
    row.get(column)?.parse().ok()
}

/// PostgreSQL's name for it in `pg_locks`.
fn mode(text: &str) -> Option<LockMode> {
    Some(match text {
        "AccessShareLock" => LockMode::AccessShare,
        "RowShareLock" => LockMode::RowShare,
        "RowExclusiveLock" => LockMode::RowExclusive,
        "ShareUpdateExclusiveLock" => LockMode::ShareUpdateExclusive,
        "ShareLock" => LockMode::Share,
        "ShareRowExclusiveLock" => LockMode::ShareRowExclusive,
        "ExclusiveLock" => LockMode::Exclusive,
        "AccessExclusiveLock" => LockMode::AccessExclusive,
        _ => return None,
    })
}
