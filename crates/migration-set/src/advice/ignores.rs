//! `-- lint-ignore rule, rule: reason`, on a line of its own: before a statement for that statement, among the headers
//! for the whole file.

use super::Raised;
use crate::lexer::Token;
use crate::policy::LintPolicy;
use crate::rule::Rule;
use crate::script::Script;
use std::ops::Range;

/// How many such comments of a file are heeded; bounds the work of hostile files.
const IGNORES_MAX: usize = 200;

/// What a file asks not to be told.
pub(super) struct Ignores {
    ignores: Vec<Ignore>,
    problems: Vec<Raised>,
}

struct Ignore {
    rule: Rule,
    at: usize,
    silences: Range<usize>,
    is_used: bool,
}

impl Ignores {
    pub(super) fn read(script: &Script<'_>) -> Self {
        let mut all = Self { ignores: Vec::new(), problems: Vec::new() };
        let comments = script.comments.iter().filter_map(|comment| Some((comment, request(comment)?)));
        for (count, (comment, request)) in comments.enumerate() {
            if count == IGNORES_MAX {
                let message = format!("a file may have {IGNORES_MAX} of these: set the rule's level in lint.toml");
                all.problems.push(Raised::new(comment.start, Rule::LintIgnore, message));
                break;
            }
            if let Err(message) = all.take(script, comment, request) {
                all.problems.push(Raised::new(comment.start, Rule::LintIgnore, message));
            }
        }
        all
    }

    fn take(&mut self, script: &Script<'_>, comment: &Token<'_>, request: &str) -> Result<(), String> {
        let (names, reason) = request.split_once(':').unwrap_or((request, ""));
        if reason.trim().is_empty() {
            return Err("say why: `-- lint-ignore rule: reason`".to_owned());
        }
        let silences = silenced(script, comment)?;
        for name in names.split(',').map(str::trim) {
            let rule: Rule = name.parse().map_err(|error: crate::rule::UnknownRule| error.to_string())?;
            if rule.is_fixed() || rule == Rule::UnusedIgnore {
                return Err(format!("{rule} cannot be ignored: mend what it finds"));
            }
            self.ignores.push(Ignore { rule, at: comment.start, silences: silences.clone(), is_used: false });
        }
        Ok(())
    }

    /// Whether nothing is to be said of a rule at a byte.
    pub(super) fn silence(&mut self, at: usize, rule: Rule) -> bool {
        let mut is_silenced = false;
        for ignore in self.ignores.iter_mut().filter(|ignore| ignore.rule == rule && ignore.silences.contains(&at)) {
            ignore.is_used = true;
            is_silenced = true;
        }
        is_silenced
    }

    /// What is wrong with the comments themselves, once everything else was silenced.
    pub(super) fn problems(self, is_complete: bool, policy: &LintPolicy) -> Vec<Raised> {
        let mut problems = self.problems;
        // A rule that is off finds nothing anywhere: whoever silenced it may turn it on again.
        let is_unused = |ignore: &Ignore| !ignore.is_used && policy.level(ignore.rule).severity().is_some();
        for ignore in self.ignores.into_iter().filter(|ignore| is_complete && is_unused(ignore)) {
            let message = format!("there is nothing to ignore of {}: remove this", ignore.rule);
            problems.push(Raised::new(ignore.at, Rule::UnusedIgnore, message));
        }
        problems
    }
}

/// What follows `lint-ignore`, if a comment is one.
fn request<'a>(comment: &Token<'a>) -> Option<&'a str> {
    let text = comment.text.trim_start_matches('-').trim();
    let rest = text.strip_prefix("lint-ignore")?;
    (rest.is_empty() || rest.starts_with([' ', '\t', ':'])).then(|| rest.trim())
}

/// The bytes that a comment silences.
fn silenced(script: &Script<'_>, comment: &Token<'_>) -> Result<Range<usize>, String> {
    let line_start = script.sql[..comment.start].rfind('\n').map_or(0, |at| at + 1);
    if !script.sql[line_start..comment.start].trim().is_empty() {
        return Err("put this on a line of its own, before the statement".to_owned());
    }
    let next = script.statement_from(comment.start);
    let Some(previous) = next.checked_sub(1) else {
        return Ok(0..script.sql.len());
    };
    let end = |tokens: &Vec<Token<'_>>| tokens.last().map_or(0, Token::end);
    if end(&script.statements[previous]) > comment.start {
        return Err("this stands within a statement: put it before it".to_owned());
    }
    let statement = script.statements.get(next).ok_or("no statement follows: put this before the one that is meant")?;
    Ok(statement[0].start..end(statement))
}
