//! What a cluster holds against what the catalog says. A pure function, so that every case can be told to it.

use std::collections::HashSet;

use tenantry_domain::orphan::stem;
use tenantry_domain::{OrphanKind, OrphanVerdict};
use tenantry_fleet::ObservedObject;
use tenantry_store::{CatalogInventory, OrphanFinding, Standing};

/// All disagreements. Objects under names that we do not give are nobody's business.
///
/// Two looks are needed to be sure: work goes on between a look at the catalog and one at the cluster. What stands in both
/// is so.
pub(crate) fn compare(catalog: &CatalogInventory, seen: &[ObservedObject]) -> HashSet<OrphanFinding> {
    let mut findings: HashSet<OrphanFinding> = seen.iter().filter_map(|object| judge(catalog, object)).collect();
    let there: HashSet<(OrphanKind, &str, &str)> = seen
        .iter()
        .filter(|object| !object.is_half_dropped)
        .map(|object| (object.kind, object.name.as_str(), object.parent.as_str()))
        .collect();
    for made in catalog.made.iter().filter(|made| !made.is_busy) {
        if !there.contains(&(made.kind, made.name.as_str(), made.parent.as_str())) {
            findings.insert(OrphanFinding {
                kind: made.kind,
                name: made.name.clone(),
                parent: made.parent.clone(),
                verdict: OrphanVerdict::Missing,
                reason: "the catalog says that it was made, but it is not there, or half dropped".to_owned(),
            });
        }
    }
    findings
}

/// What is to be thought of something that is there; nothing, where it should be.
fn judge(catalog: &CatalogInventory, object: &ObservedObject) -> Option<OrphanFinding> {
    let finding = |verdict, reason: &str| {
        Some(OrphanFinding {
            kind: object.kind,
            name: object.name.clone(),
            parent: object.parent.clone(),
            verdict,
            reason: reason.to_owned(),
        })
    };
    match object.kind {
        OrphanKind::Directory => finding(
            OrphanVerdict::Foreign,
            "no database claims this directory; a creation that a crash interrupted may have left it. Look at what is in it, \
             and remove it by hand while nobody creates databases",
        ),
        OrphanKind::Backend => {
            let home = object.name.rsplit('/').next().unwrap_or_default().replace('-', "");
            let standing = catalog.standings.get(&format!("h_{home}"));
            if standing == Some(&Standing::Bygone) {
                finding(OrphanVerdict::Ours, "it works on a home that is gone")
            } else {
                None
            }
        }
        OrphanKind::Database | OrphanKind::Role | OrphanKind::Schema | OrphanKind::Slot => {
            match catalog.standings.get(stem(&object.name)?) {
                Some(Standing::Living | Standing::Busy) => None,
                Some(Standing::Bygone) => {
                    finding(OrphanVerdict::Ours, "the catalog knows its name as one that is gone")
                }
                None => finding(
                    OrphanVerdict::Foreign,
                    "it is named as Tenantry names things, but not by this catalog; perhaps it belongs to another",
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tenantry_store::MadeObject;

    use super::*;

    const LIVING: &str = "h_0192f00d0192f00d0192f00d0192f001";
    const BUSY: &str = "h_0192f00d0192f00d0192f00d0192f002";
    const BYGONE: &str = "h_0192f00d0192f00d0192f00d0192f003";
    const STRANGE: &str = "h_0192f00d0192f00d0192f00d0192f004";

    fn object(kind: OrphanKind, name: &str) -> ObservedObject {
        ObservedObject { kind, name: name.to_owned(), parent: String::new(), is_half_dropped: false }
    }

    fn catalog() -> CatalogInventory {
        let made = |name: &str, is_busy| MadeObject {
            kind: OrphanKind::Database,
            name: name.to_owned(),
            parent: String::new(),
            is_busy,
        };
        CatalogInventory {
            standings: HashMap::from([
                (LIVING.to_owned(), Standing::Living),
                (BUSY.to_owned(), Standing::Busy),
                (BYGONE.to_owned(), Standing::Bygone),
            ]),
            made: vec![made(LIVING, false), made(BUSY, true)],
            shared: Vec::new(),
        }
    }

    fn verdicts(seen: &[ObservedObject]) -> Vec<(String, OrphanVerdict)> {
        let mut found: Vec<_> =
            compare(&catalog(), seen).into_iter().map(|finding| (finding.name, finding.verdict)).collect();
        found.sort_by(|left, right| left.0.cmp(&right.0));
        found
    }

    #[test]
    fn what_agrees_is_no_finding() {
        assert_eq!(verdicts(&[object(OrphanKind::Database, LIVING)]), []);
        let more = [object(OrphanKind::Database, LIVING), object(OrphanKind::Database, BUSY)];
        assert_eq!(verdicts(&more), []);
        let others = [object(OrphanKind::Database, LIVING), object(OrphanKind::Role, "postgres")];
        assert_eq!(verdicts(&others), []);
    }

    #[test]
    fn only_what_is_known_as_gone_is_ours() {
        let role = format!("{BYGONE}_owner");
        let seen = [
            object(OrphanKind::Database, LIVING),
            object(OrphanKind::Role, &role),
            object(OrphanKind::Role, &format!("{STRANGE}_a")),
        ];
        let expected = [(role.clone(), OrphanVerdict::Ours), (format!("{STRANGE}_a"), OrphanVerdict::Foreign)];
        assert_eq!(verdicts(&seen), expected);
    }

    #[test]
    fn what_was_made_and_is_not_there_is_missing_unless_somebody_works_on_it() {
        assert_eq!(verdicts(&[]), [(LIVING.to_owned(), OrphanVerdict::Missing)]);
        let half = ObservedObject { is_half_dropped: true, ..object(OrphanKind::Database, LIVING) };
        assert_eq!(verdicts(&[half]), [(LIVING.to_owned(), OrphanVerdict::Missing)]);
    }

    #[test]
    fn a_session_is_ours_when_its_home_is_gone() {
        let session = |stem: &str| {
            let id: tenantry_domain::HomeId = stem[2..].parse().expect("an id");
            object(OrphanKind::Backend, &format!("tenantry/{id}"))
        };
        let seen = [object(OrphanKind::Database, LIVING), session(LIVING), session(STRANGE), session(BYGONE)];
        assert_eq!(verdicts(&seen).iter().map(|(_, verdict)| *verdict).collect::<Vec<_>>(), [OrphanVerdict::Ours]);
    }
}
