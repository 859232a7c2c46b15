//! Reading a home: one statement, as the home's read-only role, in a transaction that can write nothing.
//!
//! The statement is first parsed alone, over the protocol that takes one statement at a time: several are refused, and so is
//! whatever returns no rows, such as `SET`, `COMMIT` or `DO`. It then runs in a read-only transaction in which a snapshot was
//! taken before, so that no statement can make it writable, and the session ends with it. Rows come as PostgreSQL writes
//! them and are read one by one: the server waits while nobody takes them.

use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Number, Value};
use tenantry_domain::{Generation, Home, Secret, TenantId};
use tokio_postgres::error::{DbError, ErrorPosition};
use tokio_postgres::types::{Kind, Type};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow, SimpleQueryStream};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::literal;
use crate::session::{Login, Session, StatementFailure};
use crate::target::ClusterTarget;

/// The most that one row may hold.
const ROW_BYTES_MAX: usize = 256 * 1024;
/// More digits than this do not survive in a JSON number for everybody.
const DIGITS_MAX: usize = 15;

/// What to read, of whom.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The tenant expected in the home.
    pub tenant: TenantId,
    /// The generation expected there.
    pub generation: Generation,
    /// The statement.
    pub sql: &'a str,
    /// The longest that it may run.
    pub statement_timeout: Duration,
}

/// Why a statement came to no end.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// The statement, or the home's data, is to blame.
    #[error("{}", .0.message)]
    Refused(Box<ReadingFailure>),
    /// It could not be asked.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// PostgreSQL's words, or ours where it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingFailure {
    /// SQLSTATE, where PostgreSQL refused.
    pub sqlstate: Option<String>,
    /// The primary message.
    pub message: String,
    /// The detail, if any.
    pub detail: Option<String>,
    /// The hint, if any.
    pub hint: Option<String>,
    /// The character of the statement, from 1, where PostgreSQL told one.
    pub position: Option<u32>,
}

/// The rows of a statement, as they come. Dropped before the end, the statement is cancelled.
pub struct Rows {
    // Dropped first: the session then asks the server to stop.
    stream: Pin<Box<SimpleQueryStream>>,
    session: Session,
    columns: Vec<(String, Type)>,
}

impl Fleet {
    /// Begins to read a home. `StampMismatch` when it is not the tenant's, or does not serve it now.
    pub async fn read(
        &self,
        target: &ClusterTarget,
        home: &Home,
        read_only_password: &Secret,
        reading: &Reading<'_>,
    ) -> Result<Rows, ReadingError> {
        let tls = self.tls(target)?;
        let names = home.names();
        let login = Login {
            endpoint: &target.endpoint,
            tls: &tls,
            user: names.read_only.as_str(),
            password: read_only_password,
            database: home.database.as_str(),
            application_name: self.application_name(Some(home.id)),
            connect_timeout: self.config().connect_timeout,
            statement_timeout: reading.statement_timeout,
            lock_timeout: reading.statement_timeout,
            idle_timeout: None,
        };
        let mut session = Session::open(login).await?;
        let tenant = literal(&reading.tenant.to_string());
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT tenantry.attach({tenant}, {});",
            reading.generation
        );
        session.batch("attach to the home", &begin).await?;
        let columns = session.describe(reading.sql).await.map_err(sorted)?;
        check(&columns)?;
        let stream = Box::pin(session.stream(reading.sql).await.map_err(sorted)?);
        Ok(Rows { stream, session, columns })
    }
}

impl Rows {
    /// The names of the columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    /// The next row: a value for each column.
    pub async fn next(&mut self) -> Result<Option<Vec<Value>>, ReadingError> {
        while let Some(message) = self.stream.next().await {
            match message {
                Ok(SimpleQueryMessage::Row(row)) => return self.values(&row).map(Some),
                Ok(_) => {}
                Err(error) => {
                    self.session.end_stream();
                    return Err(sorted(StatementFailure::Answered(error)));
                }
            }
        }
        self.session.end_stream();
        Ok(None)
    }

    fn values(&self, row: &SimpleQueryRow) -> Result<Vec<Value>, ReadingError> {
        let mut bytes = 0;
        let mut values = Vec::with_capacity(self.columns.len());
        for (index, (_, kind)) in self.columns.iter().enumerate() {
            let text = row.try_get(index).map_err(|error| sorted(StatementFailure::Answered(error)))?;
            bytes += text.map_or(0, str::len);
            if bytes > ROW_BYTES_MAX {
                let kibibytes = ROW_BYTES_MAX / 1024;
                return Err(refused(format!("a row holds more than {kibibytes} KiB; select less of it")));
            }
            values.push(text.map_or(Value::Null, |text| value(kind, text)));
        }
        Ok(values)
    }
}

fn check(columns: &[(String, Type)]) -> Result<(), ReadingError> {
    if columns.is_empty() {
        let message = "the statement returns no columns; only what reads is run, such as SELECT, SHOW or EXPLAIN";
        return Err(refused(message.to_owned()));
    }
    for (index, (name, _)) in columns.iter().enumerate() {
        if columns[..index].iter().any(|(before, _)| before == name) {
            return Err(refused(format!("two columns are called `{name}`; give one another name with AS")));
        }
    }
    Ok(())
}

fn refused(message: String) -> ReadingError {
    let failure = ReadingFailure { sqlstate: None, message, detail: None, hint: None, position: None };
    ReadingError::Refused(Box::new(failure))
}

fn sorted(cause: StatementFailure) -> ReadingError {
    match &cause {
        StatementFailure::Answered(error) if error.as_db_error().is_some_and(is_about_the_statement) => {
            let said = error.as_db_error().map(ReadingFailure::from);
            said.map_or_else(|| cause.sorted("run the statement").into(), |said| ReadingError::Refused(Box::new(said)))
        }
        _ => cause.sorted("run the statement").into(),
    }
}

/// Not the server that stops.
fn is_about_the_statement(said: &DbError) -> bool {
    !said.code().code().starts_with("57P")
}

impl From<&DbError> for ReadingFailure {
    fn from(said: &DbError) -> Self {
        let position = match said.position() {
            Some(ErrorPosition::Original(position)) => Some(*position),
            Some(ErrorPosition::Internal { .. }) | None => None,
        };
        Self {
            sqlstate: Some(said.code().code().to_owned()),
            message: said.message().to_owned(),
            detail: said.detail().map(str::to_owned),
            hint: said.hint().map(str::to_owned),
            position,
        }
    }
}

/// PostgreSQL's text as JSON: booleans, numbers that lose nothing, and JSON as such; everything else stays text.
fn value(kind: &Type, text: &str) -> Value {
    if let Kind::Domain(inner) = kind.kind() {
        return value(inner, text);
    }
    let typed = match *kind {
        Type::BOOL => Some(Value::Bool(text == "t")),
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID => text.parse::<i64>().ok().map(Value::from),
        Type::FLOAT4 | Type::FLOAT8 => text.parse().ok().and_then(Number::from_f64).map(Value::Number),
        Type::NUMERIC => number(text),
        Type::JSON | Type::JSONB => serde_json::from_str(text).ok(),
        _ => None,
    };
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    if text.bytes().filter(u8::is_ascii_digit).count() > DIGITS_MAX {
        return None;
    }
    if text.contains('.') {
        return text.parse().ok().and_then(Number::from_f64).map(Value::Number);
    }
    text.parse::<i64>().ok().map(Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_keep_their_types_and_lose_no_digit() {
        for (kind, text, expected) in [
            (Type::BOOL, "f", json!(false)),
            (Type::INT8, "-9007199254740993", json!(-9_007_199_254_740_993_i64)),
            (Type::FLOAT8, "0.5", json!(0.5)),
            (Type::FLOAT8, "NaN", json!("NaN")),
            (Type::FLOAT8, "-Infinity", json!("-Infinity")),
            (Type::NUMERIC, "12.50", json!(12.5)),
            (Type::NUMERIC, "42", json!(42)),
            (Type::NUMERIC, "12345678901234567890.5", json!("12345678901234567890.5")),
            (Type::NUMERIC, "NaN", json!("NaN")),
            (Type::JSONB, r#"{"a": [1, null]}"#, json!({ "a": [1, null] })),
            (Type::TEXT, "42", json!("42")),
            (Type::TIMESTAMPTZ, "2026-01-01 00:00:00+00", json!("2026-01-01 00:00:00+00")),
            (Type::INT4_ARRAY, "{1,2}", json!("{1,2}")),
        ] {
            assert_eq!(value(&kind, text), expected, "{kind} {text}");
        }
        let domain = Type::new("price".into(), 99_999, Kind::Domain(Type::INT4), "public".into());
        assert_eq!(value(&domain, "7"), json!(7));
    }

    #[test]
    fn what_cannot_be_an_object_is_refused() {
        let column = |name: &str| (name.to_owned(), Type::INT4);
        assert!(check(&[column("a"), column("b")]).is_ok());
        assert!(check(&[]).is_err());
        assert!(check(&[column("a"), column("b"), column("a")]).is_err());
    }
}
