//! The rules that keep a file from undoing what runs around it: its transaction, its role, its search path.
//!
//! They catch mistakes and say what to do. They are not the guard against malice (a function can hide anything from a
//! reader): that guard is the role under which migrations run, and the checks after each file.

pub(crate) mod body;
pub(crate) mod rules;

use crate::file_name::FileName;
use crate::finding::Finding;
use crate::header::{self, Header};
use crate::lexer::{Lexer, Token, TokenKind};
use crate::rule::Rule;
use crate::statement::{Lines, Splitter};

/// How many findings one file may have; past it the file is read no further. Bounds work and answer for hostile files.
const FINDINGS_PER_FILE_MAX: usize = 100;

/// A file's text, its headers read and its statements checked.
pub(crate) struct Checked {
    pub(crate) sql: String,
    pub(crate) header: Header,
}

/// Checks a file's content; `None` when there is no text to speak of.
pub(crate) fn check_content(file: &str, content: &[u8], findings: &mut Vec<Finding>) -> Option<Checked> {
    let sql = match std::str::from_utf8(content) {
        Ok(sql) => sql,
        Err(error) => {
            let good = String::from_utf8_lossy(&content[..error.valid_up_to()]);
            let position = Lines::new(&good).position(good.len());
            let message = "this is no UTF-8: save the file as UTF-8";
            findings.push(Finding::new(file, position, Rule::Encoding, message));
            return None;
        }
    };
    let lines = Lines::new(sql);
    if sql.starts_with('\u{feff}') {
        let message = "the file starts with a byte order mark, which PostgreSQL refuses: save it without";
        findings.push(Finding::whole_file(file, Rule::Encoding, message));
        return None;
    }
    if let Some(at) = sql.find('\0') {
        let message = "PostgreSQL stores no NUL character: remove it";
        findings.push(Finding::new(file, lines.position(at), Rule::Encoding, message));
        return None;
    }
    let header = header::read(file, sql, &lines, findings);
    let mut file_lint = FileLint { file, sql, lines, transactional: header.transactional, findings };
    file_lint.check();
    Some(Checked { sql: sql.to_owned(), header })
}

/// The name of a file taken apart, or a finding.
pub(crate) fn check_name(file: &str, findings: &mut Vec<Finding>) -> Option<FileName> {
    FileName::parse(file).map_err(|message| findings.push(Finding::whole_file(file, Rule::FileName, message))).ok()
}

struct FileLint<'a, 'f> {
    file: &'a str,
    sql: &'a str,
    lines: Lines<'a>,
    transactional: bool,
    findings: &'f mut Vec<Finding>,
}

impl FileLint<'_, '_> {
    fn check(&mut self) {
        let mut splitter = Splitter::new(self.sql);
        let mut is_empty = true;
        let findings_before = self.findings.len();
        while let Some(tokens) = splitter.next_statement() {
            is_empty &= tokens.is_empty();
            let mut violations = self.check_statement(&tokens);
            violations.sort_by_key(|violation| violation.at);
            violations.truncate(FINDINGS_PER_FILE_MAX);
            for violation in violations {
                let position = self.lines.position(violation.at);
                self.findings.push(Finding::new(self.file, position, violation.rule, violation.message));
            }
            if self.findings.len() - findings_before >= FINDINGS_PER_FILE_MAX {
                return;
            }
            if let Some(last) = tokens.last()
                && rules::copies_from_client(&tokens)
            {
                splitter.skip_copy_data(last.end());
            }
        }
        if is_empty {
            let message = "there is no statement in the file: write one, or remove the file";
            self.findings.push(Finding::whole_file(self.file, Rule::EmptyFile, message));
        }
    }

    fn check_statement(&self, tokens: &[Token<'_>]) -> Vec<Violation> {
        let mut violations = rules::check(tokens);
        if self.transactional {
            violations.extend(rules::check_needs_no_transaction(tokens));
        }
        violations.extend(body::check(tokens));
        for token in tokens {
            match token.kind {
                TokenKind::Unterminated => violations.push(Violation::at(
                    token,
                    Rule::Unterminated,
                    "what starts here never ends: close the string, name or comment",
                )),
                TokenKind::Symbol if token.text == "\\" => violations.push(Violation::at(
                    token,
                    Rule::PsqlCommand,
                    "psql's backslash commands are unknown to the server: write SQL, or inline the included file",
                )),
                _ => {}
            }
        }
        violations
    }
}

/// A broken rule at a byte offset; becomes a finding once file and line are known.
pub(crate) struct Violation {
    at: usize,
    rule: Rule,
    message: String,
}

impl Violation {
    fn at(token: &Token<'_>, rule: Rule, message: impl Into<String>) -> Self {
        Self { at: token.start, rule, message: message.into() }
    }
}

/// The significant tokens of a text.
fn significant_tokens(sql: &str) -> Vec<Token<'_>> {
    Lexer::new(sql).filter(Token::is_significant).collect()
}

#[cfg(test)]
mod tests {
    use super::check_content;
    use crate::finding::Finding;
    use crate::rule::Rule;

    fn findings(content: &[u8]) -> Vec<Finding> {
        let mut findings = Vec::new();
        check_content("V1__a.sql", content, &mut findings);
        findings
    }

    fn rules(sql: &str) -> Vec<Rule> {
        findings(sql.as_bytes()).into_iter().map(|finding| finding.rule).collect()
    }

    fn place(finding: &Finding) -> (u32, u32) {
        (finding.line, finding.column)
    }

    #[test]
    fn every_transaction_command_is_refused() {
        for command in [
            "BEGIN",
            "begin work",
            "START TRANSACTION READ ONLY",
            "COMMIT",
            "COMMIT AND CHAIN",
            "COMMIT PREPARED 'a'",
            "END",
            "ROLLBACK TO a",
            "ABORT",
            "SAVEPOINT a",
            "RELEASE a",
            "PREPARE TRANSACTION 'a'",
        ] {
            assert_eq!(rules(&format!("SELECT 1;\n{command};")), [Rule::TransactionControl], "{command}");
        }
    }

    #[test]
    fn all_findings_are_reported_with_their_places() {
        let found = findings(b"SELECT 1;\n  COMMIT;\nSELECT 'COMMIT;'; /* COMMIT; */ ROLLBACK;\nSET ROLE a;");
        let places: Vec<_> = found.iter().map(place).collect();
        assert_eq!(places, [(2, 3), (3, 33), (4, 1)]);
        assert_eq!(
            found[0].to_string(),
            "V1__a.sql:2:3: error: COMMIT ends or splits the migration's own transaction: remove it, \
             each file already runs in one [transaction-control]"
        );
    }

    #[test]
    fn blocks_of_plpgsql_are_no_transaction_commands() {
        let sql = "DO $$ DECLARE a int; BEGIN BEGIN a := 1; EXCEPTION WHEN others THEN NULL; END; END $$;
            CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
            CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END;
            PREPARE q AS SELECT 1; SELECT 'a' AS \"commit\";";
        assert_eq!(rules(sql), []);
    }

    #[test]
    fn transaction_control_in_a_do_body_is_refused_at_its_own_line() {
        let found = findings(b"DO $body$\nBEGIN\n  IF true THEN COMMIT; END IF;\n  ROLLBACK AND CHAIN;\nEND\n$body$;");
        let places: Vec<_> = found.iter().map(|finding| (place(finding), finding.rule)).collect();
        assert_eq!(places, [((3, 16), Rule::TransactionControl), ((4, 3), Rule::TransactionControl)]);
        assert_eq!(rules("DO LANGUAGE plpgsql 'BEGIN PERFORM ''a''; COMMIT; END';"), [Rule::TransactionControl]);
    }

    #[test]
    fn switching_the_role_is_refused_wherever_it_can_be_read() {
        for sql in [
            "SET ROLE postgres;",
            "SET LOCAL ROLE postgres;",
            "SET SESSION ROLE postgres;",
            "RESET ROLE;",
            "SET SESSION AUTHORIZATION DEFAULT;",
            "RESET SESSION AUTHORIZATION;",
            "DISCARD ALL;",
            "SELECT set_config('role', 'postgres', false);",
            "DO $$ BEGIN RESET ROLE; END $$;",
            "DO $$ BEGIN EXECUTE 'reset role'; END $$;",
            "DO $$ BEGIN EXECUTE format('SET ROLE %I', 'a'); END $$;",
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN <<a>> SET ROLE b; END $$;",
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'SELECT 1; SET ROLE b';",
        ] {
            assert_eq!(rules(sql), [Rule::RoleSwitch], "{sql}");
        }
    }

    #[test]
    fn settings_that_the_migrator_relies_on_may_not_change() {
        for sql in [
            "SET search_path = public;",
            "SET LOCAL search_path TO a;",
            "SET \"search_path\" TO a;",
            "SET SCHEMA 'a';",
            "RESET ALL;",
            "RESET search_path;",
            "SET NAMES 'latin1';",
            "SET standard_conforming_strings = off;",
            "SELECT pg_catalog.set_config('search_path', 'a', true);",
            "DO $$ BEGIN SET LOCAL search_path TO a; END $$;",
        ] {
            assert_eq!(rules(sql), [Rule::SessionSetting], "{sql}");
        }
        assert_eq!(
            rules(
                "SET LOCAL lock_timeout = '2s'; ALTER FUNCTION f() SET search_path FROM CURRENT;
                 CREATE FUNCTION g() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1';"
            ),
            []
        );
    }

    #[test]
    fn statements_on_the_cluster_are_refused() {
        for sql in [
            "ALTER SYSTEM SET a = 1;",
            "CREATE DATABASE a;",
            "ALTER DATABASE a SET b = 1;",
            "DROP ROLE a;",
            "CREATE USER a;",
            "DROP GROUP a;",
            "CREATE TABLESPACE a LOCATION '/a';",
            "DROP OWNED BY a;",
            "REASSIGN OWNED BY a TO b;",
            "DO $$ BEGIN CREATE ROLE a; END $$;",
        ] {
            assert_eq!(rules(sql), [Rule::ClusterStatement], "{sql}");
        }
        assert_eq!(rules("CREATE USER MAPPING FOR a SERVER b;"), []);
    }

    #[test]
    fn psql_scripts_are_told_apart_from_sql() {
        let found = findings(
            b"\\set ON_ERROR_STOP on\nCREATE TABLE a (b text);\nCOPY a FROM stdin;\nit's \\N data\n\\.\nCOMMIT;",
        );
        let broken: Vec<_> = found.iter().map(|finding| (finding.line, finding.rule)).collect();
        assert_eq!(broken, [(1, Rule::PsqlCommand), (3, Rule::Copy), (6, Rule::TransactionControl)]);
    }

    #[test]
    fn copy_reads_no_program_file_or_client() {
        for sql in [
            "COPY a TO STDOUT;",
            "COPY a (b, c) FROM STDIN WITH (FORMAT csv);",
            "COPY a FROM PROGRAM 'curl';",
            "COPY (SELECT 1 FROM b) TO '/tmp/a';",
        ] {
            assert_eq!(rules(sql), [Rule::Copy], "{sql}");
        }
    }

    #[test]
    fn what_cannot_run_in_a_transaction_needs_its_header() {
        for sql in [
            "CREATE INDEX CONCURRENTLY a ON b (c);",
            "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a ON b (c);",
            "DROP INDEX CONCURRENTLY a;",
            "REINDEX INDEX CONCURRENTLY a;",
            "REINDEX (CONCURRENTLY, VERBOSE) TABLE a;",
            "VACUUM ANALYZE a;",
            "ALTER TABLE a DETACH PARTITION b CONCURRENTLY;",
        ] {
            assert_eq!(rules(sql), [Rule::NeedsNoTransaction], "{sql}");
            assert_eq!(rules(&format!("-- no-transaction\n{sql}")), [], "{sql}");
        }
        assert_eq!(
            rules(
                "ALTER TYPE a ADD VALUE 'b'; REFRESH MATERIALIZED VIEW CONCURRENTLY c; CREATE INDEX concurrently_made ON d (e);"
            ),
            []
        );
    }

    #[test]
    fn a_file_must_hold_text_and_a_statement() {
        assert_eq!(rules("-- later\n/* ; */ ;;\n"), [Rule::EmptyFile]);
        assert_eq!(rules(""), [Rule::EmptyFile]);
        assert_eq!(rules("SELECT 'a"), [Rule::Unterminated]);
        assert_eq!(rules("\u{feff}SELECT 1"), [Rule::Encoding]);
        assert_eq!(place(&findings(b"SELECT\n 'a\0';")[0]), (2, 4));
        assert_eq!(place(&findings(b"SELECT\n 'a\xff';")[0]), (2, 4));
    }

    #[test]
    fn a_hostile_file_gives_a_bounded_answer() {
        let commits = "COMMIT;".repeat(100_000);
        let switches = "set_config('role',".repeat(100_000);
        for sql in [
            commits.clone(),
            format!("DO $$ {commits} $$"),
            format!("DO $$ {switches} $$"),
            format!("SELECT {switches}"),
            "\\".repeat(500_000),
        ] {
            assert_eq!(rules(&sql).len(), super::FINDINGS_PER_FILE_MAX);
        }
        assert_eq!(rules(&format!("DO $$ {} $$", "THEN ".repeat(200_000))), []);
    }
}
