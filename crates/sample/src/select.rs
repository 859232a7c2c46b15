//! A SELECT put together from fixed pieces of SQL and bound values.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

/// Pieces of SQL are the program's own; whatever comes from a client is bound. Sent unprepared with its types, it costs
/// one round trip.
pub(crate) struct Select {
    sql: String,
    restricted: bool,
    parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Select {
    pub(crate) fn new(sql: &str) -> Self {
        Self { sql: sql.to_owned(), restricted: false, parameters: Vec::new() }
    }

    /// Binds a value; answers its place holder.
    pub(crate) fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, kind: Type) -> String {
        self.parameters.push((Box::new(value), kind));
        format!("${}", self.parameters.len())
    }

    /// Adds a condition that rows must fulfil beside those already there.
    pub(crate) fn restrict(&mut self, condition: &str) {
        self.sql.push_str(if self.restricted { " AND " } else { " WHERE " });
        self.sql.push_str(condition);
        self.restricted = true;
    }

    /// Adds what follows the conditions.
    pub(crate) fn append(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    pub(crate) async fn query(&self, client: &Client) -> Result<Vec<Row>, Error> {
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            self.parameters.iter().map(|(value, kind)| (value.as_ref() as &(dyn ToSql + Sync), kind.clone())).collect();
        client.query_typed(&self.sql, &parameters).await
    }
}

/// A LIKE pattern for texts that start with this one.
pub(crate) fn starts_pattern(text: &str) -> String {
    format!("{}%", escaped(text))
}

/// A LIKE pattern for texts that contain this one.
pub(crate) fn contains_pattern(text: &str) -> String {
    format!("%{}%", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('%', r"\%").replace('_', r"\_")
}
