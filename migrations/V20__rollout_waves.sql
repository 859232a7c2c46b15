-- Rollouts go in waves, and stop where too much fails.

ALTER TABLE rollout
    ADD COLUMN wave            integer NOT NULL DEFAULT 0 CHECK (wave >= 0),
    ADD COLUMN wave_through_at timestamptz,
    ADD COLUMN breaker         integer CHECK (breaker > 0),
    ADD COLUMN streak          jsonb,
    ADD COLUMN stop            jsonb;
COMMENT ON COLUMN rollout.wave IS 'The wave under way. Targets of later waves are not claimed.';
COMMENT ON COLUMN rollout.wave_through_at IS 'Since when the wave under way has nothing left to do: its bake time runs from here.';
COMMENT ON COLUMN rollout.breaker IS 'After how many targets in a row with the same SQLSTATE no more are begun.';
COMMENT ON COLUMN rollout.streak IS 'How often in a row the same SQLSTATE came last.';
COMMENT ON COLUMN rollout.stop IS 'Why no more targets are begun. A retry clears it.';

-- Those that there are took everybody at once and bore any failure.
UPDATE rollout SET waves = '[{"select": "all"}]' WHERE waves = '[]';
ALTER TABLE rollout ALTER COLUMN waves DROP DEFAULT;

-- Where the tenant lived when it became a target: claims are spread over clusters and databases by this.
ALTER TABLE rollout_target ADD COLUMN cluster uuid, ADD COLUMN database_name text;
UPDATE rollout_target AS target SET cluster = home.cluster, database_name = home.database_name
  FROM placement JOIN home ON home.id = placement.home
 WHERE placement.tenant = target.tenant AND placement.until IS NULL;
DROP INDEX rollout_target_open;
CREATE INDEX rollout_target_open ON rollout_target (rollout, cluster, wave, tenant) WHERE state IN ('pending', 'running');
