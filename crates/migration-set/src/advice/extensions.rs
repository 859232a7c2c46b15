//! `CREATE EXTENSION`: the control plane installs what is allowed, beforehand and in a schema of its own.

use super::Raised;
use crate::lexer::Token;
use crate::policy::LintPolicy;
use crate::rule::Rule;
use crate::script::{folded, starts_with};

pub(super) fn check(tokens: &[Token<'_>], policy: &LintPolicy) -> Vec<Raised> {
    let mut raised = Vec::new();
    if !starts_with(tokens, &["CREATE", "EXTENSION"]) {
        return raised;
    }
    let at = tokens[0].start;
    let mut rest = &tokens[2..];
    if starts_with(rest, &["IF", "NOT", "EXISTS"]) {
        rest = &rest[3..];
    } else {
        let message = "the control plane installs extensions beforehand, and this fails where it has: \
                       write CREATE EXTENSION IF NOT EXISTS, or remove this";
        raised.push(Raised::new(at, Rule::ExtensionIfNotExists, message));
    }
    if let Some(token) = rest.first()
        && let Some(name) = folded(token)
        && !policy.allows_extension(&name)
    {
        let message = format!(
            "a home's owner may not install extensions, and {name} is none that the control plane installs ({}): add it \
             to `extensions` in [fleet] of the control plane's configuration, and in lint.toml",
            policy.extensions().collect::<Vec<_>>().join(", ")
        );
        raised.push(Raised::new(token.start, Rule::ExtensionNotAllowed, message));
    }
    if let Some(schema) = rest.iter().skip(1).find(|token| token.is_word("SCHEMA")) {
        let message = "extensions are in the schema `extensions`, which is last in the search path: remove SCHEMA";
        raised.push(Raised::new(schema.start, Rule::ExtensionSchema, message));
    }
    raised
}
