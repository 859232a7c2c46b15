-- Tenants that fell behind the fleet while no rollout could reach them.

CREATE TABLE straggler (
    tenant       uuid PRIMARY KEY REFERENCES tenant ON DELETE CASCADE,
    attempts     bigint NOT NULL DEFAULT 0,
    error        jsonb,
    due_at       timestamptz NOT NULL DEFAULT now(),
    lease_owner  uuid,
    lease_until  timestamptz,
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
);
COMMENT ON TABLE straggler IS
    'A tenant that was restored behind the promoted set: brought there outside any rollout, because the one that brought the others has ended. Claimed with a lease, as targets are.';
CREATE INDEX straggler_due ON straggler (due_at);
