//! A session in a home, as its tenant has it.

use std::ops::Deref;

use tokio_postgres::{Client, Config, Error, NoTls};

/// A session of one of a home's roles. Ends when it is dropped.
#[derive(Debug)]
pub struct HomeSession {
    client: Client,
    role: String,
}

impl HomeSession {
    /// Logs in, and nothing more.
    pub async fn log_in(config: &Config) -> Result<Self, Error> {
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client, or with an error that the client reports as well.
        tokio::spawn(connection);
        Ok(Self { client, role: config.get_user().unwrap_or_default().to_owned() })
    }

    /// The role that logged in.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Runs statements that must succeed.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{} as {}: {}", describe(&error), self.role, sql);
        }
    }

    /// The SQLSTATE with which statements are refused; panics where they succeed.
    pub async fn refusal(&self, sql: &str) -> String {
        match self.client.batch_execute(sql).await {
            Ok(()) => panic!("{} may do this: {sql}", self.role),
            Err(error) => sqlstate(&error),
        }
    }

    /// The first column of the first row.
    pub async fn one<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        match self.client.query_one(sql, &[]).await {
            Ok(row) => row.get(0),
            Err(error) => panic!("{} as {}: {}", describe(&error), self.role, sql),
        }
    }

    /// The first column of every row, as text.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        match self.client.query(sql, &[]).await {
            Ok(rows) => rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect(),
            Err(error) => panic!("{} as {}: {}", describe(&error), self.role, sql),
        }
    }
}

impl Deref for HomeSession {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// The SQLSTATE of an answer; panics for what is none.
pub fn sqlstate(error: &Error) -> String {
    match error.code() {
        Some(code) => code.code().to_owned(),
        None => panic!("no answer of a server: {error:?}"),
    }
}

fn describe(error: &Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| format!("{error:?}"))
}
