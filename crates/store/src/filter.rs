//! Conditions that a list query has only when they are asked for.
//!
//! The statement is planned for the values at hand: a prepared one for all combinations would get a plan that suits none.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::connection::Connection;
use crate::error::StoreError;

/// A `WHERE` clause under construction. Values are always parameters, never text.
#[derive(Default)]
pub(crate) struct Filter {
    clauses: Vec<String>,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Filter {
    /// Adds a condition; each `?` in it stands for the value, and each `??` for a question mark.
    pub(crate) fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        let value = format!("${}", self.values.len());
        let parts: Vec<String> = condition.split("??").map(|part| part.replace('?', &value)).collect();
        self.clauses.push(parts.join("?"));
    }

    /// Adds a condition without a value.
    pub(crate) fn and_always(&mut self, condition: &str) {
        self.clauses.push(condition.to_owned());
    }

    /// Runs `select … WHERE … order LIMIT limit` in one round trip.
    pub(crate) async fn query(
        self,
        client: &Connection,
        select: &str,
        order: &str,
        limit: i64,
    ) -> Result<Vec<Row>, StoreError> {
        self.query_within(client, select, order, limit, |page| page).await
    }

    /// The same as a part of a larger statement, which `around` makes of it.
    pub(crate) async fn query_within(
        mut self,
        client: &Connection,
        select: &str,
        order: &str,
        limit: i64,
        around: impl FnOnce(String) -> String,
    ) -> Result<Vec<Row>, StoreError> {
        let condition = if self.clauses.is_empty() { "true".to_owned() } else { self.clauses.join(" AND ") };
        self.values.push((Box::new(limit), Type::INT8));
        let sql = around(format!("{select} WHERE {condition} {order} LIMIT ${}", self.values.len()));
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        Ok(client.query_typed(&sql, &values).await?)
    }
}
