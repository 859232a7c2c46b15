//! The directory that arms failpoints.

use std::collections::BTreeSet;
use std::path::Path;

use tempfile::TempDir;
use tenantry_domain::OperationId;
use tenantry_fleet::failpoints::{Action, Failpoints, RECORD, TAKEN};

/// Failpoints of one world. Dropped, it lets go whoever still waits at one.
#[derive(Debug)]
pub(crate) struct Arming {
    directory: TempDir,
}

impl Arming {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// For a replica within this process.
    pub(crate) fn failpoints(&self) -> Failpoints {
        Failpoints::at(self.directory.path())
    }

    /// For a program that is started.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Arms a point for one operation, once.
    pub(crate) fn arm(&self, point: &str, operation: OperationId, action: Action) {
        self.arm_for_any(&scoped(point, operation), action);
    }

    /// Arms a point for whichever operation passes it first.
    pub(crate) fn arm_for_any(&self, point: &str, action: Action) {
        let armed = self.directory.path().join(point);
        let unarmed = armed.with_extension("new");
        std::fs::write(&unarmed, action.as_str()).expect("a file is written");
        // In place as a whole, or not at all.
        std::fs::rename(unarmed, armed).expect("a file is renamed");
    }

    /// Whether the action was taken by any.
    pub(crate) fn is_taken_by_any(&self, point: &str) -> bool {
        !self.directory.path().join(point).exists()
    }

    /// Lets go whoever took it and waits there.
    pub(crate) fn let_go_any(&self, point: &str) {
        let _ = std::fs::remove_file(self.directory.path().join(format!("{point}{TAKEN}")));
    }

    /// Whether the action was taken.
    pub(crate) fn is_taken(&self, point: &str, operation: OperationId) -> bool {
        self.is_taken_by_any(&scoped(point, operation))
    }

    /// Lets go whoever waits at a point.
    pub(crate) fn let_go(&self, point: &str, operation: OperationId) {
        self.let_go_any(&scoped(point, operation));
    }

    /// From now on, points that are passed are taken down.
    pub(crate) fn record(&self) {
        std::fs::write(self.directory.path().join(RECORD), "").expect("a file is written");
    }

    /// The points that an operation has passed since.
    pub(crate) fn recorded(&self, operation: OperationId) -> BTreeSet<String> {
        let text = std::fs::read_to_string(self.directory.path().join(RECORD)).expect("a record");
        let scope = operation.to_string();
        let passed = text.lines().filter_map(|line| line.split_once(' ')).filter(|(by, _)| *by == scope);
        passed.map(|(_, point)| point.to_owned()).collect()
    }
}

fn scoped(point: &str, operation: OperationId) -> String {
    format!("{point}@{operation}")
}
