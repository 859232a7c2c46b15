//! Connections that migrate the homes of a shared database one after the other.
//!
//! They log in as a role of that database which has no right but to connect and to become the owner of a home. Files run
//! where they cannot do the same ([`enclosed`](super::enclosed)), and between two homes the session is reset. Whatever goes
//! wrong, the home is migrated over a connection of its own instead, which also tells what is wrong with a file.
//!
//! The role's password is made up by each process, told to the server by the admin, and written nowhere. Where two
//! processes do so in turn, each sets its own again when it opens a connection.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use tenantry_domain::{DatabaseName, Home, RoleName, Secret};
use tenantry_migration_set::MigrationSet;
use tracing::debug;

use super::belief::Belief;
use super::enclosed::Enclosed;
use super::{ApplyOptions, Brought, Workplace, brought, refinery};
use crate::error::FleetError;
use crate::fleet::{Fleet, TlsKey, locked};
use crate::password::{Reader, random_password, verifiers};
use crate::quote::{do_block, ident, literal};
use crate::roles::{ensure_role, password_role};
use crate::session::Session;
use crate::target::ClusterTarget;
use crate::version::membership_options;

/// Homes that one connection migrates before another takes its place: a backend remembers every table that it saw.
const HOMES_MAX: u32 = 100;
/// Connections of all processes to one database.
const CONNECTIONS: u32 = 64;

/// The shared databases of a cluster, as they are reached.
pub(crate) type SharedMigrators = HashMap<DatabaseName, (TlsKey, Arc<SharedMigrator>)>;

/// What is kept of one shared database; nothing runs for it. The server ends connections that idle.
#[derive(Default)]
pub(crate) struct SharedMigrator {
    /// Absent until the role is set up, and again when it turns out not to be.
    password: tokio::sync::Mutex<Option<Secret>>,
    idle: Mutex<Vec<Kept>>,
}

struct Kept {
    session: Session,
    options: ApplyOptions,
    homes: u32,
}

impl Fleet {
    /// Brings a home to the set over a connection that is kept. Nothing is returned where the home must be migrated over a
    /// connection of its own, which is not wrong then either: whatever happened here, its history tells.
    pub(super) async fn apply_over_kept(
        &self,
        target: &ClusterTarget,
        home: &Home,
        set: &MigrationSet,
        belief: &Belief,
        options: &ApplyOptions,
    ) -> Option<Result<Brought, FleetError>> {
        let workplace = Workplace { migrator: RoleName::shared_migrator(&home.database), ..Workplace::of(home) };
        let migrator = self.shared_migrator(target, &home.database);
        let result = match migrator.take(self, target, &workplace, options).await {
            Ok(mut lent) => {
                let mut enclosed = Enclosed::new(&mut lent, &workplace, set, belief);
                refinery::bring(&mut enclosed, &workplace, set).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(report) => Some(Ok(brought(belief.version, &report))),
            Err(error @ FleetError::Busy { .. }) => Some(Err(error)),
            Err(error) => {
                debug!(%error, home_id = %home.id, "a home is migrated over a connection of its own");
                // Most likely the home was made since the role was set up, or another process has set its password.
                *migrator.password.lock().await = None;
                None
            }
        }
    }
}

impl SharedMigrator {
    async fn take(
        self: &Arc<Self>,
        fleet: &Fleet,
        target: &ClusterTarget,
        workplace: &Workplace,
        options: &ApplyOptions,
    ) -> Result<Lent, FleetError> {
        let password = {
            let mut known = self.password.lock().await;
            match known.as_ref() {
                Some(password) => password.clone(),
                None => known.insert(set_up(fleet, target, workplace).await?).clone(),
            }
        };
        let kept = {
            let mut idle = locked(&self.idle);
            idle.retain(|kept| kept.session.is_reusable());
            let at = idle.iter().rposition(|kept| kept.options == *options);
            at.map(|at| idle.remove(at))
        };
        let kept = match kept {
            Some(mut kept) => {
                kept.session.discard_first();
                kept
            }
            None => {
                Kept { session: open(fleet, target, workplace, &password, options).await?, options: *options, homes: 0 }
            }
        };
        Ok(Lent { kept: Some(kept), migrator: Arc::clone(self) })
    }
}

/// Gives the role a password that this process knows, and makes it a member of the owners of all homes that there are.
async fn set_up(fleet: &Fleet, target: &ClusterTarget, workplace: &Workplace) -> Result<Secret, FleetError> {
    let Workplace { database, migrator, .. } = workplace;
    let password = random_password();
    let [verifier] = verifiers([(&password, Reader::Ourselves)]).await?;
    let mut admin = fleet.admin(target).await?;
    let role = ensure_role(migrator, &password_role("LOGIN NOINHERIT", &verifier, Some(CONNECTIONS)));
    let become_owner = format!("GRANT %I TO %I{}", membership_options(admin.server_version()));
    let sql = format!(
        "{}GRANT CONNECT ON DATABASE {} TO {};\nDO {};\n",
        do_block(&role),
        ident(database.as_str()),
        ident(migrator.as_str()),
        literal(&format!(
            "DECLARE owner record;
BEGIN
FOR owner IN SELECT r.rolname FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.member
  WHERE a.roleid = {homes}::pg_catalog.regrole AND r.rolname ~ '^h_[0-9a-f]{{32}}_owner$'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members b
                     WHERE b.roleid = r.oid AND b.member = {migrator}::pg_catalog.regrole)
LOOP EXECUTE pg_catalog.format({become_owner}, owner.rolname, {name}); END LOOP;
END",
            homes = literal(&ident(RoleName::shared_homes(database).as_str())),
            migrator = literal(&ident(migrator.as_str())),
            become_owner = literal(&become_owner),
            name = literal(migrator.as_str()),
        ))
    );
    admin.batch("set up the role that migrates a shared database", &sql).await?;
    Ok(password)
}

/// Bears no home's name, because it goes on to others.
async fn open(
    fleet: &Fleet,
    target: &ClusterTarget,
    workplace: &Workplace,
    password: &Secret,
    options: &ApplyOptions,
) -> Result<Session, FleetError> {
    let anywhere = Workplace { home: None, ..workplace.clone() };
    fleet.migrator(target, &anywhere, password, options).await
}

/// A connection that goes back when it is dropped, unless something went wrong on it or it has seen many homes.
struct Lent {
    kept: Option<Kept>,
    migrator: Arc<SharedMigrator>,
}

impl Deref for Lent {
    type Target = Session;

    fn deref(&self) -> &Session {
        match &self.kept {
            Some(kept) => &kept.session,
            None => unreachable!("the session is taken in drop only"),
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Session {
        match &mut self.kept {
            Some(kept) => &mut kept.session,
            None => unreachable!("the session is taken in drop only"),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(mut kept) = self.kept.take()
            && kept.session.is_reusable()
            && kept.homes + 1 < HOMES_MAX
        {
            kept.homes += 1;
            locked(&self.migrator.idle).push(kept);
        }
    }
}
