//! Which tenants stand for all.

/// So many of different sizes, from the smallest to the largest: both ends, and the rest evenly between them by rank. Of
/// one, the largest, because that tells most. What could not be measured is taken only where there are not enough others.
pub(super) fn of_different_sizes<T>(tenants: Vec<(T, Option<u64>)>, wanted: usize) -> Vec<(T, Option<u64>)> {
    let (mut measured, unknown): (Vec<_>, Vec<_>) = tenants.into_iter().partition(|(_, size)| size.is_some());
    measured.sort_by_key(|(_, size)| *size);
    let last = measured.len().saturating_sub(1);
    let ranks: Vec<usize> = match wanted.min(measured.len()) {
        0 => Vec::new(),
        1 => vec![last],
        several => (0..several).map(|number| number * last / (several - 1)).collect(),
    };
    let chosen = measured.into_iter().enumerate().filter(|(rank, _)| ranks.contains(rank)).map(|(_, tenant)| tenant);
    let missing = wanted - ranks.len();
    chosen.chain(unknown.into_iter().take(missing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(sizes: &[Option<u64>], wanted: usize) -> Vec<Option<u64>> {
        let tenants = sizes.iter().map(|size| ((), *size)).collect();
        of_different_sizes(tenants, wanted).into_iter().map(|((), size)| size).collect()
    }

    #[test]
    fn both_ends_are_there_and_the_rest_between() {
        let sizes: Vec<Option<u64>> = [50, 10, 90, 30, 70, 20, 40, 60, 80].map(Some).to_vec();
        assert_eq!(chosen(&sizes, 1), [Some(90)]);
        assert_eq!(chosen(&sizes, 2), [Some(10), Some(90)]);
        assert_eq!(chosen(&sizes, 3), [Some(10), Some(50), Some(90)]);
        assert_eq!(chosen(&sizes, 20).len(), 9);
        assert_eq!(chosen(&[Some(5); 4], 3).len(), 3, "equal sizes are no reason for fewer");
        assert_eq!(chosen(&[], 3), []);
    }

    #[test]
    fn what_was_not_measured_fills_up() {
        assert_eq!(chosen(&[None, Some(1), None], 2), [Some(1), None]);
        assert_eq!(chosen(&[None, Some(1), Some(2)], 2), [Some(1), Some(2)]);
        assert_eq!(chosen(&[None, None], 5), [None, None]);
    }
}
