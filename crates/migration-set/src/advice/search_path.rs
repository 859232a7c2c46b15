//! Functions that PostgreSQL calls by itself. It restores, reindexes, analyses and refreshes with a search path of its
//! own (all of these since version 17), in which a home's tables and functions are not found.

use super::Raised;
use crate::lexer::{Token, TokenKind};
use crate::lint::body;
use crate::rule::Rule;
use crate::script::{folded, name_of, starts_with};
use std::collections::HashMap;

/// The functions of a set so far, by name: overloads share their fate, for calls are not resolved here.
#[derive(Default)]
pub(super) struct Functions {
    /// Those without a search path of their own, and the file of each.
    unset: HashMap<String, String>,
}

impl Functions {
    /// Takes in what a statement says about functions.
    pub(super) fn learn(&mut self, file: &str, tokens: &[Token<'_>]) {
        let Some(kind) = tokens.iter().take(4).position(|token| token.is_word("FUNCTION")) else { return };
        let rest = &tokens[kind + 1..];
        let rest = if starts_with(rest, &["IF", "EXISTS"]) { &rest[2..] } else { rest };
        let Some(name) = name_of(rest) else { return };
        let sets_path = tokens.windows(2).any(|pair| pair[0].is_word("SET") && pair[1].is_word("search_path"));
        let resets = tokens
            .windows(2)
            .any(|pair| pair[0].is_word("RESET") && (pair[1].is_word("search_path") || pair[1].is_word("ALL")));
        if tokens[0].is_word("CREATE") {
            // A body in standard SQL is resolved once and for all, and one in C finds nothing by a path.
            if sets_path || body::text(tokens).is_none() {
                self.unset.remove(&name);
            } else {
                self.unset.insert(name, file.to_owned());
            }
        } else if tokens[0].is_word("DROP") || sets_path {
            self.unset.remove(&name);
        } else if tokens[0].is_word("ALTER") && resets {
            self.unset.insert(name, file.to_owned());
        }
    }

    /// The calls of such functions where PostgreSQL evaluates them by itself.
    pub(super) fn check(&self, tokens: &[Token<'_>]) -> Vec<Raised> {
        if self.unset.is_empty() {
            return Vec::new();
        }
        let mut raised = Vec::new();
        let mut zone = Zone::of(tokens);
        for (at, token) in tokens.iter().enumerate() {
            if !zone.contains(tokens, at) || !tokens.get(at + 1).is_some_and(|next| next.is_symbol("(")) {
                continue;
            }
            if let Some(name) = folded(token)
                && let Some(file) = self.unset.get(&name)
            {
                let message = format!(
                    "{name}() of {file} has no search path of its own and fails when PostgreSQL restores, reindexes or \
                     refreshes this: create or alter it with SET search_path FROM CURRENT"
                );
                raised.push(Raised::new(token.start, Rule::FunctionSearchPath, message));
            }
        }
        raised
    }
}

/// Which part of a statement is evaluated later.
enum Zone {
    Nothing,
    /// Everything from a token on.
    From(usize),
    /// What stands in the parentheses of CHECK and of GENERATED ALWAYS AS; how deep the reader is in one.
    Clauses {
        depth: usize,
    },
}

impl Zone {
    fn of(tokens: &[Token<'_>]) -> Self {
        let has = |keyword: &str| tokens.iter().take(3).any(|token| token.is_word(keyword));
        let from = |found: Option<usize>| found.map_or(Self::Nothing, Self::From);
        if starts_with(tokens, &["CREATE", "MATERIALIZED", "VIEW"]) {
            from(tokens.iter().position(|token| token.is_word("AS")))
        } else if tokens[0].is_word("CREATE") && has("INDEX") {
            from(tokens.iter().position(|token| token.is_symbol("(")))
        } else if (tokens[0].is_word("CREATE") || tokens[0].is_word("ALTER"))
            && (tokens.iter().take(4).any(|token| token.is_word("TABLE")) || has("DOMAIN"))
        {
            Self::Clauses { depth: 0 }
        } else {
            Self::Nothing
        }
    }

    /// Asked for each token in turn.
    fn contains(&mut self, tokens: &[Token<'_>], at: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::From(start) => at >= *start,
            Self::Clauses { depth } => {
                let token = &tokens[at];
                let opens = token.is_symbol("(");
                if *depth > 0 {
                    *depth = if opens { *depth + 1 } else { *depth - usize::from(token.is_symbol(")")) };
                } else if opens && at > 0 && token.kind == TokenKind::Symbol {
                    let follows_check = tokens[at - 1].is_word("CHECK");
                    let follows_generated = at > 2 && tokens[at - 1].is_word("AS") && tokens[at - 2].is_word("ALWAYS");
                    *depth = usize::from(follows_check || follows_generated);
                }
                *depth > 0
            }
        }
    }
}
