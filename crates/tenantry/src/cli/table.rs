//! Tables for people: plain columns, coloured states, nothing that a terminal would obey.

use comfy_table::{Attribute, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;

/// What stands for "none".
const NONE: &str = "-";

/// One value in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Busy,
    Bad,
    Faint,
}

impl Cell {
    /// Any value.
    #[expect(clippy::needless_pass_by_value, reason = "rows read better without a borrow at each value")]
    pub(crate) fn new(value: impl ToString) -> Self {
        Self { text: printable(&value.to_string()), tone: Tone::Plain }
    }

    /// A value that may be absent.
    pub(crate) fn optional(value: Option<impl ToString>) -> Self {
        value.map_or_else(|| Self { text: NONE.to_owned(), tone: Tone::Faint }, Self::new)
    }

    /// The word of a state, coloured by what it means to an operator.
    #[expect(clippy::needless_pass_by_value, reason = "rows read better without a borrow at each value")]
    pub(crate) fn state(word: impl ToString) -> Self {
        let text = word.to_string();
        let tone = match text.as_str() {
            "active" | "succeeded" | "applied" | "already" | "delivered" | "healthy" => Tone::Good,
            "failed" | "parked" | "aborted" | "suspended" | "unreachable" | "read_only" | "not_standby" => Tone::Bad,
            "deleted" | "cancelled" | "skipped" => Tone::Faint,
            _ => Tone::Busy,
        };
        Self { text, tone }
    }

    /// A word that is good or bad news.
    pub(crate) fn verdict(word: &str, is_good: bool) -> Self {
        Self { text: word.to_owned(), tone: if is_good { Tone::Good } else { Tone::Bad } }
    }

    /// A time to the second, in UTC.
    pub(crate) fn time(time: Timestamp) -> Self {
        Self::new(time.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }

    /// A time that may be absent.
    pub(crate) fn optional_time(time: Option<Timestamp>) -> Self {
        time.map_or_else(|| Self::optional(None::<String>), Self::time)
    }

    /// Several values, one beside the other.
    pub(crate) fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> Self {
        let text = values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
        Self::optional((!text.is_empty()).then_some(text))
    }
}

/// Something that is shown as a row of a list, and by itself as a list of fields.
pub(crate) trait Tabular {
    /// The columns of a list.
    const COLUMNS: &'static [&'static str];

    /// The values in these columns.
    fn row(&self) -> Vec<Cell>;

    /// All that there is to say about one, as name and value.
    fn fields(&self) -> Vec<(&'static str, Cell)>;
}

/// A list as a table, a line each; only the heading where there is nothing.
pub(crate) fn list<T: Tabular>(items: &[T], terminal: bool) -> String {
    let heading = T::COLUMNS.iter().map(|column| column.to_uppercase());
    grid(heading, items.iter().map(Tabular::row), terminal)
}

/// Rows under a heading.
pub(crate) fn grid(
    heading: impl IntoIterator<Item = String>,
    rows: impl IntoIterator<Item = Vec<Cell>>,
    terminal: bool,
) -> String {
    let mut table = table(terminal);
    table.set_header(heading.into_iter().map(|column| {
        let cell = comfy_table::Cell::new(printable(&column));
        if terminal { cell.add_attribute(Attribute::Bold) } else { cell }
    }));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| styled(cell, terminal)));
    }
    render(&mut table)
}

/// One object, a line per field.
pub(crate) fn fields(fields: Vec<(&'static str, Cell)>, terminal: bool) -> String {
    let mut table = table(terminal);
    for (name, cell) in fields {
        let name = comfy_table::Cell::new(name);
        let name = if terminal { name.add_attribute(Attribute::Bold) } else { name };
        table.add_row([name, styled(cell, terminal)]);
    }
    render(&mut table)
}

fn table(terminal: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    // One line each, however long: a terminal breaks lines better than a column of four letters does, and ids stay whole.
    table.set_content_arrangement(ContentArrangement::Disabled);
    if terminal {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    table
}

fn render(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn styled(cell: Cell, terminal: bool) -> comfy_table::Cell {
    let shown = comfy_table::Cell::new(cell.text);
    match cell.tone {
        _ if !terminal => shown,
        Tone::Plain => shown,
        Tone::Good => shown.fg(Color::Green),
        Tone::Busy => shown.fg(Color::Yellow),
        Tone::Bad => shown.fg(Color::Red),
        Tone::Faint => shown.add_attribute(Attribute::Dim),
    }
}

/// Text without control characters but line ends: names and PostgreSQL's messages come from strangers, and must not
/// steer the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|character| *character == '\n' || !character.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, &'static str);

    impl Tabular for Thing {
        const COLUMNS: &'static [&'static str] = &["name", "state", "note"];

        fn row(&self) -> Vec<Cell> {
            vec![Cell::new(self.0), Cell::state(self.1), Cell::optional(None::<String>)]
        }

        fn fields(&self) -> Vec<(&'static str, Cell)> {
            vec![("name", Cell::new(self.0)), ("state", Cell::state(self.1))]
        }
    }

    #[test]
    fn a_list_is_columns_without_frames() {
        let things = [Thing("acme", "active"), Thing("a-longer-name", "failed")];
        let text = list(&things, false);
        assert_eq!(text, "NAME           STATE   NOTE\nacme           active  -\na-longer-name  failed  -\n");
    }

    #[test]
    fn one_object_is_a_line_per_field() {
        assert_eq!(fields(Thing("acme", "active").fields(), false), "name   acme\nstate  active\n");
    }

    #[test]
    fn colours_are_for_terminals_only() {
        let things = [Thing("acme", "failed")];
        assert!(list(&things, true).contains("\u{1b}["));
        assert!(!list(&things, false).contains('\u{1b}'));
    }

    #[test]
    fn a_strangers_text_cannot_steer_the_terminal() {
        assert_eq!(Cell::new("\u{1b}[2Jgone\u{7}").text, "[2Jgone");
        assert_eq!(Cell::new("two\nlines").text, "two\nlines");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        let time: Timestamp = "2013-01-31T10:00:00.123456Z".parse().expect("a time");
        assert_eq!(Cell::time(time).text, "2013-01-31T10:00:00Z");
    }
}
