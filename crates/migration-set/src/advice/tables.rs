//! Tables and indexes that a file creates: what is done to them afterwards keeps nobody waiting.

use crate::script::{Script, name_of, starts_with};
use std::collections::HashSet;

/// Adds what a file creates. An index counts when its table does.
pub(super) fn learn(script: &Script<'_>, empty: &mut HashSet<String>) {
    for tokens in &script.statements {
        if !tokens[0].is_word("CREATE") {
            continue;
        }
        let Some(kind) = tokens
            .iter()
            .take(4)
            .position(|token| ["TABLE", "VIEW", "INDEX"].iter().any(|keyword| token.is_word(keyword)))
        else {
            continue;
        };
        let mut rest = &tokens[kind + 1..];
        if rest.first().is_some_and(|token| token.is_word("CONCURRENTLY")) {
            rest = &rest[1..];
        }
        if starts_with(rest, &["IF", "NOT", "EXISTS"]) {
            rest = &rest[3..];
        }
        if tokens[kind].is_word("INDEX") {
            let table = rest.iter().position(|token| token.is_word("ON")).and_then(|on| name_of(&rest[on + 1..]));
            if !table.is_some_and(|table| empty.contains(&table)) {
                continue;
            }
        }
        empty.extend(name_of(rest));
    }
}
