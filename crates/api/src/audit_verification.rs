//! Checking exported entries of the audit log, wherever they are: nothing here asks the control plane.

use std::collections::BTreeMap;

use serde::Serialize;
use tenantry_domain::{AuditContent, RequestId, TenantId};

use crate::audit_log::{AuditChain, AuditLine};

/// Most breaches that are kept; more would say no more.
const BREACHES_MAX: usize = 100;

/// Where entries do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditBreach {
    /// In whose chain; absent means the platform's.
    pub tenant: Option<TenantId>,
    /// At which entry; absent where entries are missing.
    pub entry: Option<i64>,
    /// What is wrong.
    pub reason: String,
}

/// Entries that are checked one after the other, oldest first: that each has the hash it says, and follows the one before
/// it in its chain.
#[derive(Debug, Default)]
pub struct AuditVerification {
    heads: BTreeMap<Option<TenantId>, AuditChain>,
    chains: BTreeMap<Option<TenantId>, Seen>,
    entries: u64,
    breaches: Vec<AuditBreach>,
}

#[derive(Debug)]
struct Seen {
    entries: i64,
    last: String,
    is_whole: bool,
}

impl AuditVerification {
    /// Entries alone: the first of a chain is taken at its word about the one before it, and what is cut off the end is
    /// not noticed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries of chains that are known to have been this long at least, from their first on.
    pub fn against(heads: impl IntoIterator<Item = AuditChain>) -> Self {
        Self { heads: heads.into_iter().map(|head| (head.tenant, head)).collect(), ..Self::default() }
    }

    /// The next entry.
    pub fn check(&mut self, line: &AuditLine) {
        self.entries += 1;
        if computed(line).as_deref() != Some(line.entry.hash.as_str()) {
            self.breach(line.tenant, Some(line.entry.id), "its content is not what its hash was taken of");
        }
        let seen = self.chains.get(&line.tenant);
        let follows = match seen {
            Some(seen) => line.previous.as_ref() == Some(&seen.last),
            None => line.previous.is_none() || !self.heads.contains_key(&line.tenant),
        };
        if !follows {
            self.breach(line.tenant, Some(line.entry.id), "an entry before it is missing or was changed");
        }
        let next = match self.chains.remove(&line.tenant) {
            Some(seen) => Seen { entries: seen.entries + 1, last: line.entry.hash.clone(), is_whole: seen.is_whole },
            None => Seen { entries: 1, last: line.entry.hash.clone(), is_whole: line.previous.is_none() },
        };
        if let Some(head) = self.heads.get(&line.tenant)
            && next.is_whole
            && head.entries == next.entries
            && head.head != next.last
        {
            self.breach(line.tenant, Some(line.entry.id), "the chain's head knows another entry in its place");
        }
        self.chains.insert(line.tenant, next);
    }

    /// How many entries were checked.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// In how many chains.
    pub fn chains(&self) -> usize {
        self.chains.len()
    }

    /// Everything that is wrong, a hundred breaches at most; nothing when all is well.
    pub fn finish(mut self) -> Vec<AuditBreach> {
        let short: Vec<_> = self
            .heads
            .values()
            .filter_map(|head| {
                let seen = self.chains.get(&head.tenant).map_or(0, |seen| seen.entries);
                (seen < head.entries).then(|| (head.tenant, head.entries - seen))
            })
            .collect();
        for (tenant, missing) in short {
            self.breach(tenant, None, &format!("entries are missing: {missing}"));
        }
        self.breaches
    }

    fn breach(&mut self, tenant: Option<TenantId>, entry: Option<i64>, reason: &str) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(AuditBreach { tenant, entry, reason: reason.to_owned() });
        }
    }
}

/// The hash that the entry should have; `None` where it is no entry of ours.
fn computed(line: &AuditLine) -> Option<String> {
    let entry = &line.entry;
    let previous = match &line.previous {
        Some(previous) => hex::decode(previous).ok()?,
        None => Vec::new(),
    };
    let request_id = match &entry.request_id {
        Some(id) => Some(id.parse::<RequestId>().ok()?),
        None => None,
    };
    let content = AuditContent {
        at: entry.at,
        actor: &entry.actor,
        action: &entry.action,
        target: &entry.target,
        tenant: line.tenant,
        request_id,
        operation: entry.operation,
        before: entry.before.as_ref(),
        after: entry.after.as_ref(),
    };
    Some(hex::encode(content.hash(&previous)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::AuditEntry;

    fn tenant() -> TenantId {
        TenantId::new(Uuid::from_u128(7))
    }

    /// A chain of so many entries.
    fn chain(tenant: Option<TenantId>, length: i64) -> Vec<AuditLine> {
        let mut lines: Vec<AuditLine> = Vec::new();
        for id in 1..=length {
            let entry = AuditEntry {
                id,
                at: Timestamp::UNIX_EPOCH,
                actor: "token/ci".to_owned(),
                action: "tenant.update".to_owned(),
                target: "tenant/x".to_owned(),
                request_id: Some(Uuid::from_u128(9).to_string()),
                operation: None,
                before: Some(json!({ "n": id })),
                after: None,
                hash: String::new(),
            };
            let mut line = AuditLine { entry, tenant, previous: lines.last().map(|line| line.entry.hash.clone()) };
            line.entry.hash = computed(&line).expect("a hash");
            lines.push(line);
        }
        lines
    }

    fn head(lines: &[AuditLine]) -> AuditChain {
        let last = lines.last().expect("an entry");
        let entries = i64::try_from(lines.len()).expect("few");
        AuditChain { tenant: last.tenant, entries, head: last.entry.hash.clone(), last_entry: last.entry.id }
    }

    fn verdict(mut verification: AuditVerification, lines: &[AuditLine]) -> Vec<(Option<i64>, String)> {
        for line in lines {
            verification.check(line);
        }
        verification.finish().into_iter().map(|breach| (breach.entry, breach.reason)).collect()
    }

    #[test]
    fn whole_chains_are_sound_alone_and_against_their_heads_and_in_a_file() {
        let lines = [chain(None, 5), chain(Some(tenant()), 3)].concat();
        let heads = || [head(&chain(None, 5)), head(&chain(Some(tenant()), 3))];
        assert_eq!(verdict(AuditVerification::new(), &lines), []);
        assert_eq!(verdict(AuditVerification::against(heads()), &lines), []);
        // As a file has them, and more than the head knew.
        let text: Vec<String> = lines.iter().map(|line| serde_json::to_string(line).expect("JSON")).collect();
        let read: Vec<AuditLine> = text.iter().map(|line| serde_json::from_str(line).expect("a line")).collect();
        assert_eq!(read, lines);
        assert_eq!(verdict(AuditVerification::against([head(&chain(None, 4))]), &read), []);
    }

    #[test]
    fn a_change_a_gap_and_a_cut_end_are_found() {
        let lines = chain(None, 5);
        let known = || AuditVerification::against([head(&lines)]);
        let mut forged = lines.clone();
        forged[2].entry.actor = "nobody".to_owned();
        assert_eq!(verdict(known(), &forged)[0].0, Some(3));
        // Hashed anew, it does not fit what follows.
        forged[2].entry.hash = computed(&forged[2]).expect("a hash");
        assert_eq!(verdict(known(), &forged)[0].0, Some(4));
        let gap = [&lines[..1], &lines[2..]].concat();
        assert_eq!(verdict(known(), &gap)[0].0, Some(3));
        assert_eq!(verdict(AuditVerification::new(), &gap)[0].0, Some(3));
        assert_eq!(verdict(known(), &lines[1..])[0].0, Some(2), "the first entry is missing");
        assert_eq!(verdict(AuditVerification::new(), &lines[1..]), [], "an export may begin anywhere");
        assert_eq!(verdict(known(), &lines[..3]), [(None, "entries are missing: 2".to_owned())]);
        assert_eq!(verdict(known(), &[]), [(None, "entries are missing: 5".to_owned())]);
    }
}
