-- Upkeep that takes no input, and the kinds of work that a whole life of a tenant takes.

ALTER TABLE operation DROP CONSTRAINT operation_kind_check, ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('provision', 'delete', 'suspend', 'resume', 'rotate_credentials', 'adopt', 'prepare_home'));

CREATE TABLE reconciler (
    name         text PRIMARY KEY CHECK (name ~ '^[a-z_]{1,60}$'),
    next_run_at  timestamptz NOT NULL DEFAULT now(),
    is_poked     boolean NOT NULL DEFAULT false,
    lease_owner  uuid,
    lease_until  timestamptz,
    ran_at       timestamptz,
    report       jsonb,
    error        text,
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
);
COMMENT ON TABLE reconciler IS
    'Upkeep by name: when its next pass is due, which replica makes it, and what the last one found. A poke asks for a pass at once; one that comes during a pass leads to another.';
