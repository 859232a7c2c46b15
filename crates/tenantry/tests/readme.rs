//! The README's commands are commands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;

const README: &str = include_str!("../../../README.md");

/// The words of every `tenantry …` command in the README's shell blocks, without assignments before it.
fn commands() -> Vec<Vec<String>> {
    let mut in_shell = false;
    let mut commands = Vec::new();
    for line in README.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            in_shell = language == "sh";
        } else if in_shell && let Some(at) = line.find("tenantry ") {
            let before = &line[..at];
            let is_command =
                before.is_empty() || before.ends_with("$(") || before.ends_with(' ') && before.contains('=');
            if is_command {
                let words = line[at..].trim_end_matches(')').split_whitespace().map(str::to_owned);
                commands.push(words.skip(1).collect());
            }
        }
    }
    commands
}

#[test]
fn every_command_of_the_readme_is_understood() {
    let commands = commands();
    assert!(commands.len() >= 10, "the README's commands were not found: {commands:?}");
    for mut words in commands {
        // What follows `--` is for psql, and what follows `#` or `>` for the shell. With --help nothing is done, but the
        // subcommand must exist.
        let end = words.iter().position(|word| word == "--" || word.starts_with(['#', '>']));
        words.truncate(end.unwrap_or(words.len()));
        let subcommands: Vec<&String> = words.iter().take_while(|word| !word.starts_with('-')).collect();
        let flags: Vec<&String> = words.iter().filter(|word| word.starts_with("--")).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_tenantry")).args(subcommands).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        for flag in flags {
            assert!(help.contains(flag.as_str()), "`{}` has no {flag}", words.join(" "));
        }
    }
}
