//! `tenantry query`: the same question to many tenants.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::Value;
use tenantry_api::{
    FleetQuery, ListTenants, QueryConcurrency, QueryLine, QueryRow, QueryRowsMax, QuerySummary, QueryTimeLimit,
    QueryTimeoutMs, QueryValues, TenantRef,
};

use super::arguments::duration;
use super::error::CliError;
use super::filter::{FILTERS, FilterArguments};
use super::output::Output;
use super::table::Cell;
use super::{Context, examples, reason};

/// The most that is read of a file: the control plane takes no more.
const BYTES_MAX: u64 = 100_001;
/// Rows of a table, which is shown when all are there. Whoever wants more asks for lines.
const TABLE_ROWS_MAX: usize = 10_000;
/// Failures, and skipped tenants, that are named.
const NAMED_MAX: u64 = 20;

/// What to ask, and whom.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("statement").required(true).multiple(false).args(["sql", "file"]))]
#[command(group = ArgGroup::new("whom").required(true).multiple(true).args([
    "all", "tenants", "status", "plan", "region", "isolation", "cluster", "below", "labels", "slug_prefix",
]))]
#[command(after_help = examples!(
    "tenantry query --all 'SELECT count(*) AS flights FROM flights'",
    "tenantry query --label tier=gold --region eu 'SELECT max(departure) FROM flights' --output json",
    "tenantry query --tenant acme --tenant globex --file report.sql --csv > report.csv",
    "echo 'SELECT version FROM refinery_schema_history' | tenantry query --all -",
    "",
    "One statement that reads; its names are looked for in each tenant's own schema. Nothing can be written or left behind.",
    "Each row bears its tenant. JSON comes line by line, as it is answered. Tenants that are suspended or moving are skipped.",
    "Exits with 0 when all that were asked have answered, 3 if some have not. Needs a token with the scope admin.",
))]
pub(crate) struct QueryArguments {
    /// The statement; `-` for standard input
    #[arg(value_name = "SQL")]
    sql: Option<String>,
    /// A file that holds the statement
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// All tenants
    #[arg(long, conflicts_with = "tenants", conflicts_with_all = FILTERS)]
    all: bool,
    /// This tenant, by slug or id; may be repeated
    #[arg(long = "tenant", value_name = "TENANT", conflicts_with_all = FILTERS)]
    tenants: Vec<TenantRef>,
    #[command(flatten)]
    filter: FilterArguments,
    /// How many tenants are asked at the same time, 1 to 64
    #[arg(long, value_name = "NUMBER", default_value = "16", value_parser = concurrency)]
    concurrency: QueryConcurrency,
    /// How many of them on one cluster
    #[arg(long, value_name = "NUMBER", default_value = "8", value_parser = concurrency)]
    per_cluster: QueryConcurrency,
    /// The longest that the statement may run for one tenant, 10 minutes at most
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = duration)]
    statement_timeout: Duration,
    /// After which time no more tenants are asked, an hour at most
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = duration)]
    time_limit: Duration,
    /// Most rows of one tenant
    #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = rows)]
    rows_max: QueryRowsMax,
    /// Rows as comma-separated values under a heading
    #[arg(long)]
    csv: bool,
}

impl QueryArguments {
    pub(crate) async fn run(self, context: &Context) -> Result<(), CliError> {
        if self.csv && context.output.is_json() {
            return Err(CliError::usage("choose one of --csv and --output json"));
        }
        let client = context.client()?;
        let mut answer = client.query(&self.query()?).await?;
        let mut shown = Shown::new(context.output, self.csv);
        let summary = loop {
            match answer.next().await? {
                Some(QueryLine::Summary(summary)) => break summary,
                Some(line) => shown.line(line)?,
                None => {
                    let message = "the answer broke off before its end; try again".to_owned();
                    return Err(CliError::Unsuccessful { message });
                }
            }
        };
        shown.end(summary, self.rows_max)?;
        match summary.failed {
            0 => Ok(()),
            failed => Err(CliError::Query { failed, asked: summary.failed + summary.reached }),
        }
    }

    fn query(&self) -> Result<FleetQuery, CliError> {
        let sql = match (&self.sql, &self.file) {
            (Some(text), _) if text != "-" => text.clone(),
            (Some(_), _) => read(io::stdin().lock(), Path::new("-"))?,
            (None, Some(path)) => {
                let file = std::fs::File::open(path);
                let file =
                    file.map_err(|source| CliError::File { what: "the statement", path: path.clone(), source })?;
                read(file, path)?
            }
            (None, None) => return Err(CliError::usage("give a statement, or a file by --file")),
        };
        let filter = ListTenants::from(self.filter.clone());
        let bound = |error: tenantry_api::query::OutOfBounds| CliError::usage(error.to_string());
        let milliseconds = u64::try_from(self.statement_timeout.as_millis()).unwrap_or(u64::MAX);
        Ok(FleetQuery {
            sql,
            tenants: Some(self.tenants.clone()).filter(|tenants| !tenants.is_empty()),
            filter: Some(filter).filter(|filter| *filter != ListTenants::default()),
            all: self.all,
            concurrency: Some(self.concurrency),
            per_cluster: Some(self.per_cluster),
            statement_timeout_ms: Some(QueryTimeoutMs::new(milliseconds).map_err(bound)?),
            time_limit_seconds: Some(QueryTimeLimit::new(self.time_limit.as_secs()).map_err(bound)?),
            rows_max: Some(self.rows_max),
        })
    }
}

fn read(from: impl Read, path: &Path) -> Result<String, CliError> {
    let mut text = String::new();
    match from.take(BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(source) => Err(CliError::File { what: "the statement", path: path.to_owned(), source }),
    }
}

/// Rows on standard output, everything else beside them.
struct Shown {
    output: Output,
    shape: Shape,
    failed: u64,
    skipped: u64,
}

enum Shape {
    Lines,
    Csv { heading: Option<Vec<String>> },
    Table { columns: Vec<String>, rows: Vec<QueryRow>, left_out: u64 },
}

impl Shown {
    fn new(output: Output, csv: bool) -> Self {
        let shape = if output.is_json() {
            Shape::Lines
        } else if csv {
            Shape::Csv { heading: None }
        } else {
            Shape::Table { columns: Vec::new(), rows: Vec::new(), left_out: 0 }
        };
        Self { output, shape, failed: 0, skipped: 0 }
    }

    fn line(&mut self, line: QueryLine) -> Result<(), CliError> {
        if matches!(self.shape, Shape::Lines) {
            return self.output.entry(&line, "");
        }
        match line {
            QueryLine::Row(row) => return self.row(row),
            QueryLine::Failed(failed) => {
                self.failed += 1;
                if self.failed <= NAMED_MAX {
                    let error = serde_json::to_value(&failed.error).unwrap_or_default();
                    self.output.warning(&format!("{}: {}", failed.tenant, reason::of(&error)));
                }
            }
            QueryLine::Skipped(skipped) => {
                self.skipped += 1;
                if self.skipped <= NAMED_MAX {
                    self.output.note(&format!("{} is skipped: {}", skipped.tenant, skipped.reason));
                }
            }
            QueryLine::Reached(_) | QueryLine::Summary(_) => {}
        }
        Ok(())
    }

    fn row(&mut self, row: QueryRow) -> Result<(), CliError> {
        match &mut self.shape {
            Shape::Lines => {}
            Shape::Csv { heading } => {
                let names: Vec<String> = row.row.0.iter().map(|(name, _)| name.clone()).collect();
                if heading.is_none() {
                    let titles = ["tenant"].into_iter().chain(names.iter().map(String::as_str));
                    self.output.raw(&csv_line(titles))?;
                    *heading = Some(names.clone());
                }
                if heading.as_ref() != Some(&names) {
                    let message = format!(
                        "{} answers with other columns than the tenants before it; name the columns, or use --output json",
                        row.tenant
                    );
                    return Err(CliError::Unsuccessful { message });
                }
                let values: Vec<String> = row.row.0.iter().map(|(_, value)| text(value)).collect();
                let values = [row.tenant.as_str()].into_iter().chain(values.iter().map(String::as_str));
                self.output.raw(&csv_line(values))?;
            }
            Shape::Table { rows, left_out, .. } if rows.len() >= TABLE_ROWS_MAX => *left_out += 1,
            Shape::Table { columns, rows, .. } => {
                for (name, _) in &row.row.0 {
                    if !columns.contains(name) {
                        columns.push(name.clone());
                    }
                }
                rows.push(row);
            }
        }
        Ok(())
    }

    fn end(self, summary: QuerySummary, rows_max: QueryRowsMax) -> Result<(), CliError> {
        match self.shape {
            Shape::Lines => return self.output.entry(&QueryLine::Summary(summary), ""),
            Shape::Csv { .. } => {}
            Shape::Table { columns, rows, left_out } => {
                let heading = ["tenant".to_owned()].into_iter().chain(columns.iter().cloned()).collect::<Vec<_>>();
                self.output.grid(&heading, rows.iter().map(|row| cells(row, &columns)).collect())?;
                if left_out > 0 {
                    self.output.warning(&format!("{left_out} rows are not shown; use --output json or --csv for more"));
                }
            }
        }
        for (what, more) in [("have failed", self.failed), ("are skipped", self.skipped)] {
            if more > NAMED_MAX {
                self.output.note(&format!("{} more tenants {what}.", more - NAMED_MAX));
            }
        }
        if summary.truncated > 0 {
            let (tenants, most) = (summary.truncated, rows_max.get());
            self.output.warning(&format!("{tenants} tenants have more than {most} rows; --rows-max shows more"));
        }
        self.output.note(&format!(
            "{} tenants reached, {} failed, {} skipped; {} rows.",
            summary.reached, summary.failed, summary.skipped, summary.rows
        ));
        Ok(())
    }
}

fn cells(row: &QueryRow, columns: &[String]) -> Vec<Cell> {
    let QueryValues(values) = &row.row;
    let of = |column: &String| values.iter().find(|(name, _)| name == column).map(|(_, value)| value);
    let cell = |column| Cell::optional(of(column).filter(|value| !value.is_null()).map(text));
    [Cell::new(&row.tenant)].into_iter().chain(columns.iter().map(cell)).collect()
}

/// A value as it stands in a table: text without quotation marks, nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// One record of RFC 4180.
fn csv_line<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let quoted = values.map(|value| {
        if value.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", value.replace('"', "\"\""))
        } else {
            value.to_owned()
        }
    });
    let mut line = quoted.collect::<Vec<_>>().join(",");
    line.push_str("\r\n");
    line
}

fn concurrency(text: &str) -> Result<QueryConcurrency, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    QueryConcurrency::new(number).map_err(|error| error.to_string())
}

fn rows(text: &str) -> Result<QueryRowsMax, String> {
    let number = text.parse::<u64>().map_err(|error| error.to_string())?;
    QueryRowsMax::new(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_quoted_where_it_must_be() {
        let line = csv_line(["acme", "a,b", "say \"no\"", "two\nlines", ""].into_iter());
        assert_eq!(line, "acme,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",\r\n");
    }
}
