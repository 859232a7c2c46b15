//! What must not be, wherever it was seen.

use std::sync::{Arc, Mutex, PoisonError};

/// More say nothing new.
const MOST: usize = 20;

/// Shared by all who look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(Arc<Mutex<Vec<String>>>);

impl Findings {
    /// Something was seen that must not be.
    pub(crate) fn add(&self, what: String) {
        let mut findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if findings.len() < MOST {
            findings.push(what);
        }
    }

    /// Fails where anything was seen.
    pub(crate) fn assert_none(&self, seed: u64) {
        let findings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(findings.is_empty(), "TENANTRY_SEED={seed}:\n{}", findings.join("\n"));
    }
}
