-- Bringing the fleet to a migration set.

CREATE TABLE rollout (
    id             uuid PRIMARY KEY,
    migration_set  text NOT NULL REFERENCES migration_set,
    state          text NOT NULL DEFAULT 'queued' CHECK (state IN
                       ('queued', 'running', 'paused', 'succeeded', 'failed', 'aborted')),
    waves          jsonb NOT NULL DEFAULT '[]',
    limits         jsonb NOT NULL,
    error_budget   jsonb NOT NULL DEFAULT '{}',
    created_at     timestamptz NOT NULL DEFAULT now(),
    finished_at    timestamptz,
    CHECK ((state IN ('succeeded', 'failed', 'aborted')) = (finished_at IS NOT NULL))
);
COMMENT ON TABLE rollout IS 'One run that brings every live tenant to a set. One is open at a time.';
CREATE UNIQUE INDEX rollout_exclusive ON rollout ((true)) WHERE finished_at IS NULL;

CREATE TABLE rollout_target (
    rollout       uuid NOT NULL REFERENCES rollout,
    tenant        uuid NOT NULL REFERENCES tenant,
    wave          integer NOT NULL DEFAULT 0,
    state         text NOT NULL DEFAULT 'pending' CHECK (state IN
                      ('pending', 'running', 'applied', 'already', 'failed', 'parked', 'skipped')),
    from_version  bigint NOT NULL,
    to_version    bigint,
    attempts      integer NOT NULL DEFAULT 0,
    error         jsonb,
    duration_ms   bigint,
    lease_owner   uuid,
    lease_until   timestamptz,
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rollout, tenant),
    CHECK ((state = 'running') = (lease_owner IS NOT NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL))
);
COMMENT ON TABLE rollout_target IS 'One tenant of a rollout. Claimed with a lease; results are written by its holder only.';
CREATE INDEX rollout_target_open ON rollout_target (rollout, wave, tenant) WHERE state IN ('pending', 'running');
CREATE INDEX rollout_target_by_state ON rollout_target (rollout, state);
