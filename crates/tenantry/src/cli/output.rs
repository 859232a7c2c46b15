//! Everything that the commands say: results on standard output, everything else on standard error.
//!
//! This is the one place that writes to either. It writes with `writeln!` and looks at what becomes of it, because
//! `println!` panics as soon as the reader has gone (`tenantry tenant list | head`).

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;
use tenantry_api::Page;

use super::error::CliError;
use super::table::{self, Cell, Tabular, printable};

/// The shape of results and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// The contract's JSON, for programs.
    Json,
}

/// Where results and messages go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    colour_stdout: bool,
    colour_stderr: bool,
}

impl Output {
    /// Colours where a person looks and has not refused them (<https://no-color.org>).
    pub(crate) fn new(format: Format) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let wanted = !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            format,
            colour_stdout: wanted && io::stdout().is_terminal(),
            colour_stderr: wanted && io::stderr().is_terminal(),
        }
    }

    /// Whether results are JSON.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// One object.
    pub(crate) fn object<T: Serialize + Tabular>(self, object: &T) -> Result<(), CliError> {
        self.either(object, || table::fields(object.fields(), self.colour_stdout))
    }

    /// A list, and a word about what was left out.
    pub(crate) fn list<T: Serialize + Tabular>(self, page: &Page<T>) -> Result<(), CliError> {
        self.either(page, || table::list(&page.items, self.colour_stdout))?;
        if page.next.is_some() && !self.is_json() {
            self.note("There are more; ask for them with --all or a higher --limit.");
        }
        Ok(())
    }

    /// An answer whose table is composed by the caller.
    pub(crate) fn composed<T: Serialize>(self, json: &T, parts: impl FnOnce(&mut Composition)) -> Result<(), CliError> {
        self.either(json, || {
            let mut composition = Composition { terminal: self.colour_stdout, text: String::new() };
            parts(&mut composition);
            composition.text
        })
    }

    /// The result of a command that leaves nothing to show but that it was done.
    pub(crate) fn done<T: Serialize>(self, json: &T, sentence: &str) -> Result<(), CliError> {
        self.either(json, || format!("{}\n", printable(sentence)))
    }

    /// Rows under a heading, for people alone.
    pub(crate) fn grid(self, heading: &[String], rows: Vec<Vec<Cell>>) -> Result<(), CliError> {
        write_out(&table::grid(heading.iter().cloned(), rows, self.colour_stdout))
    }

    /// One entry of a stream: a line of JSON, or a line of text.
    pub(crate) fn entry<T: Serialize>(self, json: &T, line: &str) -> Result<(), CliError> {
        let text = if self.is_json() {
            serde_json::to_string(json).map_err(|error| CliError::Output(error.into()))?
        } else {
            printable(line)
        };
        write_out(&format!("{text}\n"))
    }

    /// Text that is a result as it stands, whatever the format: a completion script, a secret.
    #[expect(clippy::unused_self, reason = "commands print through the output that they were given")]
    pub(crate) fn raw(self, text: &str) -> Result<(), CliError> {
        write_out(text)
    }

    /// A word to the person, beside the result.
    pub(crate) fn note(self, text: &str) {
        self.say(Style::new().dimmed(), "", text);
    }

    /// A word of warning, beside the result.
    pub(crate) fn warning(self, text: &str) {
        self.say(AnsiColor::Yellow.on_default().bold(), "warning: ", text);
    }

    /// Why the command failed, what to do next, and the request's id.
    pub(crate) fn failure(self, error: &CliError) {
        if matches!(error, CliError::OutputClosed) {
            return;
        }
        if self.is_json() {
            write_err(&format!("{}\n", error.to_json()));
            return;
        }
        let mut message = match error {
            CliError::MigrationSet(refused) if refused.findings().len() > 1 => {
                "the migration set is refused; mend the files and try again".to_owned()
            }
            _ => error.to_string(),
        };
        if let CliError::MigrationSet(refused) = error
            && refused.findings().len() > 1
        {
            for finding in refused.findings() {
                message.push_str(&format!("\n  {finding}"));
            }
        }
        self.say(AnsiColor::Red.on_default().bold(), "error: ", &message);
        for cause in error.causes() {
            self.say(Style::new().bold(), "  because: ", &cause);
        }
        if let Some(next_step) = error.next_step() {
            self.say(Style::new().bold(), "  next: ", &next_step);
        }
        if let Some(request_id) = error.request_id() {
            self.say(Style::new().bold(), "  request: ", request_id);
        }
    }

    fn say(self, style: Style, label: &str, text: &str) {
        let text = printable(text);
        if !self.colour_stderr {
            write_err(&format!("{label}{text}\n"));
        } else if label.is_empty() {
            write_err(&format!("{style}{text}{style:#}\n"));
        } else {
            write_err(&format!("{style}{label}{style:#}{text}\n"));
        }
    }

    fn either<T: Serialize>(self, json: &T, text: impl FnOnce() -> String) -> Result<(), CliError> {
        match self.format {
            Format::Table => write_out(&text()),
            Format::Json => {
                let text = serde_json::to_string_pretty(json).map_err(|error| CliError::Output(error.into()))?;
                write_out(&format!("{text}\n"))
            }
        }
    }
}

/// A table of several parts.
pub(crate) struct Composition {
    terminal: bool,
    text: String,
}

impl Composition {
    /// One object's fields.
    pub(crate) fn object<T: Tabular>(&mut self, object: &T) {
        self.fields(object.fields());
    }

    /// Fields that are no object's.
    pub(crate) fn fields(&mut self, fields: Vec<(&'static str, Cell)>) {
        self.part(&table::fields(fields, self.terminal));
    }

    /// A list.
    pub(crate) fn list<T: Tabular>(&mut self, items: &[T]) {
        self.part(&table::list(items, self.terminal));
    }

    /// Text of several lines as it stands, but for what would steer the terminal.
    pub(crate) fn text(&mut self, text: &str) {
        self.part(&printable(&text.replace('\t', "    ")));
    }

    fn part(&mut self, part: &str) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(part);
    }
}

fn write_out(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Output(error),
    })
}

fn write_err(text: &str) {
    // Nobody is left to tell when standard error is gone too.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
