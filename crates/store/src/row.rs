//! From rows to values, with errors that name the column.

use std::str::FromStr;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use crate::connection::Connection;
use crate::error::StoreError;

/// The column's value.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, StoreError> {
    row.try_get(column).map_err(StoreError::from)
}

/// A text column, parsed by the domain's own constructor.
pub(crate) fn parsed<T: FromStr>(row: &Row, column: &str) -> Result<T, StoreError>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    get::<&str>(row, column)?.parse().map_err(StoreError::internal)
}

/// A `jsonb` column.
pub(crate) fn json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, StoreError> {
    serde_json::from_value(get(row, column)?).map_err(StoreError::internal)
}

/// A count as the domain has it.
pub(crate) fn count(row: &Row, column: &str) -> Result<u32, StoreError> {
    u32::try_from(get::<i64>(row, column)?).map_err(StoreError::internal)
}

pub(crate) fn time(row: &Row, column: &str) -> Result<Timestamp, StoreError> {
    get(row, column)
}

pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(value).map_err(StoreError::internal)
}

/// All rows of a statement that is prepared once per connection.
pub(crate) async fn query(
    client: &Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, StoreError> {
    client.in_turn(sql, async |statement| client.query(&statement, parameters).await).await
}

/// The row of a statement, if there is one.
pub(crate) async fn query_opt(
    client: &Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Option<Row>, StoreError> {
    client.in_turn(sql, async |statement| client.query_opt(&statement, parameters).await).await
}

/// The one row of a statement.
pub(crate) async fn query_one(
    client: &Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Row, StoreError> {
    client.in_turn(sql, async |statement| client.query_one(&statement, parameters).await).await
}

/// How many rows a statement changed.
pub(crate) async fn execute(
    client: &Connection,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<u64, StoreError> {
    client.in_turn(sql, async |statement| client.execute(&statement, parameters).await).await
}
