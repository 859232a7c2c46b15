//! Handing a home that was made beforehand to its tenant.

use std::fmt::Write as _;

use crate::error::FleetError;
use crate::fleet::Fleet;
use crate::home::{HomeSpec, temporary_tables};
use crate::quote::ident;
use crate::roles::{MIGRATOR_CONNECTIONS, connection_limit, settings};
use crate::target::ClusterTarget;

impl Fleet {
    /// Lets the roles of a home in that was made without a stamp ([`Fleet::ensure_home`]), gives them the tenant's limits
    /// and writes the stamp. Passwords stay as they were set, so nothing is hashed here. Roles and stamp are changed side
    /// by side: nobody is served before both are, because a route is published after this.
    pub async fn claim_home(&self, target: &ClusterTarget, spec: &HomeSpec<'_>) -> Result<(), FleetError> {
        let HomeSpec { home, fence, secrets, limits, stamp, .. } = spec;
        let Some(stamp) = stamp else {
            return Err(FleetError::refused("a home is claimed for a tenant; name one in its stamp"));
        };
        let (names, shares) = (home.names(), limits.connection_shares());
        let mut sql = String::new();
        for (role, most) in [
            (names.login(secrets.slot), shares.login),
            (&names.read_only, shares.read_only),
            (&names.migrator, Some(MIGRATOR_CONNECTIONS)),
        ] {
            let limit = connection_limit(most);
            let _ = writeln!(sql, "ALTER ROLE {} LOGIN CONNECTION LIMIT {limit};", ident(role.as_str()));
        }
        sql.push_str(&temporary_tables(home, limits));
        let letting_in = async {
            let mut admin = self.admin(target).await?;
            sql.push_str(&settings(home, limits, admin.server_version()));
            admin.batch("let the tenant into its home", &fence.guard(&sql)).await
        };
        let (let_in, stamped) = futures::future::join(letting_in, self.write_stamp(target, home, fence, stamp)).await;
        let_in.and(stamped)
    }
}
