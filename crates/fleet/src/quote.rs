//! Quoting, in one place: every name and value that is put into a statement's text goes through here.

/// A name as an identifier.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A value as a string literal, right whatever `standard_conforming_strings` says.
pub(crate) fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Names as a list of identifiers.
pub(crate) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// Values as a list of literals.
pub(crate) fn literals<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    values.into_iter().map(literal).collect::<Vec<_>>().join(", ")
}

/// An anonymous block. The body becomes a literal, so nothing in it can end the block early.
pub(crate) fn do_block(body: &str) -> String {
    format!("DO {};\n", literal(&format!("BEGIN\n{body}\nEND")))
}

/// Runs every statement that a query returns. What the admin may not do is left, and found again.
pub(crate) fn block_of(query: &str) -> String {
    let body = format!(
        "DECLARE statement text;
BEGIN
FOR statement IN {query} LOOP
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END LOOP;
END"
    );
    format!("DO {};\n", literal(&body))
}

#[cfg(test)]
mod tests {
    use super::{do_block, ident, literal};

    #[test]
    fn nothing_ends_a_quotation_but_its_end() {
        assert_eq!(ident(r#"a"; DROP"#), r#""a""; DROP""#);
        assert_eq!(literal("o'clock"), "'o''clock'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
        assert_eq!(do_block("PERFORM 'a';"), "DO 'BEGIN\nPERFORM ''a'';\nEND';\n");
    }
}
