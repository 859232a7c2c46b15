//! Files that run again whenever they change: a second time, what they create is there already.

use super::Raised;
use crate::lexer::Token;
use crate::rule::Rule;
use crate::script::{Script, name_of, starts_with};
use std::collections::HashSet;

/// Kinds of objects, with the words that may stand before them.
const KINDS: [&str; 13] = [
    "AGGREGATE",
    "DOMAIN",
    "FUNCTION",
    "INDEX",
    "OPERATOR",
    "POLICY",
    "PROCEDURE",
    "RULE",
    "SEQUENCE",
    "TABLE",
    "TRIGGER",
    "TYPE",
    "VIEW",
];

pub(super) fn check(script: &Script<'_>) -> Vec<Raised> {
    let mut dropped: HashSet<String> = HashSet::new();
    let mut raised = Vec::new();
    for tokens in &script.statements {
        let Some((kind, rest)) = after_kind(tokens) else { continue };
        if tokens[0].is_word("DROP") && starts_with(rest, &["IF", "EXISTS"]) {
            dropped.extend(name_of(&rest[2..]));
        } else if tokens[0].is_word("CREATE")
            && !tokens.get(1).is_some_and(|second| second.is_word("OR"))
            && !starts_with(rest, &["IF", "NOT", "EXISTS"])
            && !name_of(rest).is_some_and(|name| dropped.contains(&name))
        {
            let message = format!(
                "the file runs again whenever it changes, and then this is there already: write CREATE OR REPLACE or IF \
                 NOT EXISTS, or DROP {} IF EXISTS before it",
                kind.to_ascii_uppercase()
            );
            raised.push(Raised::new(tokens[0].start, Rule::NotRepeatable, message));
        }
    }
    raised
}

/// The kind of object that a statement is about, and what follows it.
fn after_kind<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<(&'a str, &'t [Token<'a>])> {
    let at = tokens.iter().take(5).position(|token| KINDS.iter().any(|kind| token.is_word(kind)))?;
    let mut rest = &tokens[at + 1..];
    if rest.first().is_some_and(|token| token.is_word("CONCURRENTLY")) {
        rest = &rest[1..];
    }
    Some((tokens[at].text, rest))
}
