//! Questions to PostgreSQL's own tables. They list the objects of every schema of a database: where tenants share one,
//! `IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'c')` finds a neighbour's, and the file does nothing.

use super::Raised;
use crate::lexer::{Lexer, Token, TokenKind};
use crate::lint::body;
use crate::rule::Rule;
use crate::script::folded;

/// Tables and views of PostgreSQL with the names of objects.
const LISTS: [&str; 19] = [
    "pg_attribute",
    "pg_class",
    "pg_constraint",
    "pg_enum",
    "pg_index",
    "pg_indexes",
    "pg_matviews",
    "pg_policies",
    "pg_policy",
    "pg_proc",
    "pg_rules",
    "pg_sequence",
    "pg_sequences",
    "pg_stat_user_indexes",
    "pg_stat_user_tables",
    "pg_tables",
    "pg_trigger",
    "pg_type",
    "pg_views",
];
/// What says whose objects are meant.
const SCOPES: [&str; 20] = [
    "connamespace",
    "current_schema",
    "current_schemas",
    "nspname",
    "pg_function_is_visible",
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pronamespace",
    "regclass",
    "regnamespace",
    "regproc",
    "regprocedure",
    "regtype",
    "relnamespace",
    "schemaname",
    "to_regclass",
    "to_regproc",
    "to_regprocedure",
    "to_regtype",
    "typnamespace",
];

pub(super) fn check(tokens: &[Token<'_>]) -> Vec<Raised> {
    let mut raised: Vec<Raised> = unscoped(tokens).into_iter().map(|at| raise(tokens[at].start)).collect();
    if let Some(body) = body::text(tokens) {
        let inner: Vec<Token<'_>> = Lexer::new(&body.text).filter(Token::is_significant).collect();
        for statement in inner.split(|token| token.kind == TokenKind::Semicolon) {
            raised.extend(unscoped(statement).map(|at| raise(body.place(statement[at].start))));
        }
    }
    raised
}

/// Where such a table stands behind `FROM` or `JOIN` in a statement that does not say whose objects it means.
fn unscoped(tokens: &[Token<'_>]) -> Option<usize> {
    let at = tokens.iter().enumerate().position(|(at, token)| {
        let Some(name) = folded(token) else { return false };
        if name == "information_schema" {
            return tokens.get(at + 1).is_some_and(|next| next.is_symbol("."))
                && tokens.get(at + 2).and_then(folded).is_some_and(|view| view != "schemata");
        }
        let mut before = &tokens[..at];
        if let [rest @ .., schema, dot] = before
            && dot.is_symbol(".")
            && schema.is_word("pg_catalog")
        {
            before = rest;
        }
        LISTS.contains(&name.as_str())
            && before.last().is_some_and(|last| last.is_word("FROM") || last.is_word("JOIN") || last.is_symbol(","))
    })?;
    let is_scoped = tokens
        .iter()
        .filter_map(folded)
        .any(|name| SCOPES.contains(&name.as_str()) || (name.ends_with("_schema") && name != "information_schema"));
    (!is_scoped).then_some(at)
}

fn raise(at: usize) -> Raised {
    let message = "this finds the objects of every schema in the database, neighbours' too where tenants share one: add \
                   AND … = current_schema(), compare with 'name'::regclass, or write IF [NOT] EXISTS";
    Raised::new(at, Rule::UnscopedLookup, message)
}
