//! How many connections the router has open, by PostgreSQL's own account.

use std::time::Duration;

use tenantry_testkit::Server;
use tokio_postgres::{Client, Error, NoTls};
use tokio_util::sync::CancellationToken;

use crate::CEILING;
use crate::findings::Findings;

/// Sessions of homes, the youngest first.
const SESSIONS: &str = "SELECT pid, backend_start::text FROM pg_stat_activity
                         WHERE backend_type = 'client backend' AND usename LIKE 'h\\_%'";
/// A backend takes a moment to notice that its client is gone: so many looks later it must have.
const LOOKS: usize = 100;
const BETWEEN: Duration = Duration::from_millis(50);

type Session = (i32, String);

/// Looks again and again until told to stop; answers with the most that were there at once, those included that were
/// ending.
pub(crate) async fn watch(servers: &Server, findings: &Findings, stop: &CancellationToken) -> usize {
    let (mut client, mut most, mut above) = (None, 0, Above::default());
    while stop.run_until_cancelled(tokio::time::sleep(BETWEEN)).await.is_some() {
        if let Ok(sessions) = look(&mut client, servers).await {
            most = most.max(sessions.len());
            if above.has_lasted(&sessions) {
                findings.add(format!("{} connections stay open; the ceiling is {CEILING}", above.sessions.len()));
            }
        } else {
            // The server was killed, and every session with it.
            (client, above) = (None, Above::default());
        }
    }
    most
}

/// Sessions that have been open together, in excess of the ceiling, for so many looks.
#[derive(Default)]
struct Above {
    sessions: Vec<Session>,
    looks: usize,
}

impl Above {
    fn has_lasted(&mut self, now: &[Session]) -> bool {
        self.sessions.retain(|session| now.contains(session));
        if self.sessions.len() > CEILING as usize {
            self.looks += 1;
        } else {
            *self = Self { sessions: now.to_vec(), looks: 0 };
        }
        self.looks == LOOKS
    }
}

async fn look(client: &mut Option<Client>, servers: &Server) -> Result<Vec<Session>, Error> {
    let asked = if let Some(client) = client {
        client
    } else {
        let (connected, connection) = servers.config().connect(NoTls).await?;
        // Ends with the client.
        tokio::spawn(connection);
        client.insert(connected)
    };
    let rows = asked.query(SESSIONS, &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
