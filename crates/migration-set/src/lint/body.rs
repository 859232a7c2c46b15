//! The rules inside bodies: of `DO`, which runs with the file, and of functions and procedures, which may.
//!
//! A procedure may COMMIT: the product may call it one day outside any transaction, and inside the migration's own
//! PostgreSQL refuses. A `DO` body may not.

use super::{FINDINGS_PER_FILE_MAX, Violation, rules, significant_tokens};
use crate::lexer::{Token, TokenKind};
use crate::rule::Rule;
use crate::statement::Splitter;
use std::borrow::Cow;

/// How deep `EXECUTE` in a `DO` in an `EXECUTE` is followed.
const DEPTH_MAX: usize = 4;
/// How many tokens of a statement in a block are looked at; keeps the work linear for hostile bodies.
const TOKENS_MAX: usize = 256;

/// The violations in the bodies that a statement holds, at their places in the file.
pub(super) fn check(tokens: &[Token<'_>]) -> Vec<Violation> {
    check_at_depth(tokens, 0)
}

fn check_at_depth(tokens: &[Token<'_>], depth: usize) -> Vec<Violation> {
    let Some(body) = Body::of(tokens).filter(|_| depth < DEPTH_MAX) else {
        return Vec::new();
    };
    let read = BodyText::of(body.literal);
    let violations = match body.language {
        Language::Plpgsql => check_block(&read.text, body.runs_now, depth),
        Language::Sql => check_sql(&read.text),
    };
    violations.into_iter().map(|violation| Violation { at: read.place(violation.at), ..violation }).collect()
}

/// The text of a body that a statement holds, in a language that is read here.
pub(crate) struct BodyText<'a> {
    pub(crate) text: Cow<'a, str>,
    start: usize,
    exact_offset: Option<usize>,
}

impl<'a> BodyText<'a> {
    fn of(literal: &Token<'a>) -> Self {
        let (text, exact_offset) = literal_content(literal);
        Self { text, start: literal.start, exact_offset }
    }

    /// Where in the file a byte of the text lies; a body in plain quotes had its quotes
    /// undoubled: its own start is the best place to name.
    pub(crate) fn place(&self, at: usize) -> usize {
        self.exact_offset.map_or(self.start, |offset| offset + at)
    }
}

/// The body of a `DO`, or of a function or procedure in PL/pgSQL or SQL that is given as a string.
pub(crate) fn text<'a>(tokens: &[Token<'a>]) -> Option<BodyText<'a>> {
    Body::of(tokens).map(|body| BodyText::of(body.literal))
}

enum Language {
    Plpgsql,
    Sql,
}

struct Body<'t, 'a> {
    literal: &'t Token<'a>,
    language: Language,
    runs_now: bool,
}

impl<'t, 'a> Body<'t, 'a> {
    /// The body of a DO, CREATE FUNCTION or CREATE PROCEDURE in a language that can be read here.
    fn of(tokens: &'t [Token<'a>]) -> Option<Self> {
        let is_literal = |token: &Token<'_>| matches!(token.kind, TokenKind::String | TokenKind::DollarString);
        let language = language(tokens);
        if tokens.first()?.is_word("DO") {
            let literal = tokens[1..]
                .iter()
                .zip(tokens)
                .find(|(token, before)| is_literal(token) && !before.is_word("LANGUAGE"))?
                .0;
            let language = match language.as_deref() {
                None | Some("plpgsql") => Language::Plpgsql,
                Some(_) => return None,
            };
            return Some(Self { literal, language, runs_now: true });
        }
        let creates_routine = tokens[0].is_word("CREATE")
            && tokens.iter().take(4).any(|token| token.is_word("FUNCTION") || token.is_word("PROCEDURE"));
        if !creates_routine {
            return None;
        }
        let after_as = tokens.windows(2).find(|pair| pair[0].is_word("AS") && is_literal(&pair[1]))?;
        let language = match language.as_deref() {
            Some("plpgsql") => Language::Plpgsql,
            None | Some("sql") => Language::Sql,
            Some(_) => return None,
        };
        Some(Self { literal: &after_as[1], language, runs_now: false })
    }
}

fn language(tokens: &[Token<'_>]) -> Option<String> {
    let pair = tokens.windows(2).find(|pair| pair[0].is_word("LANGUAGE"))?;
    Some(pair[1].text.trim_matches(['"', '\'']).to_ascii_lowercase())
}

/// A literal's content; with the content's offset in the file when each of its bytes lies at its own place.
fn literal_content<'a>(literal: &Token<'a>) -> (Cow<'a, str>, Option<usize>) {
    if literal.kind == TokenKind::DollarString {
        let tag_length = literal.text[1..].find('$').map_or(1, |at| at + 2);
        let content = &literal.text[tag_length..literal.text.len() - tag_length];
        return (Cow::Borrowed(content), Some(literal.start + tag_length));
    }
    let quoted = literal.text.find('\'').map_or("", |at| &literal.text[at + 1..]);
    let content = quoted.strip_suffix('\'').unwrap_or(quoted);
    (Cow::Owned(content.replace("''", "'")), None)
}

/// An SQL body holds statements like a file's; only a switch of the role concerns the migration.
fn check_sql(body: &str) -> Vec<Violation> {
    let mut splitter = Splitter::new(body);
    let mut violations = Vec::new();
    while let Some(tokens) = splitter.next_statement() {
        violations.extend(rules::settings(&tokens));
        violations.extend(rules::set_config(&tokens));
    }
    retain_role_switches(violations)
}

/// A PL/pgSQL block: each place where a statement can start is looked at.
fn check_block(body: &str, runs_now: bool, depth: usize) -> Vec<Violation> {
    let tokens = significant_tokens(body);
    let mut violations = rules::set_config(&tokens);
    for (at, token) in tokens.iter().enumerate() {
        if violations.len() >= FINDINGS_PER_FILE_MAX {
            break;
        }
        if starts_statement(&tokens[..at]) {
            violations.extend(rules::check_in_block(upto_semicolon(&tokens[at..])));
            if runs_now {
                violations.extend(transaction_control(&tokens[at..]));
            }
        }
        if token.is_word("EXECUTE") {
            violations.extend(check_executed(upto_semicolon(&tokens[at..]), depth));
        }
    }
    if runs_now { violations } else { retain_role_switches(violations) }
}

/// A statement starts at the beginning, after a semicolon, after a keyword that opens a list of statements, and
/// after a label.
fn starts_statement(before: &[Token<'_>]) -> bool {
    match before {
        [] => true,
        [.., label, end] if label.is_symbol(">") && end.is_symbol(">") => true,
        [.., last] => {
            let opens = ["BEGIN", "THEN", "ELSE", "LOOP"];
            last.kind == TokenKind::Semicolon || opens.iter().any(|keyword| last.is_word(keyword))
        }
    }
}

fn upto_semicolon<'t, 'a>(tokens: &'t [Token<'a>]) -> &'t [Token<'a>] {
    let tokens = &tokens[..tokens.len().min(TOKENS_MAX)];
    let length = tokens.iter().position(|token| token.kind == TokenKind::Semicolon);
    &tokens[..length.unwrap_or(tokens.len())]
}

/// `COMMIT;` and its like. A variable may bear such a name, so what follows decides.
fn transaction_control(tokens: &[Token<'_>]) -> Option<Violation> {
    let [first, second, ..] = tokens else { return None };
    let follows_end = second.kind == TokenKind::Semicolon || second.is_word("AND") || second.is_word("TO");
    let names_savepoint = first.is_word("SAVEPOINT") || first.is_word("RELEASE");
    let is_one = (follows_end && ["COMMIT", "ROLLBACK", "ABORT"].iter().any(|keyword| first.is_word(keyword)))
        || (names_savepoint && second.kind == TokenKind::Word)
        || (second.is_word("TRANSACTION") && (first.is_word("START") || first.is_word("PREPARE")));
    is_one.then(|| {
        let command = first.text.to_ascii_uppercase();
        let message = format!("{command} in a DO body ends or splits the migration's own transaction: remove it");
        Violation::at(first, Rule::TransactionControl, message)
    })
}

/// `EXECUTE 'text'` and `EXECUTE format('text', …)`: the text is read as statements.
fn check_executed(statement: &[Token<'_>], depth: usize) -> Vec<Violation> {
    let literal = match statement {
        [_, literal, ..] if literal.kind == TokenKind::String || literal.kind == TokenKind::DollarString => literal,
        [_, function, parenthesis, literal, ..]
            if function.is_word("format")
                && parenthesis.is_symbol("(")
                && matches!(literal.kind, TokenKind::String | TokenKind::DollarString) =>
        {
            literal
        }
        _ => return Vec::new(),
    };
    let (text, _) = literal_content(literal);
    let mut splitter = Splitter::new(&text);
    let mut violations = Vec::new();
    while let Some(tokens) = splitter.next_statement() {
        violations.extend(rules::check_in_block(&tokens));
        violations.extend(rules::set_config(&tokens));
        violations.extend(check_at_depth(&tokens, depth + 1));
    }
    violations.into_iter().map(|violation| Violation { at: literal.start, ..violation }).collect()
}

fn retain_role_switches(violations: Vec<Violation>) -> Vec<Violation> {
    violations.into_iter().filter(|violation| violation.rule == Rule::RoleSwitch).collect()
}
