//! How values on the command line are read.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tenantry_domain::InvalidName;

use super::error::CliError;

/// The words of an enumeration: listed in the help, offered by completions.
pub(crate) fn words<T>(all: impl IntoIterator<Item = impl Into<PossibleValue>>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = InvalidName> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(all).try_map(|text| text.parse::<T>())
}

/// `KEY=VALUE`. The value may be empty and may bear further equals signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// What stands before the first `=`.
    pub(crate) key: String,
    /// What stands after it.
    pub(crate) value: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
            _ => Err("write it as KEY=VALUE".to_owned()),
        }
    }
}

/// Assignments as a map; a key that is given twice keeps its last value.
pub(crate) fn map_of(assignments: Vec<Assignment>) -> BTreeMap<String, String> {
    assignments.into_iter().map(|assignment| (assignment.key, assignment.value)).collect()
}

/// Reads `KEY=VALUE` pairs into a value of the contract: numbers and booleans as such, `removed` keys as null.
pub(crate) fn read_assignments<T: DeserializeOwned>(
    what: &str,
    assignments: &[Assignment],
    removed: &[String],
) -> Result<T, CliError> {
    let mut fields = serde_json::Map::new();
    for Assignment { key, value } in assignments {
        let value = serde_json::from_str::<Value>(value)
            .ok()
            .filter(|value| value.is_number() || value.is_boolean())
            .unwrap_or_else(|| Value::String(value.clone()));
        fields.insert(key.clone(), value);
    }
    fields.extend(removed.iter().map(|key| (key.clone(), Value::Null)));
    serde_json::from_value(Value::Object(fields)).map_err(|error| CliError::usage(format!("{what}: {error}")))
}

/// A span such as `90s`, `10m`, `2h` or `7d`, longer than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match tenantry_runtime::duration::parse(text) {
        Ok(duration) if duration.is_zero() => Err("use a span longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// A time in RFC 3339, or a span before now: `2026-01-31T00:00:00Z`, `2h`.
pub(crate) fn past(text: &str) -> Result<Timestamp, String> {
    moment(text, Timestamp::checked_sub::<Duration>)
}

/// A time in RFC 3339, or a span from now on: `2026-01-31T00:00:00Z`, `30d`.
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    moment(text, Timestamp::checked_add::<Duration>)
}

fn moment(
    text: &str,
    apply: impl FnOnce(Timestamp, Duration) -> Result<Timestamp, jiff::Error>,
) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let span = duration(text).map_err(|_| "write it as 2026-01-31T12:00:00Z, or as a span such as 2h".to_owned())?;
    apply(Timestamp::now(), span).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use tenantry_api::LimitsPatch;
    use tenantry_domain::Limits;

    use super::*;

    fn assignment(text: &str) -> Assignment {
        text.parse().expect("valid")
    }

    #[test]
    fn an_assignment_splits_at_the_first_equals_sign() {
        assert_eq!(assignment("a=b=c"), Assignment { key: "a".to_owned(), value: "b=c".to_owned() });
        assert_eq!(assignment("a=").value, "");
        assert!("a".parse::<Assignment>().is_err());
        assert!("=a".parse::<Assignment>().is_err());
    }

    #[test]
    fn limits_are_read_from_assignments_and_a_wrong_name_is_named() {
        let given = [assignment("connections=50"), assignment("temporary_tables=true")];
        let limits: Limits = read_assignments("--override", &given, &[]).expect("valid");
        assert_eq!((limits.connections, limits.temporary_tables), (Some(50), Some(true)));
        let wrong = read_assignments::<Limits>("--override", &[assignment("conections=1")], &[]);
        assert!(wrong.expect_err("unknown").to_string().contains("conections"));
        let patch: LimitsPatch = read_assignments("--override", &[], &["pool_size".to_owned()]).expect("valid");
        assert_eq!(serde_json::to_string(&patch).expect("serialises"), r#"{"pool_size":null}"#);
    }

    #[test]
    fn spans_have_a_unit_and_are_not_empty() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "0s", "-5m", "soon", "d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_absolute_or_a_span_from_now() {
        let absolute = "2026-01-31T00:00:00Z";
        assert_eq!(past(absolute).expect("valid").to_string(), absolute);
        assert!(past("2h").expect("valid") < Timestamp::now());
        assert!(future("30d").expect("valid") > Timestamp::now());
        assert!(future("someday").is_err());
    }
}
