//! The stamp: a home's own word on whose it is.
//!
//! One row per home in the table `tenantry.stamp` of its database. Routers call `tenantry.attach(tenant, generation)` as
//! the first thing on a new connection; it raises unless the stamp agrees, and sets the search path. So a router that
//! believes an old route cannot reach the wrong place.

use tenantry_domain::{Generation, Home, Isolation, RoleName, RouteState, TenantId};
use tokio_postgres::error::{DbError, SqlState};

use crate::error::FleetError;
use crate::fence::Fence;
use crate::fleet::{Fleet, Inside};
use crate::quote::{literal, literals};
use crate::target::ClusterTarget;

/// Whose a home is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The tenant.
    pub tenant: TenantId,
    /// Of its placement.
    pub generation: Generation,
    /// Whether the home serves it; anything but `Active` makes `attach` raise.
    pub state: RouteState,
}

impl Fleet {
    /// Writes the stamp. `StaleEpoch` when a later lease or generation has written it.
    pub async fn write_stamp(
        &self,
        target: &ClusterTarget,
        home: &Home,
        fence: &Fence,
        stamp: &Stamp,
    ) -> Result<(), FleetError> {
        let sql = write_plainly(home, *fence, stamp);
        self.inside(target, home).await?.batch_unless("write the stamp", &sql, |error| stale(error, *fence)).await
    }

    /// Reads the stamp; `None` for a home that waits for its tenant.
    pub async fn read_stamp(&self, target: &ClusterTarget, home: &Home) -> Result<Option<Stamp>, FleetError> {
        let sql = format!(
            "SELECT tenant, generation, state FROM tenantry.stamp WHERE home = {};",
            literal(&home.id.to_string())
        );
        let rows = self.inside(target, home).await?.rows("read the stamp", &sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || {
            Some(Stamp {
                tenant: row.get(0)?.parse().ok()?,
                generation: Generation(row.get(1)?.parse().ok()?),
                state: row.get(2)?.parse().ok()?,
            })
        };
        read().map(Some).ok_or_else(|| FleetError::refused("the stamp is unreadable; write it again"))
    }

    /// An admin session inside a home's database: kept where many homes share it, one of its own elsewhere. A database
    /// that is not ours gets none kept, so that we stand in nobody's way there.
    pub(crate) async fn inside(&self, target: &ClusterTarget, home: &Home) -> Result<Inside, FleetError> {
        if home.isolation == Isolation::Schema && !home.is_adopted() {
            Ok(Inside::Shared(self.kept(target, &home.database).await?))
        } else {
            Ok(Inside::Own(self.once(target, &home.database, Some(home.id)).await?))
        }
    }
}

/// Writes a home's stamp; raises for an older lease or generation than the stamp's.
pub(crate) fn write(home: &Home, fence: Fence, stamp: &Stamp) -> String {
    format!(
        "SELECT tenantry.write_stamp({}, {}, {}, {}, {}, {}, ARRAY[{}]::pg_catalog.name[]);\n",
        literal(&home.id.to_string()),
        literal(&stamp.tenant.to_string()),
        stamp.generation,
        literal(stamp.state.as_str()),
        fence.epoch,
        literal(home.schema.as_str()),
        literals(home.names().all().map(RoleName::as_str)),
    )
}

/// The same without a function: in a session that has not run PL/pgSQL yet, loading that costs more than the whole rest of
/// making a home. A stamp that must not be written becomes one that the table's check refuses ([`stale`]).
pub(crate) fn write_plainly(home: &Home, fence: Fence, stamp: &Stamp) -> String {
    format!(
        "INSERT INTO tenantry.stamp AS held (home, tenant, generation, state, epoch, schema_name, roles)
VALUES ({}, {}, {}, {}, {}, {}, ARRAY[{}]::pg_catalog.name[])
ON CONFLICT (home) DO UPDATE SET tenant = EXCLUDED.tenant, state = EXCLUDED.state, epoch = EXCLUDED.epoch,
    schema_name = EXCLUDED.schema_name, roles = EXCLUDED.roles,
    generation = CASE WHEN held.epoch <= EXCLUDED.epoch AND held.generation <= EXCLUDED.generation
                      THEN EXCLUDED.generation ELSE -1 END;\n",
        literal(&home.id.to_string()),
        literal(&stamp.tenant.to_string()),
        stamp.generation,
        literal(stamp.state.as_str()),
        fence.epoch,
        literal(home.schema.as_str()),
        literals(home.names().all().map(RoleName::as_str)),
    )
}

/// Whether the error of [`write_plainly`] says that a later lease or generation has written the stamp.
pub(crate) fn stale(error: &DbError, fence: Fence) -> Option<FleetError> {
    let refused = *error.code() == SqlState::CHECK_VIOLATION && error.constraint() == Some("stamp_generation_check");
    refused.then_some(FleetError::StaleEpoch { home: fence.home, epoch: fence.epoch })
}

/// Makes the table and its functions, for use in a transaction. Repeatable.
///
/// `attach` runs with the caller's own rights, so that the search path that it sets stays set, and so that row-level
/// security shows it the caller's stamp alone. Its first act is a search path that no tenant can write to.
pub(crate) const SETUP: &str = r"
CREATE TABLE IF NOT EXISTS tenantry.stamp (
    home uuid PRIMARY KEY,
    tenant uuid NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    state text NOT NULL CHECK (state IN ('provisioning', 'active', 'suspended', 'moving')),
    epoch bigint NOT NULL,
    schema_name name NOT NULL,
    roles name[] NOT NULL
);
COMMENT ON TABLE tenantry.stamp IS 'Whose each home in this database is; the roles of a home see its row only.';
REVOKE ALL ON TABLE tenantry.stamp FROM PUBLIC;
ALTER TABLE tenantry.stamp ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_row ON tenantry.stamp;
CREATE POLICY own_row ON tenantry.stamp FOR SELECT USING (current_user = ANY (roles));
CREATE OR REPLACE FUNCTION tenantry.attach(wanted_tenant uuid, wanted_generation bigint) RETURNS void
LANGUAGE plpgsql AS $function$
DECLARE
    own tenantry.stamp;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog', false);
    SELECT * INTO own FROM tenantry.stamp WHERE current_user = ANY (roles);
    IF own.tenant IS DISTINCT FROM wanted_tenant OR own.generation IS DISTINCT FROM wanted_generation
        OR wanted_tenant IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'TN001', MESSAGE = 'this is not the placement that the route names',
            HINT = 'The route is stale or foreign; get the current one.';
    END IF;
    IF own.state <> 'active' THEN
        RAISE EXCEPTION USING ERRCODE = 'TN002', MESSAGE = 'the tenant is ' || own.state || ', not active here';
    END IF;
    PERFORM pg_catalog.set_config('search_path', quote_ident(own.schema_name) || ', extensions', false);
END
$function$;
CREATE OR REPLACE FUNCTION tenantry.write_stamp(new_home uuid, new_tenant uuid, new_generation bigint, new_state text,
    new_epoch bigint, new_schema name, new_roles name[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
BEGIN
    INSERT INTO tenantry.stamp AS held
    VALUES (new_home, new_tenant, new_generation, new_state, new_epoch, new_schema, new_roles)
    ON CONFLICT (home) DO UPDATE SET tenant = EXCLUDED.tenant, generation = EXCLUDED.generation,
        state = EXCLUDED.state, epoch = EXCLUDED.epoch, schema_name = EXCLUDED.schema_name, roles = EXCLUDED.roles
    WHERE held.epoch <= EXCLUDED.epoch AND held.generation <= EXCLUDED.generation;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TN003', MESSAGE = 'a later lease or generation has written this stamp',
            DETAIL = new_home || ' ' || new_epoch;
    END IF;
END
$function$;
REVOKE ALL ON FUNCTION tenantry.attach(uuid, bigint),
    tenantry.write_stamp(uuid, uuid, bigint, text, bigint, name, name[]) FROM PUBLIC;
";
