//! What of a borrower's doings the next one would see.
//!
//! Two things tell: the tag with which a command completes, and the text of a statement, where a function hides behind a
//! plain tag. Both err towards "leaves traces": that costs a reset off the caller's path, nothing else. What a function
//! of the tenant's own does is looked at elsewhere, see [`crate::pool::home_check`].

/// Tags whose commands leave nothing behind once their transaction has ended.
const PLAIN: &[&str] = &[
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "COPY",
    "BEGIN",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "FETCH",
    "MOVE",
    "SHOW",
    "EXPLAIN",
    "LOCK TABLE",
    "SET CONSTRAINTS",
    "NOTIFY",
];

/// Whether a command with this tag (`INSERT 0 1`) leaves traces.
pub(super) fn tag_leaves_traces(tag: &[u8]) -> bool {
    let words = tag.split(u8::is_ascii_digit).next().unwrap_or_default().trim_ascii_end();
    !PLAIN.iter().any(|plain| plain.as_bytes() == words)
}

/// Whether executing this text may leave traces that no tag tells of: `SELECT set_config(…)`, advisory locks,
/// `CREATE TEMP TABLE … AS` (whose tag is `SELECT`), functions that execute text.
///
/// Every word counts, wherever it stands, in quotes and comments too; an identifier written with Unicode escapes
/// (`U&"…"`) could be any.
pub(super) fn text_leaves_traces(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(start) = rest.iter().position(|byte| is_of_word(*byte)) {
        rest = &rest[start..];
        let end = rest.iter().position(|byte| !is_of_word(*byte)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word_leaves_traces(word, after.first()) {
            return true;
        }
        rest = after;
    }
    false
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn word_leaves_traces(word: &[u8], next: Option<&u8>) -> bool {
    let begins =
        |prefix: &str| word.len() >= prefix.len() && word[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes());
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    match word.first().map(u8::to_ascii_lowercase) {
        Some(b's') => begins("set_") || is("setseed"),
        Some(b'p') => {
            begins("pg_temp")
                || ((begins("pg_advisory") || begins("pg_try_advisory"))
                    && !begins("pg_advisory_xact")
                    && !begins("pg_try_advisory_xact"))
        }
        Some(b't') => is("temp") || is("temporary") || is("ts_stat") || is("ts_rewrite"),
        Some(b'q') => begins("query_to_xml"),
        Some(b'l') => is("listen"),
        Some(b'd') => begins("dblink"),
        Some(b'u') => is("unlisten") || (is("u") && next == Some(&b'&')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_commands_leave_no_traces_and_all_others_do() {
        for tag in ["SELECT 1", "INSERT 0 1", "UPDATE 7", "COMMIT", "START TRANSACTION", "COPY 12", "FETCH 3"] {
            assert!(!tag_leaves_traces(tag.as_bytes()), "{tag}");
        }
        for tag in
            ["SET", "RESET", "LISTEN", "DO", "CALL", "PREPARE", "DECLARE CURSOR", "DISCARD ALL", "CREATE TABLE", ""]
        {
            assert!(tag_leaves_traces(tag.as_bytes()), "{tag}");
        }
    }

    #[test]
    fn texts_that_hide_something_behind_a_plain_tag_are_found() {
        for text in [
            "SELECT set_config('a.b', 'c', false)",
            "select pg_catalog.Set_Config($1, $2, $3)",
            "SELECT \"set_config\"('a.b', 'c', false)",
            "select pg_advisory_lock(1)",
            "select pg_try_advisory_lock_shared(1)",
            "CREATE TEMP TABLE t AS SELECT 1",
            "select * into temporary t from x",
            "select * into pg_temp.t from x",
            "select query_to_xml($1, true, true, '')",
            "select U&\"\\0073et_config\"('a', 'b', false)",
            "listen x",
        ] {
            assert!(text_leaves_traces(text.as_bytes()), "{text}");
        }
        for text in [
            "SELECT * FROM flights WHERE id = $1",
            "UPDATE flights SET status = 'landed' WHERE id = 7",
            "select pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)",
            "select settings, preset_config, attempt, u from x",
            "",
        ] {
            assert!(!text_leaves_traces(text.as_bytes()), "{text}");
        }
    }
}
