//! How many connections the router has open, by PostgreSQL's own account and the kernel's.

use std::collections::HashSet;
use std::time::Duration;

use tenantry_testkit::Server;
use tokio_postgres::{Client, Error, NoTls};
use tokio_util::sync::CancellationToken;

use crate::CEILING;
use crate::findings::Findings;

/// The clients of homes' sessions. A backend takes a moment to notice that its client is gone.
const CLIENTS: &str = "SELECT client_port FROM pg_stat_activity
                        WHERE backend_type = 'client backend' AND usename LIKE 'h\\_%'";
const BETWEEN: Duration = Duration::from_millis(10);
/// The kernel's word for a connection that neither side has closed.
const ESTABLISHED: &str = "01";

/// Looks again and again until told to stop; answers with the most that were open at once.
pub(crate) async fn watch(servers: &Server, findings: &Findings, stop: &CancellationToken) -> usize {
    let (mut client, mut most) = (None, 0);
    while stop.run_until_cancelled(tokio::time::sleep(BETWEEN)).await.is_some() {
        let Ok(clients) = look(&mut client, servers).await else {
            // The server was killed.
            client = None;
            continue;
        };
        // Whatever was a session then and is connected now was open all the time between.
        let connected = connected_to(servers.address().port());
        let open = clients.iter().filter(|port| connected.contains(port)).count();
        if open > CEILING as usize {
            findings.add(format!("{open} connections are open at once; the ceiling is {CEILING}"));
        }
        most = most.max(open);
    }
    most
}

/// The ports of this machine that are connected to one of its own.
fn connected_to(port: u16) -> HashSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let port_of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let connected = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        (state == ESTABLISHED && port_of(remote)? == port).then(|| port_of(local))?
    };
    table.lines().filter_map(connected).collect()
}

async fn look(client: &mut Option<Client>, servers: &Server) -> Result<Vec<u16>, Error> {
    let asked = if let Some(client) = client {
        client
    } else {
        let (connected, connection) = servers.config().connect(NoTls).await?;
        // Ends with the client.
        tokio::spawn(connection);
        client.insert(connected)
    };
    let rows = asked.query(CLIENTS, &[]).await?;
    Ok(rows.iter().filter_map(|row| u16::try_from(row.get::<_, i32>(0)).ok()).collect())
}
