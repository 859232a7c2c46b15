//! Cuts a file into statements, and finds lines for byte offsets and for PostgreSQL's error positions.

use crate::lexer::{Lexer, Token, TokenKind};

/// A place in a text; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character within the line.
    pub column: u32,
}

impl Position {
    /// The place reached by walking over a text from here.
    fn after(self, walked: &str) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        match walked.rsplit_once('\n') {
            None => Self { column: self.column + count(walked.chars().count()), ..self },
            Some((before, last_line)) => Self {
                line: self.line + 1 + count(before.matches('\n').count()),
                column: 1 + count(last_line.chars().count()),
            },
        }
    }
}

/// One statement of a file, without its semicolon and without the comments and white space around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The statement's text, a part of the file's.
    pub text: &'a str,
    /// Where in the file it starts.
    pub position: Position,
}

impl Statement<'_> {
    /// The line of the file on which it starts.
    pub fn line(&self) -> u32 {
        self.position.line
    }

    /// Where in the file an error lies that PostgreSQL reported at `position` (in characters, from 1) of this
    /// statement sent alone.
    pub fn file_position(&self, position: u32) -> Position {
        let (line, column) = line_of_position(self.text, position);
        Position {
            line: self.position.line + line - 1,
            column: if line == 1 { self.position.column + column - 1 } else { column },
        }
    }
}

/// The statements of a file, in order. A file that is sent statement by statement (`-- no-transaction`) is cut
/// here; semicolons in strings, comments, parentheses and `BEGIN ATOMIC` bodies do not cut.
pub fn statements(sql: &str) -> Vec<Statement<'_>> {
    let mut splitter = Splitter::new(sql);
    let mut statements = Vec::new();
    let mut walked = 0;
    let mut position = Position { line: 1, column: 1 };
    while let Some(tokens) = splitter.next_statement() {
        if let (Some(first), Some(last)) = (tokens.first(), tokens.last()) {
            // From one statement to the next, so that a file of one long line costs one pass.
            position = position.after(&sql[walked..first.start]);
            walked = first.start;
            statements.push(Statement { text: &sql[first.start..last.end()], position });
        }
    }
    statements
}

/// The line and column (from 1) of a position as PostgreSQL reports it: in characters, from 1, in the text that was
/// sent. A position past the end gives the end.
pub fn line_of_position(sql: &str, position: u32) -> (u32, u32) {
    let skipped = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
    let byte = sql.char_indices().nth(skipped).map_or(sql.len(), |(byte, _)| byte);
    let found = Position { line: 1, column: 1 }.after(&sql[..byte]);
    (found.line, found.column)
}

/// Where each line of a text starts, so that many positions cost one pass.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    sql: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        let after_breaks = sql.match_indices('\n').map(|(at, _)| at + 1);
        Self { sql, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    pub(crate) fn position(&self, byte: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= byte).max(1);
        let start = Position { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
        start.after(&self.sql[self.starts[line - 1]..byte])
    }
}

/// Hands out the significant tokens of one statement after the other.
pub(crate) struct Splitter<'a> {
    sql: &'a str,
    lexer: Lexer<'a>,
}

impl<'a> Splitter<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, lexer: Lexer::new(sql) }
    }

    /// The next statement's tokens, its semicolon left out; empty for a stray semicolon, `None` at the end.
    pub(crate) fn next_statement(&mut self) -> Option<Vec<Token<'a>>> {
        let mut tokens: Vec<Token<'a>> = Vec::new();
        let mut parentheses = 0_usize;
        let mut blocks = 0_usize;
        for token in self.lexer.by_ref() {
            if !token.is_significant() {
                continue;
            }
            match token.text {
                "(" => parentheses += 1,
                ")" => parentheses = parentheses.saturating_sub(1),
                _ if token.kind == TokenKind::Semicolon && parentheses == 0 && blocks == 0 => return Some(tokens),
                _ => {}
            }
            // Within a body in standard SQL, CASE and BEGIN open what END closes.
            let opens_body = token.is_word("ATOMIC") && tokens.last().is_some_and(|last| last.is_word("BEGIN"));
            if opens_body || (blocks > 0 && token.is_word("CASE")) {
                blocks += 1;
            } else if token.is_word("END") {
                blocks = blocks.saturating_sub(1);
            }
            tokens.push(token);
        }
        if tokens.is_empty() { None } else { Some(tokens) }
    }

    /// Skips the lines of data that psql would send after `COPY … FROM stdin;`, up to and with the line `\.`; without
    /// such a line nothing is skipped.
    pub(crate) fn skip_copy_data(&mut self, from: usize) {
        let mut at = from;
        for line in self.sql[from..].split_inclusive('\n') {
            at += line.len();
            if line.trim_end() == r"\." {
                self.lexer.jump_to(at);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, line_of_position, statements};
    use proptest::prelude::*;

    fn texts(sql: &str) -> Vec<&str> {
        statements(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn statements_are_cut_at_their_semicolons_only() {
        assert_eq!(
            texts("-- head\nSELECT ';' ; /* ; */ DO $$ BEGIN a; END $$;;\nSELECT 2 -- ;\n"),
            ["SELECT ';'", "DO $$ BEGIN a; END $$", "SELECT 2"]
        );
    }

    #[test]
    fn a_body_in_standard_sql_stays_whole() {
        let body = "CREATE FUNCTION f(a int) RETURNS int BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 2 END; SELECT 3; END";
        assert_eq!(texts(&format!("{body}; SELECT 1;")), [body, "SELECT 1"]);
    }

    #[test]
    fn a_rule_with_several_actions_stays_whole() {
        let rule = "CREATE RULE r AS ON INSERT TO a DO ALSO (INSERT INTO b VALUES (1); NOTIFY c)";
        assert_eq!(texts(&format!("{rule};")), [rule]);
    }

    #[test]
    fn statements_know_their_lines() {
        let sql = "\r\n-- é\r\nSELECT 1;\r\n  SELECT\n 2;";
        let found: Vec<u32> = statements(sql).iter().map(super::Statement::line).collect();
        assert_eq!(found, [3, 4]);
        let second = statements(sql)[1];
        assert_eq!(second.file_position(1), Position { line: 4, column: 3 });
        assert_eq!(second.file_position(9), Position { line: 5, column: 2 });
    }

    #[test]
    fn positions_count_characters_not_bytes() {
        assert_eq!(line_of_position("SELECT 'é'\n, nope", 14), (2, 3));
        assert_eq!(line_of_position("a", 1), (1, 1));
        assert_eq!(line_of_position("ab\n", 99), (2, 1));
        assert_eq!(line_of_position("", 0), (1, 1));
    }

    #[test]
    fn a_long_line_of_many_statements_is_cut_in_one_pass() {
        let sql = "a;".repeat(500_000);
        let found = statements(&sql);
        assert_eq!(found.len(), 500_000);
        assert_eq!(found[499_999].position, Position { line: 1, column: 999_999 });
    }

    proptest! {
        #[test]
        fn any_text_can_be_cut_and_its_statements_lie_where_they_say(sql in r#"[a-c;'"$ \n()\-é]{0,80}"#) {
            for statement in statements(&sql) {
                let line = sql.split('\n').nth(statement.line() as usize - 1).unwrap_or_default();
                let rest: String = line.chars().skip(statement.position.column as usize - 1).collect();
                let first_line = statement.text.split('\n').next().unwrap_or_default();
                prop_assert!(rest.starts_with(first_line));
            }
        }
    }
}
