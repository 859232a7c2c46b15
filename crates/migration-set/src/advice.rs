//! Advice: what a migration does to tables that hold rows, to running programs, and to tenants of other isolations.
//!
//! It is for the developer's machine and CI. A server does not refuse for it, because only the team knows whether a table
//! is large, or a program gone.

mod extensions;
mod ignores;
mod lookups;
mod names;
mod privileges;
mod repeatable;
mod search_path;
mod tables;

use crate::finding::Finding;
use crate::migration::{Migration, MigrationKind};
use crate::policy::LintPolicy;
use crate::rule::Rule;
use crate::script::Script;
use crate::squawk::{Question, SquawkRule};
use crate::statement::Lines;
use ignores::Ignores;
use search_path::Functions;
use std::collections::HashSet;
use std::thread;

/// How many findings of advice one file may have; what comes later in it is left out.
const FINDINGS_PER_FILE_MAX: usize = 100;
/// The stack on which squawk's parser descends; a statement's length is bounded, so this is enough in every build.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Advice at a byte offset; becomes a finding once level, file and line are known.
pub(crate) struct Raised {
    at: usize,
    rule: Rule,
    message: String,
}

impl Raised {
    pub(crate) fn new(at: usize, rule: Rule, message: impl Into<String>) -> Self {
        Self { at, rule, message: message.into() }
    }
}

/// The advice on files that are ordered by version, each under the name that it was given.
pub(crate) fn advise(files: &[(&str, &Migration)], policy: &LintPolicy, findings_max: usize) -> Vec<Finding> {
    thread::scope(|scope| {
        let judge = |with_squawk| Advisor::new(policy, with_squawk).advise(files, findings_max);
        let deep = thread::Builder::new().name("lint".to_owned()).stack_size(STACK_BYTES);
        match deep.spawn_scoped(scope, move || judge(true)).map(thread::ScopedJoinHandle::join) {
            Ok(Ok(findings)) => findings,
            // Where no such thread can be had, the rules that need none still speak.
            Ok(Err(_)) | Err(_) => judge(false),
        }
    })
}

struct Advisor<'p> {
    policy: &'p LintPolicy,
    squawk: Option<Vec<SquawkRule>>,
    functions: Functions,
    /// Tables and indexes that no tenant has yet, so that nothing waits for them.
    empty: HashSet<String>,
    /// No file is applied anywhere, so that no tenant has anything.
    starts_from_nothing: bool,
}

impl<'p> Advisor<'p> {
    fn new(policy: &'p LintPolicy, with_squawk: bool) -> Self {
        let is_on = |rule: &SquawkRule| policy.level(Rule::Squawk(*rule)).severity().is_some();
        let squawk = with_squawk.then(|| SquawkRule::all().filter(is_on).collect());
        Self { policy, squawk, functions: Functions::default(), empty: HashSet::new(), starts_from_nothing: false }
    }

    fn advise(mut self, files: &[(&str, &Migration)], findings_max: usize) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.starts_from_nothing = self.policy.knows_what_is_applied()
            && !files.iter().any(|(_, migration)| self.policy.is_applied(migration));
        for (file, migration) in files {
            let script = Script::read(&migration.sql);
            if self.policy.is_applied(migration) {
                for tokens in &script.statements {
                    self.functions.learn(file, tokens);
                }
                continue;
            }
            if !self.policy.knows_what_is_applied() {
                self.empty.clear();
            }
            tables::learn(&script, &mut self.empty);
            findings.extend(self.advise_file(file, migration, &script));
            if findings.len() >= findings_max {
                findings.truncate(findings_max);
                break;
            }
        }
        findings
    }

    fn advise_file(&mut self, file: &str, migration: &Migration, script: &Script<'_>) -> Vec<Finding> {
        let mut raised = self.raise(file, migration, script);
        raised.sort_by_key(|one| one.at);
        let is_on = |one: &Raised| self.policy.level(one.rule).severity().is_some();
        let mut ignores = Ignores::read(script);
        let mut told: Vec<Raised> = raised
            .into_iter()
            .filter(|one| is_on(one) && !ignores.silence(one.at, one.rule))
            .take(FINDINGS_PER_FILE_MAX)
            .collect();
        // A file with more findings than are told was not silenced to its end, so nobody knows what is unused.
        let is_complete = told.len() < FINDINGS_PER_FILE_MAX;
        told.extend(ignores.problems(is_complete, self.policy).into_iter().filter(is_on).take(FINDINGS_PER_FILE_MAX));
        told.sort_by_key(|one| one.at);
        let lines = Lines::new(&migration.sql);
        told.into_iter()
            .filter_map(|one| {
                let severity = self.policy.level(one.rule).severity()?;
                Some(Finding::new(file, lines.position(one.at), one.rule, one.message).with_severity(severity))
            })
            .collect()
    }

    fn raise(&mut self, file: &str, migration: &Migration, script: &Script<'_>) -> Vec<Raised> {
        let mut raised = Vec::new();
        match &self.squawk {
            Some(enabled) => {
                let question = Question {
                    script,
                    transactional: migration.transactional,
                    phase: migration.phase,
                    empty: &self.empty,
                    starts_from_nothing: self.starts_from_nothing,
                    enabled,
                    tell_unreadable: self.policy.level(Rule::Syntax).severity().is_some(),
                };
                raised.extend(question.ask());
            }
            None => raised.push(Raised::new(0, Rule::Syntax, "squawk cannot run here: the file was not judged by it")),
        }
        if migration.kind == MigrationKind::Repeatable {
            raised.extend(repeatable::check(script));
        }
        for tokens in &script.statements {
            raised.extend(names::check(tokens));
            raised.extend(extensions::check(tokens, self.policy));
            raised.extend(privileges::check(tokens));
            raised.extend(lookups::check(tokens));
            raised.extend(self.functions.check(tokens));
            self.functions.learn(file, tokens);
        }
        raised
    }
}

#[cfg(test)]
mod tests;
