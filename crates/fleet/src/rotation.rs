//! Turning a home's tenant from one login role to the other.
//!
//! PostgreSQL limits the connections of each role by itself. While both login roles are in use, what the one holds is
//! taken from what the other may open, so that the tenant's ceiling holds at every moment.

use std::fmt::Write as _;

use tenantry_domain::{Home, Limits, LoginSlot, Secret};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::Fleet;
use crate::password::{Reader, verifiers};
use crate::quote::{do_block, literal};
use crate::roles::{OUT_OF_USE, connection_limit, defaults, ensure_role, join, name, password_role};
use crate::target::ClusterTarget;

/// How the tenant's connections are divided while both of its login roles are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handover {
    /// Sessions of the role that goes out of use.
    pub held: u32,
    /// Sessions that the role which comes into use may have; `None` for no ceiling.
    pub room: Option<u32>,
}

/// Which sessions of a role are ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// None: they are only counted.
    Patiently,
    /// Those that sit idle outside a transaction.
    Idle,
    /// All of them.
    Now,
}

impl Fleet {
    /// Gives the login role of a slot its password and `LOGIN`. Where there is a ceiling it may open nothing yet:
    /// [`Fleet::hand_over_connections`] says how much.
    pub async fn open_login(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
        password: &Secret,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        let [verifier] = verifiers([(password, Reader::Anyone)]).await?;
        let names = home.names();
        let role = names.login(slot);
        let mut admin = self.admin(target).await?;
        let most = limits.connections.map(|_| 0);
        let mut body = ensure_role(role, &password_role("LOGIN", &verifier, most));
        for (setting, value) in defaults(role, home, limits, admin.server_version()) {
            let _ = writeln!(body, "ALTER ROLE {} SET {setting} = {value};", name(role));
        }
        admin.batch("open the next login role", &fence.guard(&do_block(&body))).await
    }

    /// Gives the read-only role another password. Its sessions stay.
    pub async fn set_read_only_password(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        password: &Secret,
    ) -> Result<(), FleetError> {
        let [verifier] = verifiers([(password, Reader::Anyone)]).await?;
        let sql = format!("ALTER ROLE {} PASSWORD {};\n", name(&home.names().read_only), literal(verifier.expose()));
        self.admin(target).await?.batch("change the read-only password", &fence.guard(&sql)).await
    }

    /// Divides the tenant's connections anew while it turns away from the slot `from`: the old role keeps what it holds,
    /// and room for `latecomers` where there is some; the new one gets the rest. Where nothing is left, the read-only role
    /// lends what it does not use. To be repeated while sessions of the old role end.
    pub async fn hand_over_connections(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        from: LoginSlot,
        latecomers: u32,
        limits: &Limits,
    ) -> Result<Handover, FleetError> {
        let names = home.names();
        let (old, new, readers) = (names.login(from), names.login(from.other()), &names.read_only);
        let look = format!(
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE usename = {0} AND backend_type IS DISTINCT FROM 'parallel worker'),
                    (SELECT count(*) FROM pg_stat_activity WHERE usename = {1} AND backend_type IS DISTINCT FROM 'parallel worker'),
                    (SELECT rolconnlimit FROM pg_roles WHERE rolname = {0}),
                    (SELECT rolconnlimit FROM pg_roles WHERE rolname = {1}),
                    (SELECT rolconnlimit FROM pg_roles WHERE rolname = {2});",
            literal(old.as_str()),
            literal(readers.as_str()),
            literal(new.as_str()),
        );
        let mut admin = self.admin(target).await?;
        let rows = admin.rows("count the home's connections", &look).await?;
        let number = |column| rows.first().and_then(|row| row.get(column)).and_then(|text| text.parse::<i64>().ok());
        let (Some(held), Some(reading)) = (number(0), number(1)) else {
            return Err(FleetError::busy("the home's connections could not be counted"));
        };
        let held_now = u32::try_from(held).unwrap_or(u32::MAX);
        let shares = limits.connection_shares();
        let (Some(all), Some(share)) = (limits.connections, shares.read_only) else {
            return Ok(Handover { held: held_now, room: None });
        };
        let wanted = i64::from(latecomers);
        let division = divide(i64::from(all), i64::from(share), (held, wanted), reading, (number(2), number(4)));
        // What is given up is committed before it is given out.
        let mut lowered = String::new();
        for (role, seen, wanted) in [(old, number(2), division.old), (readers, number(3), division.read_only)] {
            if seen != Some(wanted) {
                let _ = writeln!(lowered, "ALTER ROLE {} CONNECTION LIMIT {wanted};", name(role));
            }
        }
        if !lowered.is_empty() {
            admin.batch("divide the home's connections", &fence.guard(&lowered)).await?;
        }
        if number(4) != Some(division.new) {
            let raised = format!("ALTER ROLE {} CONNECTION LIMIT {};\n", name(new), division.new);
            admin.batch("divide the home's connections", &fence.guard(&raised)).await?;
        }
        Ok(Handover { held: held_now, room: u32::try_from(division.new).ok() })
    }

    /// Takes the login role of a slot out of use; its sessions stay until [`Fleet::end_login_sessions`].
    pub async fn close_login(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
    ) -> Result<(), FleetError> {
        let names = home.names();
        let role = names.login(slot);
        let mut admin = self.admin(target).await?;
        // Who is no superuser sees and ends the sessions of roles that it is a member of.
        let mut sql = do_block(&[join(&admin, target, &[role]), ensure_role(role, OUT_OF_USE)].concat());
        let settings = defaults(role, home, &Limits::default(), admin.server_version());
        for (setting, value) in settings {
            let _ = writeln!(sql, "ALTER ROLE {} SET {setting} = {value};", name(role));
        }
        admin.batch("take the login role out of use", &fence.guard(&sql)).await
    }

    /// Ends sessions of a slot's login role, and says how many there are still. A statement or a transaction that runs is
    /// ended by [`Leaving::Now`] only. `StaleEpoch` for a lease that is over: then nobody's session is ended.
    pub async fn end_login_sessions(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
        leaving: Leaving,
    ) -> Result<u32, FleetError> {
        let names = home.names();
        let condition = match leaving {
            Leaving::Patiently => "false",
            Leaving::Idle => "state = 'idle'",
            Leaving::Now => "true",
        };
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE {condition} AND pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE usename = {} AND backend_type IS DISTINCT FROM 'parallel worker';\n",
            literal(names.login(slot).as_str())
        );
        let sql = fence.guard(&sql);
        let rows = self.admin(target).await?.rows("end sessions of the old login role", &sql).await?;
        // The fence answers with a row of its own first.
        let left = rows.last().and_then(|row| row.get(0)).and_then(|count| count.parse().ok());
        left.ok_or_else(|| FleetError::busy("the sessions of the old login role could not be counted"))
    }

    /// Gives every login role its share again, once one slot alone is in use.
    pub async fn settle_connections(
        &self,
        target: &ClusterTarget,
        fence: &Fence,
        home: &Home,
        slot: LoginSlot,
        limits: &Limits,
    ) -> Result<(), FleetError> {
        let (names, shares) = (home.names(), limits.connection_shares());
        let mut sql = String::new();
        // The one that is out of use first: the sum never exceeds the ceiling.
        let settled = [
            (names.login(slot.other()), 0),
            (names.login(slot), connection_limit(shares.login)),
            (&names.read_only, connection_limit(shares.read_only)),
        ];
        for (role, limit) in settled {
            let _ = writeln!(sql, "ALTER ROLE {} CONNECTION LIMIT {limit};", name(role));
        }
        self.admin(target).await?.batch("give each role its share", &fence.guard(&sql)).await
    }
}

/// `CONNECTION LIMIT`s that add up to the tenant's ceiling at most.
#[derive(Debug, PartialEq, Eq)]
struct Division {
    old: i64,
    new: i64,
    read_only: i64,
}

/// The old role keeps what it holds, with room for some latecomers where that leaves the new one its own, and never gets
/// back what it gave up. The new one keeps what it was given and gets the rest, one at least: the read-only role lends what
/// it does not hold.
fn divide(
    all: i64,
    share: i64,
    (held, latecomers): (i64, i64),
    reading: i64,
    limits: (Option<i64>, Option<i64>),
) -> Division {
    let (old_limit, new_limit) = limits;
    let given = new_limit.unwrap_or(0).max(0);
    let room = (all - held - share.max(reading) - given.max(1)).max(0);
    let wanted = held + latecomers.min(room);
    let old = old_limit.filter(|limit| *limit >= 0).map_or(wanted, |limit| limit.min(wanted));
    // Sessions above a limit that was lowered meanwhile count too.
    let taken = old.max(held);
    let read_only = share.min((all - taken - given.max(1)).max(reading));
    Division { old, new: (all - taken - read_only.max(reading)).max(given), read_only }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_holds_whatever_the_roles_hold() {
        for all in 1..40_i64 {
            let limits = Limits { connections: u32::try_from(all).ok(), ..Limits::default() };
            let share = i64::from(limits.connection_shares().read_only.expect("a ceiling"));
            for held in 0..=(all - share) {
                for reading in 0..=share {
                    for late in 0..3 {
                        let it = divide(all, share, (held, late), reading, (Some(all - share), Some(0)));
                        assert!(it.new + it.old + it.read_only <= all, "{all} {held} {reading} {late}: {it:?}");
                        assert!(it.new + held + reading <= all, "{all} {held} {reading} {late}: {it:?}");
                        assert!(it.old <= held + late && it.read_only <= share);
                        let alone = divide(all, share, (held, 0), reading, (Some(all - share), Some(0)));
                        assert_eq!(it.new > 0, alone.new > 0, "latecomers shut nobody out: {it:?} {alone:?}");
                        // One of the old role's has ended: nothing that was given is taken back, and the sum still holds.
                        let left = (held - 1).max(0);
                        for late in 0..=late {
                            let next = divide(all, share, (left, late), reading, (Some(it.old), Some(it.new)));
                            let sum = next.new + left.max(next.old) + next.read_only;
                            assert!(next.new >= it.new && sum <= all, "{it:?} {next:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_new_role_gets_in_unless_all_is_held() {
        let first = |all, share, held, reading| divide(all, share, (held, 0), reading, (Some(all - share), Some(0)));
        assert_eq!(first(10, 2, 3, 0), Division { old: 3, new: 5, read_only: 2 });
        assert_eq!(first(10, 2, 8, 0), Division { old: 8, new: 1, read_only: 1 });
        assert_eq!(first(10, 2, 8, 2), Division { old: 8, new: 0, read_only: 2 });
        assert_eq!(first(10, 2, 0, 2), Division { old: 0, new: 8, read_only: 2 });
        assert_eq!(first(1, 0, 1, 0), Division { old: 1, new: 0, read_only: 0 });
        let late = divide(10, 2, (3, 2), 0, (Some(8), Some(0)));
        assert_eq!(late, Division { old: 5, new: 3, read_only: 2 });
        assert_eq!(divide(10, 2, (7, 2), 0, (Some(8), Some(0))), Division { old: 7, new: 1, read_only: 2 });
    }
}
