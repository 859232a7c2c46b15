//! Two lists of objects compared: a pure comparison.

use std::cmp::Ordering;

use super::SchemaObject;

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ObjectDifference {
    /// What it is, as [`SchemaObject::kind`].
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The definition that it should have; absent for an object that should not be there.
    pub expected: Option<String>,
    /// The definition that it has; absent for an object that is missing.
    pub found: Option<String>,
}

/// What differs, in the order of the lists; both are ordered by kind and name.
pub fn schema_differences(expected: &[SchemaObject], found: &[SchemaObject]) -> Vec<ObjectDifference> {
    let mut differences = Vec::new();
    let (mut expected, mut found) = (expected.iter().peekable(), found.iter().peekable());
    loop {
        let order = match (expected.peek(), found.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(wanted), Some(there)) => (&wanted.kind, &wanted.name).cmp(&(&there.kind, &there.name)),
        };
        let wanted = if order.is_le() { expected.next() } else { None };
        let there = if order.is_ge() { found.next() } else { None };
        let is_same = wanted.map(|it| &it.digest) == there.map(|it| &it.digest);
        if let Some(object) = wanted.or(there).filter(|_| !is_same) {
            differences.push(ObjectDifference {
                kind: object.kind.clone(),
                name: object.name.clone(),
                expected: wanted.map(|it| it.definition.clone()),
                found: there.map(|it| it.definition.clone()),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, name: &str, definition: &str) -> SchemaObject {
        let [kind, name, digest, definition] = [kind, name, definition, definition].map(str::to_owned);
        SchemaObject { kind, name, digest, definition }
    }

    #[test]
    fn missing_unexpected_and_changed_objects_are_told_and_equal_ones_are_not() {
        let expected = [object("column", "a.b", "int"), object("index", "i", "one"), object("table", "a", "(b)")];
        let found = [object("column", "a.b", "text"), object("index", "h", "new"), object("table", "a", "(b)")];
        let told: Vec<_> = schema_differences(&expected, &found)
            .into_iter()
            .map(|it| (it.name, it.expected.unwrap_or_default(), it.found.unwrap_or_default()))
            .collect();
        let wanted = [("a.b", "int", "text"), ("h", "", "new"), ("i", "one", "")];
        assert_eq!(told, wanted.map(|(name, expected, found)| (name.into(), expected.into(), found.into())));
        assert_eq!(schema_differences(&expected, &expected), []);
        assert_eq!(schema_differences(&[], &[]), []);
    }

    #[test]
    fn definitions_that_differ_behind_what_is_told_differ() {
        let cut =
            |digest: &str| SchemaObject { digest: digest.to_owned(), ..object("function", "f()", "the beginning") };
        assert_eq!(schema_differences(&[cut("1")], &[cut("2")]).len(), 1);
    }
}
