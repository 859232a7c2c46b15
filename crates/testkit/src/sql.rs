//! The few words of SQL that the other modules share.

use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio_postgres::{Client, Config, NoTls};

/// Runs statements; panics with them and with the server's answer where they fail.
pub(crate) async fn run(client: &Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements).await {
        panic!("{error:?}, in: {statements}");
    }
}

pub(crate) async fn names(client: &Client, query: &str, parameter: &str) -> Vec<String> {
    let rows = client.query(query, &[&parameter]).await.expect("a catalog query of the testkit");
    rows.iter().map(|row| row.get(0)).collect()
}

pub(crate) async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // Ends with the client, or with an error that the client reports as well.
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Letters and digits only, so that it needs no quoting in SQL or in a URL.
pub(crate) fn random_password() -> String {
    rand::rng().sample_iter(Alphanumeric).take(24).map(char::from).collect()
}
