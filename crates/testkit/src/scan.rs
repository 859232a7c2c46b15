//! What is on a server, for asserting that nothing was left there.

use tokio_postgres::Client;

use crate::sql;

/// The databases whose names start with `prefix`, in order.
pub async fn databases_like(client: &Client, prefix: &str) -> Vec<String> {
    sql::names(client, "SELECT datname FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1", prefix).await
}

/// The roles whose names start with `prefix`, in order.
pub async fn roles_like(client: &Client, prefix: &str) -> Vec<String> {
    sql::names(client, "SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1) ORDER BY 1", prefix).await
}

/// The replication slots whose names start with `prefix`, in order.
pub async fn slots_like(client: &Client, prefix: &str) -> Vec<String> {
    let query = "SELECT slot_name FROM pg_replication_slots WHERE starts_with(slot_name, $1) ORDER BY 1";
    sql::names(client, query, prefix).await
}
