//! Looking at a physical standby: whose it is, and how far it is behind.

use std::time::{Duration, Instant};

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::quote::literal;
use crate::session::Session;
use crate::target::ClusterTarget;

/// How often a standby that is behind is asked again before its own clock has to tell, and how long is waited between.
const LOOKS_MAX: u32 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a server that should be a standby says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSighting {
    /// Of its data directory: a physical standby has that of its primary.
    pub system_identifier: String,
    /// Whether it follows another server.
    pub in_recovery: bool,
    /// How far it is behind, in milliseconds; absent where it is no standby, or has replayed nothing since it started.
    pub lag_ms: Option<u64>,
}

impl Fleet {
    /// How far the server has written its WAL, for [`Fleet::look_at_replica`].
    pub async fn written(&self, target: &ClusterTarget) -> Result<String, FleetError> {
        let sql = "SELECT pg_current_wal_lsn();";
        let rows = self.admin(target).await?.rows("ask how far the server has written", sql).await?;
        let position = rows.first().and_then(|row| row.get(0)).map(str::to_owned);
        position.ok_or_else(|| FleetError::busy("the server does not tell how far it has written"))
    }

    /// Looks at a server that should be a standby. It is up to date once it has replayed what its primary had written
    /// (`written`) when the look began; else, and where that is not known, the age of the last transaction that it replayed
    /// counts, which grows also while the primary is idle.
    pub async fn look_at_replica(
        &self,
        replica: &ClusterTarget,
        written: Option<&str>,
    ) -> Result<ReplicaSighting, FleetError> {
        let mut session = self.once(replica, &replica.admin_database, None).await?;
        let began = Instant::now();
        let mut look = 1;
        loop {
            let seen = sight(&mut session, written).await?;
            let caught_up = seen.has_replayed.then(|| if look == 1 { Duration::ZERO } else { began.elapsed() });
            if caught_up.is_some() || !seen.in_recovery || written.is_none() || look == LOOKS_MAX {
                let lag = caught_up.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)).or(seen.age_ms);
                return Ok(ReplicaSighting {
                    system_identifier: seen.system_identifier,
                    in_recovery: seen.in_recovery,
                    lag_ms: lag.filter(|_| seen.in_recovery),
                });
            }
            look += 1;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

struct Sight {
    system_identifier: String,
    in_recovery: bool,
    has_replayed: bool,
    age_ms: Option<u64>,
}

async fn sight(session: &mut Session, written: Option<&str>) -> Result<Sight, FleetError> {
    let written = written.map_or_else(|| "NULL".to_owned(), literal);
    let sql = format!(
        "SELECT (SELECT system_identifier FROM pg_control_system()), pg_is_in_recovery(),
                pg_last_wal_replay_lsn() >= {written}::pg_lsn,
                floor(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint;"
    );
    let rows = session.rows("look at the replica", &sql).await?;
    let row = rows.first().ok_or_else(|| FleetError::busy("the replica says nothing of itself"))?;
    Ok(Sight {
        system_identifier: row.get(0).unwrap_or_default().to_owned(),
        in_recovery: row.get(1) == Some("t"),
        has_replayed: row.get(2) == Some("t"),
        // Its clock may be behind its primary's.
        age_ms: row.get(3).and_then(|age| age.parse::<i64>().ok()).map(|age| age.max(0).unsigned_abs()),
    })
}
