//! Nothing that a router waits for or times depends on the wall clock, which is set now and then.

use std::collections::BTreeSet;
use std::path::Path;

/// Where the wall clock is right, because a time is shared with somebody else.
const OF_THE_WALL: &[&str] = &[
    // Tokens bear times of their issuer.
    "extract/token.rs",
    "extract/token/verifier.rs",
    // A snapshot is read by another process, perhaps after the machine was off.
    "snapshot/load.rs",
    "snapshot/save.rs",
];

fn of_the_wall(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            of_the_wall(&path, root, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source file");
        if ["SystemTime", "UNIX_EPOCH", "UnixTime", "jiff", "Timestamp::now", "Utc::now"]
            .iter()
            .any(|clock| text.contains(clock))
        {
            let path = path.strip_prefix(root).expect("below the root");
            found.insert(path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/"));
        }
    }
}

#[test]
fn times_are_measured_on_the_clock_that_nobody_sets() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    of_the_wall(&root, &root, &mut found);
    let expected: BTreeSet<_> = OF_THE_WALL.iter().map(|&path| path.to_owned()).collect();
    assert_eq!(found, expected, "for what is timed or waited for, use `Instant`");
}
