//! Rows of tenants to create, from CSV or from JSON lines.

use serde_json::{Map, Value};
use tenantry_api::bulk::ROWS_MAX;
use tenantry_api::{Code, CreateTenant, Problem};

use super::bulk::parsed;
use super::problem::Refusal;

/// A tenant to create, or why the row is none.
pub(crate) type BulkRow = Result<CreateTenant, Box<Problem>>;

/// Columns that stand for a field of the same name.
const FIELDS: [&str; 10] =
    ["slug", "name", "plan", "region", "isolation", "parent", "cluster", "seed", NO_SEED, "trial_ends_at"];
/// The one field among them that is no text.
const NO_SEED: &str = "no_seed";
const LABEL: &str = "label.";
const OVERRIDE: &str = "override.";

/// One JSON value in each line; empty lines are passed over.
pub(crate) fn of_json_lines(body: &[u8]) -> Result<Vec<BulkRow>, Refusal> {
    let mut rows = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        check_count(rows.len())?;
        rows.push(parsed(line));
    }
    check_some(rows)
}

/// Rows under a heading. An empty value is an absent one.
pub(crate) fn of_csv(body: &[u8]) -> Result<Vec<BulkRow>, Refusal> {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(body);
    let heading = reader.headers().map_err(|error| unreadable(&error))?.clone();
    check_heading(&heading)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        check_count(rows.len())?;
        rows.push(match record {
            Ok(record) if record.len() > heading.len() => {
                unusable(format!("The row has {} values, but the heading {} columns.", record.len(), heading.len()))
            }
            Ok(record) => row(&heading, &record),
            Err(error) => return Err(unreadable(&error)),
        });
    }
    check_some(rows)
}

fn row(heading: &csv::StringRecord, record: &csv::StringRecord) -> BulkRow {
    let (mut fields, mut labels, mut overrides) = (Map::new(), Map::new(), Map::new());
    for (column, value) in heading.iter().zip(record.iter()).filter(|(_, value)| !value.is_empty()) {
        if let Some(key) = column.strip_prefix(LABEL) {
            labels.insert(key.to_owned(), value.into());
        } else if let Some(limit) = column.strip_prefix(OVERRIDE) {
            overrides.insert(limit.to_owned(), scalar(value));
        } else if column == NO_SEED {
            fields.insert(column.to_owned(), scalar(value));
        } else {
            fields.insert(column.to_owned(), value.into());
        }
    }
    for (name, values) in [("labels", labels), ("overrides", overrides)] {
        if !values.is_empty() {
            fields.insert(name.to_owned(), Value::Object(values));
        }
    }
    match serde_json::to_vec(&fields) {
        Ok(body) => parsed(&body),
        Err(error) => unusable(error.to_string()),
    }
}

/// Numbers and booleans as such, everything else as text.
fn scalar(value: &str) -> Value {
    let read = serde_json::from_str::<Value>(value).ok();
    read.filter(|value| value.is_number() || value.is_boolean()).unwrap_or_else(|| Value::String(value.to_owned()))
}

fn check_heading(heading: &csv::StringRecord) -> Result<(), Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    for column in heading {
        let is_known = FIELDS.contains(&column)
            || [LABEL, OVERRIDE].iter().any(|prefix| column.len() > prefix.len() && column.starts_with(prefix));
        if !is_known {
            let message =
                format!("there is no such column; use {}, label.<key> or override.<limit>", FIELDS.join(", "));
            return Err(Refusal::invalid(column.chars().take(64).collect::<String>(), message));
        }
        if !seen.insert(column) {
            return Err(Refusal::invalid(column, "the column is there twice"));
        }
    }
    if seen.contains("slug") {
        Ok(())
    } else {
        Err(Refusal::invalid("slug", "the heading lacks this column; the first line names the columns"))
    }
}

fn check_count(rows: usize) -> Result<(), Refusal> {
    if rows < ROWS_MAX {
        return Ok(());
    }
    let detail = format!("There are more than {ROWS_MAX} rows; send them in several calls.");
    Err(Refusal::new(Code::PayloadTooLarge, detail))
}

fn check_some(rows: Vec<BulkRow>) -> Result<Vec<BulkRow>, Refusal> {
    if rows.is_empty() {
        return Err(Refusal::new(Code::InvalidRequest, "There is no row; send one for each tenant."));
    }
    Ok(rows)
}

fn unreadable(error: &csv::Error) -> Refusal {
    Refusal::new(Code::InvalidRequest, format!("This is no CSV in UTF-8 with a heading: {error}."))
}

fn unusable(detail: String) -> BulkRow {
    Err(Box::new(Problem::new(Code::InvalidRequest, detail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_by_its_heading_and_a_bad_one_spoils_no_other() {
        let csv = "\u{feff}slug, plan,label.tier,override.connections,trial_ends_at,no_seed\r\n\
                   acme,team,gold,50,2030-01-01T00:00:00Z,true\r\n\
                   Not A Slug,,,,\r\n\
                   bolt,,,many,\r\n\
                   \"coal\",,,,,,,\r\n\
                   dust\r\n\
                   elm,,,,,maybe\r\n";
        let rows = of_csv(csv.as_bytes()).expect("readable");
        assert_eq!(rows.len(), 6);
        let first = rows[0].as_ref().expect("valid");
        assert_eq!((first.slug.as_str(), first.labels.as_map()["tier"].as_str()), ("acme", "gold"));
        assert_eq!(first.overrides.limits.connections, Some(50));
        assert!(first.trial_ends_at.is_some() && first.no_seed);
        assert_eq!(rows[1].as_ref().expect_err("no slug").errors[0].pointer, "/slug");
        assert!(rows[2].as_ref().expect_err("no number").errors[0].pointer.starts_with("/overrides"));
        assert!(rows[3].is_err() && rows[4].as_ref().is_ok_and(|row| !row.no_seed));
        assert_eq!(rows[5].as_ref().expect_err("no switch").errors[0].pointer, "/no_seed");
    }

    #[test]
    fn a_heading_that_is_none_is_refused_as_a_whole() {
        for csv in [
            "",
            "acme,team\n",
            "slug,colour\nacme,red\n",
            "slug,slug\na,b\n",
            "slug,label.\na,b\n",
            "slug\n",
            "name\nx\n",
        ] {
            assert!(of_csv(csv.as_bytes()).is_err(), "{csv}");
        }
        assert!(of_csv(b"slug\n\xff\n").is_err());
    }

    #[test]
    fn json_lines_are_read_one_by_one() {
        let rows =
            of_json_lines(b"{\"slug\":\"acme\"}\n\n{\"slug\":7}\r\nnonsense\n{\"slug\":\"bolt\"}").expect("lines");
        assert_eq!(rows.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        assert!(of_json_lines(b"\n \n").is_err());
        let many = "{\"slug\":\"a\"}\n".repeat(ROWS_MAX + 1);
        assert_eq!(of_json_lines(many.as_bytes()).expect_err("too many").status().as_u16(), 413);
    }
}
