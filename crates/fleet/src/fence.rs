//! The fence: who may change a home's roles.
//!
//! Each cluster holds one row per home in its admin database, with the epoch of the lease under which it was last changed.
//! Whoever changes roles raises it in the same transaction, so a worker that lost its lease and wakes up late changes
//! nothing. Rows of dropped homes stay, for the same reason.

use tenantry_domain::HomeId;

use crate::quote::literal;

/// Under which lease a home is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The home.
    pub home: HomeId,
    /// The lease's epoch; rises with every change of ownership.
    pub epoch: i64,
}

impl Fence {
    /// The statement that checks and locks the fence; first in a transaction.
    pub(crate) fn raise(&self) -> String {
        format!("SELECT tenantry.raise_fence({}, {});\n", literal(&self.home.to_string()), self.epoch)
    }

    /// Statements in a transaction that checks and locks the fence first, to be sent at once.
    pub(crate) fn guard(&self, statements: &str) -> String {
        format!("BEGIN;\n{}{statements}COMMIT;\n", self.raise())
    }

    /// From the detail of the fence's error.
    pub(crate) fn parse(detail: &str) -> Option<Self> {
        let (home, epoch) = detail.split_once(' ')?;
        Some(Self { home: home.parse().ok()?, epoch: epoch.parse().ok()? })
    }
}

/// Makes the fence in an admin database. Repeatable.
pub(crate) const SETUP: &str = r"
CREATE SCHEMA IF NOT EXISTS tenantry;
REVOKE ALL ON SCHEMA tenantry FROM PUBLIC;
CREATE TABLE IF NOT EXISTS tenantry.fence (home uuid PRIMARY KEY, epoch bigint NOT NULL);
COMMENT ON TABLE tenantry.fence IS 'Per home, the epoch of the lease under which its roles were last changed.';
REVOKE ALL ON TABLE tenantry.fence FROM PUBLIC;
CREATE OR REPLACE FUNCTION tenantry.raise_fence(raised_home uuid, raised_epoch bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $function$
BEGIN
    INSERT INTO tenantry.fence AS held (home, epoch) VALUES (raised_home, raised_epoch)
    ON CONFLICT (home) DO UPDATE SET epoch = EXCLUDED.epoch WHERE held.epoch <= EXCLUDED.epoch;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'TN003', MESSAGE = 'the fence of this home is held by a later epoch',
            DETAIL = raised_home || ' ' || raised_epoch;
    END IF;
END
$function$;
REVOKE ALL ON FUNCTION tenantry.raise_fence(uuid, bigint) FROM PUBLIC;
";
