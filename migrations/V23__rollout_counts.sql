-- Tenants that are there already are counted, not listed: with nothing to do, a rollout over 100,000 tenants writes one
-- row. Targets that cannot be migrated now step aside.

ALTER TABLE rollout
    ADD COLUMN already bigint NOT NULL DEFAULT 0 CHECK (already >= 0),
    ADD COLUMN verify  boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN rollout.already IS 'Live tenants that had the version and are no targets, as counted at the beginning and at the end.';
COMMENT ON COLUMN rollout.verify IS 'Every live tenant is a target, whatever the catalog knows: its own history is asked.';
UPDATE rollout SET already = (SELECT count(*) FROM rollout_target AS target
                               WHERE target.rollout = rollout.id AND target.state = 'already' AND target.attempts = 0);
DELETE FROM rollout_target WHERE state = 'already' AND attempts = 0;

ALTER TABLE rollout_target
    ADD COLUMN due_at    timestamptz,
    ADD COLUMN deferrals integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN rollout_target.due_at IS 'When a target that stepped aside, for a lock or a server that is away, is tried again.';
COMMENT ON COLUMN rollout_target.deferrals IS 'How often it has stepped aside since it was last taken up; bounded.';

-- Counts by wave and state without visiting the rows.
DROP INDEX rollout_target_by_state;
CREATE INDEX rollout_target_by_state ON rollout_target (rollout, wave, state);
-- Who is behind, and how the fleet stands by version.
CREATE INDEX tenant_live_by_version ON tenant (schema_version) WHERE status IN ('active', 'suspended', 'moving');
-- What is under way, among a hundred thousand that wait.
CREATE INDEX rollout_target_running ON rollout_target (rollout, cluster, database_name) WHERE state = 'running';
