//! What many routes have in common: cluster, shared database and limits. Each combination is kept once.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use tenantry_domain::{ClusterId, DatabaseName, Limits};

/// One combination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    /// Absent for a route without a target.
    pub(crate) cluster: Option<ClusterId>,
    /// Where other tenants live, too; absent for a database of the tenant's own.
    pub(crate) database: Option<DatabaseName>,
    pub(crate) limits: Limits,
}

/// Every combination in use, and some that were.
#[derive(Default)]
pub(super) struct AllTerms {
    known: HashSet<Arc<Terms>, RandomState>,
    /// When there are so many, those out of use are taken out.
    sweep_at: usize,
}

/// So many are always kept.
const LEAST: usize = 64;

impl AllTerms {
    pub(super) fn of(&mut self, terms: Terms) -> Arc<Terms> {
        if let Some(known) = self.known.get(&terms) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|terms| Arc::strong_count(terms) > 1);
            self.sweep_at = LEAST.max(self.known.len() * 2);
        }
        let terms = Arc::new(terms);
        self.known.insert(Arc::clone(&terms));
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_terms_are_kept_once_and_unused_ones_not_for_ever() {
        let mut all = AllTerms::default();
        let terms = |pool_size| Terms {
            cluster: None,
            database: None,
            limits: Limits { pool_size: Some(pool_size), ..Limits::default() },
        };
        let kept = all.of(terms(1));
        assert!(Arc::ptr_eq(&kept, &all.of(terms(1))));
        for pool_size in 0..10_000 {
            all.of(terms(pool_size));
        }
        assert!(all.known.len() <= LEAST + 1);
        assert!(Arc::ptr_eq(&kept, &all.of(terms(1))));
    }
}
