//! The table of metrics names them all, and no others.

use std::collections::BTreeSet;
use std::path::Path;

const TABLE: &str = include_str!("../../docs/metrics.md");

/// What stands between two marks in a text and begins as all metrics do.
fn named(text: &str, mark: char) -> impl Iterator<Item = String> {
    let pieces = text.split(mark).filter(|piece| piece.starts_with("tenantry_router_"));
    pieces.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            in_sources(&path, found);
        } else {
            found.extend(named(&std::fs::read_to_string(path).expect("a source file"), '"'));
        }
    }
}

#[test]
fn the_documented_metrics_are_those_that_are_emitted() {
    let mut emitted = BTreeSet::new();
    in_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut emitted);
    let documented: BTreeSet<_> = named(TABLE, '`').collect();
    assert_eq!(emitted, documented, "docs/metrics.md lists every metric of src/, once");
    assert!(!TABLE.contains("`tenant`"), "a label with a tenant grows with the fleet");
}
