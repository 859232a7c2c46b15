//! What no home's owner may do, in whichever isolation: it owns the objects of one schema and nothing else.

use super::Raised;
use crate::lexer::{Token, TokenKind};
use crate::rule::Rule;
use crate::script::{folded, starts_with};

/// Names that stand for no particular role.
const ANYBODY: [&str; 5] = ["public", "current_role", "current_user", "session_user", "none"];
/// Languages in which everybody may write functions.
const TRUSTED: [&str; 3] = ["sql", "plpgsql", "internal"];

pub(super) fn check(tokens: &[Token<'_>]) -> Vec<Raised> {
    let mut raised: Vec<Raised> = schema(tokens).into_iter().collect();
    raised.extend(superuser(tokens));
    raised.extend(roles(tokens).map(|role| {
        let message = "a home's roles have names that no file can know, and whoever is granted something here is the \
                       same for all tenants: remove this (the app and read-only roles get their rights by themselves)";
        Raised::new(role.start, Rule::RoleName, message)
    }));
    raised
}

fn schema(tokens: &[Token<'_>]) -> Option<Raised> {
    let changes = ["CREATE", "ALTER", "DROP"].iter().any(|keyword| tokens[0].is_word(keyword));
    let is_one = changes && tokens.get(1).is_some_and(|second| second.is_word("SCHEMA"));
    is_one.then(|| {
        let message = "a home has one schema, which is there already, and its owner may create no other: remove this, \
                       and write the names of its objects without a schema";
        Raised::new(tokens[0].start, Rule::SchemaStatement, message)
    })
}

/// What takes a superuser, or rights on the whole database.
fn superuser(tokens: &[Token<'_>]) -> Option<Raised> {
    let begins = |keywords: &[&str]| starts_with(tokens, keywords);
    let what = if ["CREATE", "ALTER", "DROP"].iter().any(|keyword| begins(&[keyword, "EVENT", "TRIGGER"])) {
        "an event trigger"
    } else if begins(&["CREATE", "PUBLICATION"]) || begins(&["CREATE", "SUBSCRIPTION"]) {
        "a publication or subscription"
    } else if begins(&["CREATE", "FOREIGN", "DATA"]) || begins(&["CREATE", "SERVER"]) {
        "a foreign server"
    } else if begins(&["CREATE", "LANGUAGE"]) || begins(&["CREATE", "ACCESS", "METHOD"]) {
        "a language or access method"
    } else if ["ALTER", "DROP"].iter().any(|keyword| begins(&[keyword, "EXTENSION"]))
        || begins(&["COMMENT", "ON", "EXTENSION"])
    {
        "a change of an extension"
    } else if let Some(language) = foreign_language(tokens) {
        return Some(needs_superuser(language.start, &format!("a function in {}", language.text)));
    } else if begins(&["ALTER", "TABLE"]) && disables_system_triggers(tokens) {
        let message = "TRIGGER ALL includes those that keep foreign keys, for which it takes a superuser: write TRIGGER \
                       USER";
        return Some(Raised::new(tokens[0].start, Rule::NeedsSuperuser, message));
    } else if sets_replication_role(tokens) {
        "session_replication_role"
    } else {
        return None;
    };
    Some(needs_superuser(tokens[0].start, what))
}

fn needs_superuser(at: usize, what: &str) -> Raised {
    let message = format!(
        "{what} takes a superuser or rights on the whole database, and a home's owner has neither: \
                           remove this"
    );
    Raised::new(at, Rule::NeedsSuperuser, message)
}

fn foreign_language<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t Token<'a>> {
    let creates = tokens[0].is_word("CREATE")
        && tokens.iter().take(4).any(|token| token.is_word("FUNCTION") || token.is_word("PROCEDURE"));
    let named = tokens.windows(2).find(|pair| creates && pair[0].is_word("LANGUAGE")).map(|pair| &pair[1])?;
    let name = named.text.trim_matches(['"', '\'']).to_ascii_lowercase();
    (!TRUSTED.contains(&name.as_str()) && !is_trusted_extension(&name)).then_some(named)
}

/// Those that come with an extension which the control plane may have been told to install.
fn is_trusted_extension(language: &str) -> bool {
    ["plperl", "pltcl", "plv8"].contains(&language)
}

fn disables_system_triggers(tokens: &[Token<'_>]) -> bool {
    tokens.windows(3).any(|three| {
        (three[0].is_word("DISABLE") || three[0].is_word("ENABLE"))
            && three[1].is_word("TRIGGER")
            && three[2].is_word("ALL")
    })
}

fn sets_replication_role(tokens: &[Token<'_>]) -> bool {
    tokens[0].is_word("SET") && tokens.iter().take(3).any(|token| token.is_word("session_replication_role"))
}

/// The roles that a statement names: of `OWNER TO`, of grants, of policies.
fn roles<'t, 'a>(tokens: &'t [Token<'a>]) -> impl Iterator<Item = &'t Token<'a>> {
    let first = &tokens[0];
    let is_grant = first.is_word("GRANT") || first.is_word("REVOKE");
    let is_default = starts_with(tokens, &["ALTER", "DEFAULT", "PRIVILEGES"]);
    let is_policy = ["CREATE", "ALTER"].iter().any(|keyword| starts_with(tokens, &[keyword, "POLICY"]));
    let mut depth = 0_usize;
    tokens.windows(2).enumerate().filter_map(move |(at, pair)| {
        match pair[0].text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        let owns = pair[0].is_word("TO") && at > 0 && tokens[at - 1].is_word("OWNER") && first.is_word("ALTER");
        let granted = (is_grant || is_default || is_policy) && depth == 0 && pair[0].is_word("TO")
            || (is_grant || is_default) && depth == 0 && pair[0].is_word("FROM");
        // A policy that is renamed names no role.
        let renames = at > 0 && tokens[at - 1].is_word("RENAME");
        let of_default = is_default
            && ["ROLE", "USER"].iter().any(|keyword| pair[0].is_word(keyword))
            && at > 0
            && tokens[at - 1].is_word("FOR");
        let names = (owns || (granted && !renames) || of_default) && is_role(&pair[1]);
        names.then(|| &pair[1])
    })
}

fn is_role(token: &Token<'_>) -> bool {
    matches!(token.kind, TokenKind::Word | TokenKind::QuotedName)
        && folded(token).is_some_and(|name| !ANYBODY.contains(&name.as_str()))
}
