//! The rules on one statement, told by its keywords.

use super::{FINDINGS_PER_FILE_MAX, Violation};
use crate::lexer::{Token, TokenKind};
use crate::rule::Rule;
use crate::script::starts_with;

const ROLE_SETTINGS: [&str; 2] = ["role", "session_authorization"];
/// Set by Tenantry around each file, or assumed when the file is read.
const RELIED_ON_SETTINGS: [&str; 3] = ["search_path", "standard_conforming_strings", "client_encoding"];

/// What holds for a statement of a file, in a transaction or not.
pub(super) fn check(tokens: &[Token<'_>]) -> Vec<Violation> {
    transaction_control(tokens)
        .into_iter()
        .chain(settings(tokens))
        .chain(cluster_statement(tokens))
        .chain(copy(tokens))
        .chain(set_config(tokens))
        .collect()
}

/// What holds for a statement in a PL/pgSQL block that a file runs, where BEGIN and END mean something else.
pub(super) fn check_in_block(tokens: &[Token<'_>]) -> Vec<Violation> {
    settings(tokens).into_iter().chain(cluster_statement(tokens)).chain(copy(tokens)).collect()
}

/// A command that would end, or nest in, the transaction that the migrator opened.
fn transaction_control(tokens: &[Token<'_>]) -> Option<Violation> {
    let first = tokens.first()?;
    let alone = ["BEGIN", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"];
    let is_one = alone.iter().any(|keyword| first.is_word(keyword))
        || starts_with(tokens, &["START", "TRANSACTION"])
        || starts_with(tokens, &["PREPARE", "TRANSACTION"]);
    is_one.then(|| {
        let command = first.text.to_ascii_uppercase();
        let message = format!(
            "{command} ends or splits the migration's own transaction: remove it, each file already runs in one"
        );
        Violation::at(first, Rule::TransactionControl, message)
    })
}

/// `SET`, `RESET` and `DISCARD` of what must stay as the migrator set it.
pub(super) fn settings(tokens: &[Token<'_>]) -> Option<Violation> {
    let first = tokens.first()?;
    if starts_with(tokens, &["DISCARD", "ALL"]) {
        let message = "DISCARD ALL also resets the role: discard PLANS, SEQUENCES or TEMP by name";
        return Some(Violation::at(first, Rule::RoleSwitch, message));
    }
    if !first.is_word("SET") && !first.is_word("RESET") {
        return None;
    }
    let mut rest = &tokens[1..];
    // SESSION is a scope, unless AUTHORIZATION or CHARACTERISTICS follows.
    while let [scope, after, ..] = rest {
        let is_scope = scope.is_word("LOCAL")
            || (scope.is_word("SESSION") && !after.is_word("AUTHORIZATION") && !after.is_word("CHARACTERISTICS"));
        if !is_scope {
            break;
        }
        rest = &rest[1..];
    }
    let setting = name_of(rest.first()?)?;
    if starts_with(rest, &["SESSION", "AUTHORIZATION"]) || ROLE_SETTINGS.contains(&setting.as_str()) {
        let message = "a migration runs as its home's owner and may not switch roles: remove this";
        return Some(Violation::at(first, Rule::RoleSwitch, message));
    }
    let relied_on = RELIED_ON_SETTINGS.contains(&setting.as_str())
        || ["schema", "names"].contains(&setting.as_str())
        || (first.is_word("RESET") && setting == "all");
    relied_on.then(|| {
        let message = "Tenantry sets the search path and the session: remove this and use unqualified names";
        Violation::at(first, Rule::SessionSetting, message)
    })
}

/// `set_config('search_path', …)` and its like, anywhere in a statement.
pub(super) fn set_config(tokens: &[Token<'_>]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for window in tokens.windows(3) {
        if violations.len() >= FINDINGS_PER_FILE_MAX {
            break;
        }
        let [function, parenthesis, argument] = window else { continue };
        if name_of(function).as_deref() != Some("set_config") || !parenthesis.is_symbol("(") {
            continue;
        }
        let setting = argument.text.trim_matches('\'').to_ascii_lowercase();
        if ROLE_SETTINGS.contains(&setting.as_str()) {
            let message = "a migration runs as its home's owner and may not switch roles: remove this";
            violations.push(Violation::at(function, Rule::RoleSwitch, message));
        } else if RELIED_ON_SETTINGS.contains(&setting.as_str()) {
            let message = "Tenantry sets the search path and the session: remove this and use unqualified names";
            violations.push(Violation::at(function, Rule::SessionSetting, message));
        }
    }
    violations
}

/// Statements on what all tenants of a cluster share.
fn cluster_statement(tokens: &[Token<'_>]) -> Option<Violation> {
    let first = tokens.first()?;
    let second = tokens.get(1)?;
    let shared = ["DATABASE", "ROLE", "GROUP", "TABLESPACE"];
    let changes = ["CREATE", "ALTER", "DROP"].iter().any(|keyword| first.is_word(keyword));
    let is_user = second.is_word("USER") && !tokens.get(2).is_some_and(|third| third.is_word("MAPPING"));
    let is_cluster_statement = (changes && (is_user || shared.iter().any(|keyword| second.is_word(keyword))))
        || starts_with(tokens, &["ALTER", "SYSTEM"])
        || starts_with(tokens, &["DROP", "OWNED"])
        || starts_with(tokens, &["REASSIGN", "OWNED"]);
    is_cluster_statement.then(|| {
        let message = "databases, roles and the server belong to the whole cluster, not to one tenant: remove this";
        Violation::at(first, Rule::ClusterStatement, message)
    })
}

/// `COPY` other than between tables: there is no client to talk to, and the server's files are not the tenant's.
fn copy(tokens: &[Token<'_>]) -> Option<Violation> {
    let target = copy_target(tokens)?;
    let message = if target.is_word("STDIN") || target.is_word("STDOUT") {
        "a migration has no client to copy from or to: write INSERT … VALUES"
    } else {
        "a migration may read and write no files or programs of the server: write INSERT … VALUES"
    };
    Some(Violation::at(tokens.first()?, Rule::Copy, message))
}

/// Whether data lines follow the statement in a psql script.
pub(super) fn copies_from_client(tokens: &[Token<'_>]) -> bool {
    copy_target(tokens).is_some_and(|target| target.is_word("STDIN"))
}

/// What stands after COPY's own FROM or TO, which lies outside the parentheses of a query or column list.
fn copy_target<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<&'t Token<'a>> {
    if !tokens.first()?.is_word("COPY") {
        return None;
    }
    let mut depth = 0_i32;
    for pair in tokens.windows(2) {
        match pair[0].text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ if depth == 0 && (pair[0].is_word("FROM") || pair[0].is_word("TO")) => return Some(&pair[1]),
            _ => {}
        }
    }
    None
}

/// Statements that PostgreSQL refuses inside a transaction block.
pub(crate) fn check_needs_no_transaction(tokens: &[Token<'_>]) -> Option<Violation> {
    let first = tokens.first()?;
    let mentions = |keyword| tokens.iter().any(|token| token.is_word(keyword));
    let builds_concurrently = starts_with(tokens, &["CREATE", "INDEX", "CONCURRENTLY"])
        || starts_with(tokens, &["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY"])
        || starts_with(tokens, &["DROP", "INDEX", "CONCURRENTLY"])
        || (first.is_word("REINDEX") && mentions("CONCURRENTLY"))
        || (starts_with(tokens, &["ALTER", "TABLE"]) && mentions("DETACH") && mentions("CONCURRENTLY"));
    (builds_concurrently || first.is_word("VACUUM")).then(|| {
        let message = "PostgreSQL runs this only outside a transaction: \
                       put it into a file of its own with the line `-- no-transaction` at the top";
        Violation::at(first, Rule::NeedsNoTransaction, message)
    })
}

/// The name that a word or quoted name stands for, in lower case: settings are found without regard to case.
fn name_of(token: &Token<'_>) -> Option<String> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_ascii_lowercase()),
        TokenKind::QuotedName => Some(token.text.trim_matches('"').to_ascii_lowercase()),
        _ => None,
    }
}
