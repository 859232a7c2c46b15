//! Conditions that a list query has only when they are asked for.
//!
//! The statement is planned for the values at hand: a prepared one for all combinations would get a plan that suits none.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::error::StoreError;

/// A `WHERE` clause under construction. Values are always parameters, never text.
#[derive(Default)]
pub(crate) struct Filter {
    clauses: Vec<String>,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Filter {
    /// Adds a condition; each `?` in it stands for the value.
    pub(crate) fn and(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static, kind: Type) {
        self.values.push((Box::new(value), kind));
        self.clauses.push(condition.replace('?', &format!("${}", self.values.len())));
    }

    /// Runs `select … WHERE … order LIMIT limit` in one round trip.
    pub(crate) async fn query(
        mut self,
        client: &ClientWrapper,
        select: &str,
        order: &str,
        limit: i64,
    ) -> Result<Vec<Row>, StoreError> {
        let condition = if self.clauses.is_empty() { "true".to_owned() } else { self.clauses.join(" AND ") };
        self.values.push((Box::new(limit), Type::INT8));
        let sql = format!("{select} WHERE {condition} {order} LIMIT ${}", self.values.len());
        let values: Vec<(&(dyn ToSql + Sync), Type)> =
            self.values.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        Ok(client.query_typed(&sql, &values).await?)
    }
}
