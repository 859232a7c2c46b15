//! Names with a schema. A tenant of isolation `schema` has its objects in a schema of its own, under a name that no file
//! can know.

use super::Raised;
use crate::lexer::{Lexer, Token, TokenKind};
use crate::lint::body;
use crate::rule::Rule;
use crate::script::{folded, starts_with};

/// Schemas that are the same for every tenant.
const SHARED: [&str; 4] = ["pg_catalog", "information_schema", "extensions", "pg_temp"];
/// Functions whose argument is an object's name.
const TAKE_NAMES: [&str; 8] = [
    "currval",
    "nextval",
    "pg_get_serial_sequence",
    "setval",
    "to_regclass",
    "to_regproc",
    "to_regprocedure",
    "to_regtype",
];
/// What stands before an object's name, wherever in a statement. Before a column's name stands none of them.
const BEFORE_OBJECTS: [&str; 12] = [
    "TABLE",
    "VIEW",
    "SEQUENCE",
    "INDEX",
    "TYPE",
    "DOMAIN",
    "FUNCTION",
    "PROCEDURE",
    "AGGREGATE",
    "INTO",
    "REFERENCES",
    "JOIN",
];

pub(super) fn check(tokens: &[Token<'_>]) -> Vec<Raised> {
    // Refused by a rule of its own, whatever the schema's name.
    if tokens.get(1).is_some_and(|second| second.is_word("SCHEMA")) {
        return Vec::new();
    }
    let mut raised: Vec<Raised> = public(tokens).map(|token| raise(token.start, "public")).collect();
    raised.extend(other_schemas(tokens));
    if let Some(body) = body::text(tokens) {
        let tokens: Vec<Token<'_>> = Lexer::new(&body.text).filter(Token::is_significant).collect();
        raised.extend(public(&tokens).map(|token| raise(body.place(token.start), "public")));
    }
    raised
}

fn public<'t>(tokens: &'t [Token<'_>]) -> impl Iterator<Item = &'t Token<'t>> {
    names_public(tokens).chain(literals(tokens))
}

/// `public.x`, and `SCHEMA public`.
fn names_public<'t>(tokens: &'t [Token<'_>]) -> impl Iterator<Item = &'t Token<'t>> {
    tokens.iter().enumerate().filter_map(|(at, token)| {
        let follows = tokens.get(at + 1).is_some_and(|next| next.is_symbol("."));
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        let is_part = before.is_some_and(|before| before.is_symbol("."));
        let after_schema = before.is_some_and(|before| before.is_word("SCHEMA"));
        let is_public = folded(token).is_some_and(|name| name == "public");
        (is_public && !is_part && (follows || after_schema)).then_some(token)
    })
}

/// `table_schema = 'public'`, `'public.x'::regclass` and `nextval('public.x')`. Elsewhere `'public'` is any text.
fn literals<'t>(tokens: &'t [Token<'_>]) -> impl Iterator<Item = &'t Token<'t>> {
    tokens.iter().enumerate().filter_map(|(at, token)| {
        let text = token.text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''))?;
        let is_string = token.kind == TokenKind::String;
        let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.get(at));
        let finds = if text == "public" {
            let compared = before(1).is_some_and(|one| one.is_symbol("=") || one.is_symbol("("));
            let column = before(2).filter(|_| compared).into_iter().chain(before(3).filter(|_| compared));
            column.filter_map(folded).any(|name| {
                name == "nspname" || name == "schemaname" || (name.ends_with("_schema") && name != "current_schema")
            })
        } else if text.starts_with("public.") || text.starts_with("\"public\".") {
            let cast = tokens.get(at + 3).filter(|_| tokens[at + 1].is_symbol(":") && tokens[at + 2].is_symbol(":"));
            let is_cast = cast.and_then(folded).is_some_and(|name| name.starts_with("reg"));
            let function = before(2).filter(|_| before(1).is_some_and(|one| one.is_symbol("("))).and_then(folded);
            is_cast || function.is_some_and(|name| TAKE_NAMES.contains(&name.as_str()))
        } else {
            false
        };
        (is_string && finds).then_some(token)
    })
}

/// `app.x` where only an object can stand.
fn other_schemas(tokens: &[Token<'_>]) -> Vec<Raised> {
    let mut raised = Vec::new();
    for (at, keyword) in tokens.iter().enumerate() {
        let is_first = at == 0 && keyword.is_word("UPDATE")
            || at == 1 && starts_with(tokens, &["DELETE", "FROM"])
            || keyword.is_word("ON") && starts_with(tokens, &["CREATE"]) && is_index(tokens) && !seen_on(&tokens[..at]);
        if !is_first && !BEFORE_OBJECTS.iter().any(|before| keyword.is_word(before)) {
            continue;
        }
        let mut rest = &tokens[at + 1..];
        while let [word, after @ ..] = rest
            && ["IF", "NOT", "EXISTS", "ONLY", "CONCURRENTLY"].iter().any(|skipped| word.is_word(skipped))
        {
            rest = after;
        }
        if let [schema, dot, _, ..] = rest
            && dot.is_symbol(".")
            && let Some(name) = folded(schema)
            && name != "public"
            && !SHARED.contains(&name.as_str())
        {
            raised.push(raise(schema.start, &name));
        }
    }
    raised
}

fn is_index(tokens: &[Token<'_>]) -> bool {
    tokens.iter().take(3).any(|token| token.is_word("INDEX"))
}

/// Bounded, for the table of an index stands among its first words.
fn seen_on(before: &[Token<'_>]) -> bool {
    before.len() > 12 || before.iter().any(|token| token.is_word("ON"))
}

fn raise(at: usize, schema: &str) -> Raised {
    let message = format!("tenants of isolation `schema` have no schema {schema}: write the name without it");
    Raised::new(at, Rule::QualifiedName, message)
}
