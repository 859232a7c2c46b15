//! Tenants below tenants: who may be put below whom. Pure; the catalog holds the same rules against changes that race.

use crate::id::TenantId;

/// How deep tenants may be nested: a tenant without a parent is at depth 1.
pub const DEPTH_MAX: usize = 8;

/// Why a tenant cannot be put below another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HierarchyError {
    /// The other one is the tenant itself or below it.
    #[error("it is the tenant itself or below it; choose another")]
    Circle,
    /// There would be too many levels.
    #[error("tenants are nested at most {max} deep", max = DEPTH_MAX)]
    TooDeep,
}

/// Whether `tenant` (absent: one that is about to be made) may be put below the first of `line`: that one and all above
/// it, the nearest first. `height` counts the levels that hang on the tenant, itself included.
pub fn check_line(tenant: Option<TenantId>, height: usize, line: &[TenantId]) -> Result<(), HierarchyError> {
    if tenant.is_some_and(|tenant| line.contains(&tenant)) {
        return Err(HierarchyError::Circle);
    }
    if line.len() + height > DEPTH_MAX { Err(HierarchyError::TooDeep) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    /// The parent of each tenant, by number.
    type Forest = Vec<Option<usize>>;

    fn id(number: usize) -> TenantId {
        TenantId::new(Uuid::from_u128(u128::try_from(number).expect("a number")))
    }

    /// A tenant and all above it; `None` where that never ends.
    fn line(forest: &Forest, number: usize) -> Option<Vec<usize>> {
        let mut line = vec![number];
        while let Some(above) = line.last().and_then(|last| forest[*last]) {
            if line.contains(&above) {
                return None;
            }
            line.push(above);
        }
        Some(line)
    }

    fn height(forest: &Forest, number: usize) -> usize {
        let lines = (0..forest.len()).filter_map(|other| line(forest, other));
        lines.filter_map(|line| line.iter().position(|it| *it == number)).max().map_or(1, |levels| levels + 1)
    }

    /// What a forest is that nobody may make.
    fn fault(forest: &Forest) -> Option<HierarchyError> {
        let lines: Vec<_> = (0..forest.len()).map(|number| line(forest, number)).collect();
        if lines.iter().any(Option::is_none) {
            return Some(HierarchyError::Circle);
        }
        lines.iter().flatten().any(|line| line.len() > DEPTH_MAX).then_some(HierarchyError::TooDeep)
    }

    proptest! {
        #[test]
        fn what_is_allowed_leaves_a_forest_and_what_is_refused_would_not(
            moves in proptest::collection::vec((0..14_usize, proptest::option::weighted(0.9, 0..14_usize)), 1..60),
        ) {
            let mut forest: Forest = vec![None; 14];
            for (tenant, parent) in moves {
                let mut after = forest.clone();
                after[tenant] = parent;
                let verdict = match parent {
                    None => Ok(()),
                    Some(parent) => {
                        let line: Vec<_> = line(&forest, parent).expect("a forest").into_iter().map(id).collect();
                        check_line(Some(id(tenant)), height(&forest, tenant), &line)
                    }
                };
                prop_assert_eq!(verdict.err(), fault(&after), "{:?} below {:?} in {:?}", tenant, parent, forest);
                if verdict.is_ok() {
                    forest = after;
                }
            }
        }

        #[test]
        fn a_new_tenant_fits_wherever_there_is_a_level_left(above in 1..12_usize) {
            let line: Vec<_> = (0..above).map(id).collect();
            prop_assert_eq!(check_line(None, 1, &line).is_ok(), above < DEPTH_MAX);
        }
    }
}
